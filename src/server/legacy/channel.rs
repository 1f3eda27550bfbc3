//! One channel: from its request to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
use super::super::error::{CloseReason, ToWire as _, told};
use super::super::opening::unwinding;
use super::super::outbox::Gone;
use super::{Legacy, WaitingCall, calls, feed};

/// Revision trees read at a time.
const TREES_MAX: usize = 128;

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
    pub channel: Arc<Channel>,
    /// The name of its stream.
    stream: String,
    requested: String,
    paused: watch::Receiver<bool>,
    /// Last, so that the channel leaves its database before the end of the connection is told.
    pub connection: Arc<Legacy>,
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
            socket.link.refused(Some(&database), &error);
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

/// Answers that are still to be sent.
#[derive(Default)]
struct Answers {
    text: String,
    /// What they answer: a graceful stop waits for them, and their room is not free yet.
    calls: Vec<WaitingCall>,
}

/// Whether answers that are ready should not wait for a call of this method.
fn is_slow(method: &str) -> bool {
    method == method::BULK_DOCS || method == method::CHANGES
}

/// A call for a revision tree and those that wait right behind it, which a push makes for a whole
/// batch of documents at once; and the first call that is another one.
fn together(
    first: WaitingCall,
    waiting: &mut mpsc::UnboundedReceiver<WaitingCall>,
    max: usize,
) -> (Vec<WaitingCall>, Option<WaitingCall>) {
    let mut calls = vec![first];
    while calls.len() < max {
        match waiting.try_recv() {
            Ok(next) if alike(&calls[0].call, &next.call) => calls.push(next),
            Ok(other) => return (calls, Some(other)),
            Err(_) => break,
        }
    }
    (calls, None)
}

fn alike(a: &Call, b: &Call) -> bool {
    a.method == b.method && a.database == b.database
}

/// A name that no client's stream has.
fn stream_name() -> String {
    let random = crate::store::Uuid::random();
    format!("c{}", random.expect("the system has randomness once it has booted"))
}

impl OpenChannel {
    /// Runs calls one after another. Answers to calls that came together leave together: the client
    /// takes a frame's worth of records at less cost than as many frames.
    async fn take_calls(
        self: &Arc<Self>,
        waiting: &mut mpsc::UnboundedReceiver<WaitingCall>,
    ) -> Result<(), Gone> {
        let mut tasks = JoinSet::new();
        let mut answers = Answers::default();
        let mut next = None;
        loop {
            let call = match next.take().or_else(|| waiting.try_recv().ok()) {
                Some(call) => call,
                None => {
                    self.send_all(&mut answers).await?;
                    let Some(call) = waiting.recv().await else { return Ok(()) };
                    call
                }
            };
            while tasks.try_join_next().is_some() {}
            let method = &*call.call.method;
            if is_slow(method) || answers.text.len() >= self.limits().rows_bytes_target {
                self.send_all(&mut answers).await?;
            }
            if method == method::CHANGES && self.names_this_database(&call.call) {
                feed::begin(self, &call.call, &mut tasks).await?;
            } else if method == method::REVISION_TREE && self.names_this_database(&call.call) {
                let max = self.channel.granted().database.limits().bulk_rows_max.min(TREES_MAX);
                let (calls, other) = together(call, waiting, max);
                next = other;
                let began = Instant::now();
                let found = calls::revision_trees(&self.channel.granted(), &calls).await;
                calls
                    .iter()
                    .for_each(|_| self.connection.socket.link.called(method::REVISION_TREE, began));
                for (call, answer) in calls.into_iter().zip(found) {
                    self.answer(call, answer.map_err(ErrorObject::from), &mut answers);
                }
            } else if calls::writes_checkpoint(&call.call) {
                // Of one direction of a sync; the calls of the other need not wait for the disk.
                let open = Arc::clone(self);
                tasks.spawn(async move {
                    let mut answers = Answers::default();
                    open.run(call, &mut answers).await;
                    // Without a connection there is nobody to tell.
                    let _ = open.send_all(&mut answers).await;
                });
            } else {
                self.run(call, &mut answers).await;
            }
        }
    }

    async fn run(&self, call: WaitingCall, answers: &mut Answers) {
        let began = Instant::now();
        let answer = unwinding(calls::run(self, &call.call)).await;
        let link = &self.connection.socket.link;
        link.called(&call.call.method, began);
        let answer = answer.unwrap_or_else(|panicked| Err(panicked.to_wire().into()));
        if let Err(error) = &answer {
            let (name, reason) = (error.name.clone(), error.message.clone());
            match error.status {
                Some(status) => self.channel.with_grant(|grant| {
                    let error = told(status, name, reason);
                    link.refused(Some(&grant.database), &error);
                }),
                None => link.failed(&name),
            }
        }
        self.answer(call, answer, answers);
    }

    /// Whether a call is for this channel's database: it repeats the name that was asked for, or
    /// says `null`, as PouchDB does from version 6 on.
    pub(super) fn names_this_database(&self, call: &Call) -> bool {
        call.database.as_ref().is_none_or(|name| *name == self.requested)
    }

    fn answer(
        &self,
        waiting: WaitingCall,
        answer: Result<String, ErrorObject>,
        answers: &mut Answers,
    ) {
        let call = &waiting.call;
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
        answers.text.push_str(&text);
        answers.calls.push(waiting);
    }

    async fn send_all(&self, answers: &mut Answers) -> Result<(), Gone> {
        if !answers.text.is_empty() {
            self.send(std::mem::take(&mut answers.text)).await?;
        }
        answers.calls.clear();
        Ok(())
    }

    /// Answers a call at once with nothing, as every `_changes` is.
    pub(super) async fn answer_null(&self, call: &Call) -> Result<(), Gone> {
        self.send(reply_text(&self.stream, &call.seq, "null")).await
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
