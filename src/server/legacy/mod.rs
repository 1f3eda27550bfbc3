//! The protocol of 2015 on one connection: gives lines to its [mux](crate::proto::legacy::mux), and
//! runs what the mux asks for.
//!
//! Each channel has one task that asks the authorizer, then takes the channel's calls one after
//! another, as the original does, and watches over the grant; each feed has a task of its own below
//! it. What waits is bounded in bytes: when calls wait that have as many as one message may have,
//! the connection is not read.

mod calls;
mod channel;
mod feed;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_tungstenite::tungstenite::Message;

use crate::doc::DbName;
use crate::proto::legacy::call::{Call, ErrorObject, Request, not_a_call_text, refused_text};
use crate::proto::legacy::lines::{LineError, Lines};
use crate::proto::legacy::mux::{Action, BadRequest, Mux, Number};
use crate::proto::legacy::record::over_text;
use crate::proto::message::CREDENTIALS_BYTES_MAX;

use super::bounds::Held;
use super::error::{CloseReason, Refusal, ToWire as _, bad_request};
use super::observe::Spoken;
use super::outbox::Gone;
use super::socket::{Busy, Protocol, Socket};

/// What a waiting call costs beside its text.
const CALL_COST_BYTES: usize = 1024;

/// One connection that speaks the protocol of 2015.
pub(super) struct Legacy {
    socket: Socket,
    /// Held for moments only, never over an await.
    state: Mutex<State>,
    /// Room for calls that wait.
    backlog: Arc<Semaphore>,
    /// Whether the connection is not read for want of that room: then nobody is told to go on, and
    /// channels that the client paused go on by themselves.
    crowded: watch::Sender<bool>,
    /// Feeds that may be read at a time; one that is live never ends by itself.
    feeds: Arc<Semaphore>,
}

struct State {
    lines: Lines,
    mux: Mux,
    slots: HashMap<Number, Slot>,
}

/// A channel, or the request for one.
struct Slot {
    task: Option<AbortHandle>,
    /// Bounded by the room in the backlog that each call takes with it.
    calls: mpsc::UnboundedSender<WaitingCall>,
    paused: watch::Sender<bool>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A call with what is free again once it is answered.
struct WaitingCall {
    call: Call,
    _room: OwnedSemaphorePermit,
    _busy: Busy,
}

impl Protocol for Legacy {
    const SPOKEN: Spoken = Spoken::Legacy;

    fn new(socket: Socket) -> Self {
        let limits = &socket.shared.limits;
        let backlog = Arc::new(Semaphore::new(backlog_bytes(limits.message_bytes_max)));
        let state = State {
            lines: Lines::new(limits.message_bytes_max),
            mux: Mux::new(limits.channels_per_connection_max),
            slots: HashMap::new(),
        };
        let crowded = watch::Sender::new(false);
        let feeds = Arc::new(Semaphore::new(limits.calls_per_connection_max));
        Self { socket, state: Mutex::new(state), backlog, crowded, feeds }
    }

    fn socket(&self) -> &Socket {
        &self.socket
    }

    async fn take(
        self: &Arc<Self>,
        message: Message,
        // Free again when the message has been taken apart: what waits then has its own bound.
        _held: Held,
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<CloseReason>, Gone> {
        self.lock().lines.push(&message.into_data());
        loop {
            let action = {
                let mut state = self.lock();
                let line = match state.lines.next_line() {
                    Ok(None) => return Ok(None),
                    Ok(Some(line)) if line.is_empty() => continue,
                    Ok(Some(line)) => line,
                    Err(LineError::TooLong) => return Ok(Some(CloseReason::TooLarge)),
                    Err(LineError::NotText) => return Ok(Some(CloseReason::NotText)),
                };
                match state.mux.line(&line) {
                    Ok(Some(action)) => action,
                    Ok(None) => continue,
                    Err(error) => return Ok(Some(CloseReason::Protocol(error))),
                }
            };
            self.act(action, tasks).await?;
        }
    }
}

/// Semaphores count no further.
fn backlog_bytes(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_add(CALL_COST_BYTES).min(u32::MAX as usize)
}

impl Legacy {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, text: String) -> Result<(), Gone> {
        self.socket.outbox.text(text).await
    }

    async fn act(self: &Arc<Self>, action: Action, tasks: &mut JoinSet<()>) -> Result<(), Gone> {
        match action {
            Action::Open { number, stream, request } => {
                self.begin_open(number, stream, request, tasks).await
            }
            Action::Refuse { stream, why } => {
                let error = self.bad_request(why);
                self.socket.link.failed(&error.name);
                self.refuse(&stream, &error).await
            }
            Action::Call { number, call } => {
                self.begin_call(number, call).await;
                Ok(())
            }
            Action::NotACall { number, stream } => {
                drop(self.lock().slots.remove(&number));
                self.send(not_a_call_text(&stream) + &over_text(&stream)).await
            }
            Action::Pause(number) => {
                self.pause(number, true);
                Ok(())
            }
            Action::Resume(number) => {
                self.pause(number, false);
                Ok(())
            }
            Action::Close { number, stream } => {
                drop(self.lock().slots.remove(&number));
                self.send(over_text(&stream)).await
            }
        }
    }

    fn pause(&self, number: Number, pause: bool) {
        if let Some(slot) = self.lock().slots.get(&number) {
            slot.paused.send_replace(pause);
        }
    }

    async fn refuse(&self, stream: &str, error: &ErrorObject) -> Result<(), Gone> {
        self.send(refused_text(stream, error) + &over_text(stream)).await
    }

    fn bad_request(&self, why: BadRequest) -> ErrorObject {
        let max = self.socket.shared.limits.channels_per_connection_max;
        ErrorObject::from(match why {
            BadRequest::TooManyStreams => {
                let refusal = Refusal::TooManyChannels { max };
                self.socket.link.limit_hit(refusal.limit());
                refusal.to_wire()
            }
            BadRequest::Malformed => bad_request("a request must be an object with a database"),
            BadRequest::TooLarge => {
                Refusal::RequestTooLarge { max: CREDENTIALS_BYTES_MAX }.to_wire()
            }
        })
    }

    async fn begin_open(
        self: &Arc<Self>,
        number: Number,
        stream: String,
        request: Request,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), Gone> {
        let name = match DbName::parse(&request.database) {
            Ok(name) => name,
            Err(error) => {
                self.lock().mux.ended(number);
                return self.refuse(&stream, &error.to_wire().into()).await;
            }
        };
        // The original's callback gives a database whether it was there or not.
        let access = self.socket.access_request(request.credentials, name, true);
        let (calls, waiting) = mpsc::unbounded_channel();
        let paused = watch::Sender::new(false);
        let opening = channel::Opening {
            number,
            stream,
            requested: request.database,
            access,
            waiting,
            paused: paused.subscribe(),
        };
        let mut state = self.lock();
        let connection = Arc::clone(self);
        let task = tasks.spawn(async move {
            // An answer that cannot be sent has nobody to go to.
            let _ = channel::keep(&connection, opening).await;
        });
        state.slots.insert(number, Slot { task: Some(task), calls, paused });
        Ok(())
    }

    async fn begin_call(&self, number: Number, call: Call) {
        if *self.socket.shared.stopping.borrow() {
            // An error would end the client's sync; the end of the connection has it come again.
            return;
        }
        let room = self.room(call.bytes).await;
        if let Some(slot) = self.lock().slots.get(&number) {
            // A channel that has just ended takes no calls; the connection is about to end too.
            let _ = slot.calls.send(WaitingCall { call, _room: room, _busy: self.socket.busy() });
        }
    }

    /// Waits until a call of so many bytes may wait.
    async fn room(&self, bytes: usize) -> OwnedSemaphorePermit {
        let max = backlog_bytes(self.socket.shared.limits.message_bytes_max);
        let bytes =
            u32::try_from(bytes.saturating_add(CALL_COST_BYTES).min(max)).unwrap_or(u32::MAX);
        if let Ok(room) = Arc::clone(&self.backlog).try_acquire_many_owned(bytes) {
            return room;
        }
        self.crowded.send_replace(true);
        let room = Arc::clone(&self.backlog).acquire_many_owned(bytes).await;
        self.crowded.send_replace(false);
        room.expect("the backlog is never closed")
    }

    /// Room for one feed more, if there is any.
    fn feeds_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.feeds).try_acquire_owned().ok()
    }
}
