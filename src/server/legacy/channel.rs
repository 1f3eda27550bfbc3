//! One channel: from its request to its end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::limits::Limits;
use crate::proto::legacy::call::{Call, ErrorObject, event_text, failure_text, method, reply_text};
use crate::proto::legacy::mux::Number;
use crate::proto::legacy::record::granted_text;
use crate::store::StoreError;

use super::super::auth::AccessRequest;
use super::super::channel::Channel;
use super::super::error::{CloseReason, ToWire as _};
use super::super::outbox::Gone;
use super::super::socket::unwinding;
use super::{Legacy, WaitingCall, calls, feed};

/// A request for a database.
pub(super) struct Opening {
    pub number: Number,
    /// The stream it came on.
    pub stream: String,
    /// The name that the client's calls will repeat.
    pub requested: String,
    pub access: AccessRequest,
    pub waiting: mpsc::UnboundedReceiver<WaitingCall>,
    pub paused: watch::Receiver<bool>,
}

/// A granted channel, as its calls and feeds see it.
pub(super) struct OpenChannel {
    pub connection: Arc<Legacy>,
    pub channel: Arc<Channel>,
    /// The name of its stream.
    stream: String,
    requested: String,
    paused: watch::Receiver<bool>,
}

/// Opens a channel and stays with it until it ends.
pub(super) async fn keep(connection: &Arc<Legacy>, opening: Opening) -> Result<(), Gone> {
    let socket = &connection.socket;
    let Opening { number, stream, requested, access, mut waiting, paused } = opening;
    let database = access.database.clone();
    let revocations = socket.shared.revocations();
    let channel = match socket.open(number, access.clone()).await {
        Ok(channel) => channel,
        Err(error) => {
            tracing::info!(%database, status = error.status, reason = %error.reason, "channel refused");
            let ours = {
                let mut state = connection.lock();
                // The task is this very one: it must not be aborted before it has told the client.
                if let Some(mut slot) = state.slots.remove(&number) {
                    slot.task = None;
                }
                state.mux.ended(number)
            };
            if ours {
                connection.refuse(&stream, &error.into()).await?;
            }
            return Ok(());
        }
    };
    let name = stream_name();
    if !connection.lock().mux.granted(number, name.clone()) {
        return Ok(());
    }
    let _enlisted = socket.enlist(&channel, access, revocations).await;
    tracing::info!(%database, "channel opened");
    connection.send(granted_text(&stream, &name)).await?;
    let granted = Arc::new(OpenChannel {
        connection: Arc::clone(connection),
        channel,
        stream: name,
        requested,
        paused,
    });
    let check = Duration::from_millis(socket.shared.limits.grant_check_interval_ms);
    tokio::select! {
        error = granted.channel.until_ended(check) => {
            tracing::info!(%database, ?error, "channel ended");
            // A client does not notice the end of a single channel, and its sync would hang.
            socket.end(CloseReason::ChannelEnded(error));
            Ok(())
        }
        gone = granted.take_calls(&mut waiting) => gone,
    }
}

/// A name that no client's stream has.
fn stream_name() -> String {
    let random = crate::store::Uuid::random();
    format!("c{}", random.expect("the system has randomness once it has booted"))
}

impl OpenChannel {
    async fn take_calls(
        self: &Arc<Self>,
        waiting: &mut mpsc::UnboundedReceiver<WaitingCall>,
    ) -> Result<(), Gone> {
        let mut feeds = JoinSet::new();
        while let Some(WaitingCall { call, .. }) = waiting.recv().await {
            while feeds.try_join_next().is_some() {}
            if call.method == method::CHANGES && self.names_this_database(&call) {
                feed::begin(self, &call, &mut feeds).await?;
                continue;
            }
            let answer = unwinding(calls::run(self, &call)).await;
            let answer = answer.unwrap_or_else(|panicked| Err(panicked.to_wire().into()));
            self.answer(&call, answer).await?;
        }
        Ok(())
    }

    /// Whether a call is for this channel's database: it repeats the name that was asked for, or
    /// says `null`, as PouchDB does from version 6 on.
    pub(super) fn names_this_database(&self, call: &Call) -> bool {
        call.database.as_ref().is_none_or(|name| *name == self.requested)
    }

    async fn answer(&self, call: &Call, answer: Result<String, ErrorObject>) -> Result<(), Gone> {
        let bytes_max = self.limits().message_bytes_max;
        let text = match answer {
            Ok(result) if result.len() > bytes_max.saturating_mul(2) => {
                let (count, max) = (result.len() as u64, bytes_max as u64 * 2);
                let error = StoreError::TooLarge { what: "bytes of an answer", count, max };
                failure_text(&self.stream, &call.seq, &error.to_wire().into())
            }
            Ok(result) => reply_text(&self.stream, &call.seq, &result),
            Err(error) => failure_text(&self.stream, &call.seq, &error),
        };
        self.send(text).await
    }

    /// Answers a call at once with nothing, as every `_changes` is.
    pub(super) async fn answer_null(&self, call: &Call) -> Result<(), Gone> {
        self.answer(call, Ok("null".into())).await
    }

    /// An event's record.
    pub(super) fn event(&self, event: &str, listener: &RawValue, payload: &str) -> String {
        event_text(&self.stream, event, listener, payload)
    }

    /// Sends records when the client takes some of this channel.
    pub(super) async fn send(&self, text: String) -> Result<(), Gone> {
        self.until_wanted().await;
        self.connection.send(text).await
    }

    /// Waits while the client has paused the channel.
    ///
    /// While the connection is not read, the client's word to go on could not be seen, and a pause
    /// is a hint about its buffers: then this does not wait.
    async fn until_wanted(&self) {
        if !*self.paused.borrow() {
            return;
        }
        let (mut paused, mut crowded) = (self.paused.clone(), self.connection.crowded.subscribe());
        tokio::select! {
            // Without a sender the channel is over, and so is this task.
            _ = paused.wait_for(|paused| !paused) => {}
            _ = crowded.wait_for(|crowded| *crowded) => {}
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.connection.socket.shared.limits
    }

    /// Waits until something could be sent: what is read for a client that takes nothing would only
    /// wait.
    pub(super) async fn until_room(&self) -> Result<(), Gone> {
        self.until_wanted().await;
        self.connection.socket.outbox.room(0).await.map(drop)
    }
}
