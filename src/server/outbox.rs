//! What waits to be written to one connection, bounded by bytes.
//!
//! A sender waits until its message fits; a message larger than the bound fits when nothing else
//! waits. So the outbox holds at most the bound and one message, however many calls answer at once;
//! and those that make an answer of any size take turns, so that few such answers wait for room.

use std::sync::Arc;

// Unlike tokio's, an empty queue of this kind holds no block of slots: 2 KiB less for each idle
// connection.
use futures::channel::mpsc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::error::CloseReason;

/// Counted for each message beside its bytes, so that many empty ones are bounded as well.
const MESSAGE_COST_BYTES: usize = 64;

/// Answers of any size that a connection makes, or has made and has no room for.
const TURNS: usize = 4;

/// The sending end; clones share it.
#[derive(Clone)]
pub(super) struct Outbox {
    sender: mpsc::UnboundedSender<Outgoing>,
    room: Arc<Semaphore>,
    bytes_max: u32,
    turns: Arc<Semaphore>,
}

/// Tells how much waits in an outbox, and keeps nothing of it alive.
#[derive(Clone)]
pub(super) struct Waiting {
    room: Arc<Semaphore>,
    bytes_max: u32,
}

impl Waiting {
    /// Bytes of messages that the client has not taken; those of the largest as far as the bound.
    pub(super) fn bytes(&self) -> usize {
        (self.bytes_max as usize).saturating_sub(self.room.available_permits())
    }
}

/// What the writer takes from the outbox.
pub(super) enum Outgoing {
    /// A message; its room comes free when it has been written.
    Message(Message, OwnedSemaphorePermit),
    /// The last thing to write.
    Close(CloseReason),
}

/// The connection is gone; whoever was answering may stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl Outbox {
    pub(super) fn new(bytes_max: usize) -> (Self, mpsc::UnboundedReceiver<Outgoing>) {
        let (sender, receiver) = mpsc::unbounded();
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX).max(1);
        let room = Arc::new(Semaphore::new(bytes_max as usize));
        let turns = Arc::new(Semaphore::new(TURNS));
        (Self { sender, room, bytes_max, turns }, receiver)
    }

    pub(super) fn waiting(&self) -> Waiting {
        Waiting { room: Arc::clone(&self.room), bytes_max: self.bytes_max }
    }

    pub(super) async fn text(&self, text: String) -> Result<(), Gone> {
        self.room(text.len()).await?.text(text);
        Ok(())
    }

    /// As [`Outbox::text`], of a text that others share.
    pub(super) async fn shared_text(&self, text: Utf8Bytes) -> Result<(), Gone> {
        self.room(text.len()).await?.put(Message::Text(text));
        Ok(())
    }

    /// Another way to the same connection, with room of its own: what waits there does not take
    /// this one's.
    pub(super) fn lane(&self, bytes_max: usize) -> Self {
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX).max(1);
        let room = Arc::new(Semaphore::new(bytes_max as usize));
        let turns = Arc::clone(&self.turns);
        Self { sender: self.sender.clone(), room, bytes_max, turns }
    }

    pub(super) async fn binary(&self, bytes: bytes::Bytes) -> Result<(), Gone> {
        self.room(bytes.len()).await?.put(Message::Binary(bytes));
        Ok(())
    }

    /// Waits until a message of so many bytes fits.
    pub(super) async fn room(&self, bytes: usize) -> Result<Room, Gone> {
        let bytes = u32::try_from(bytes + MESSAGE_COST_BYTES).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.room).acquire_many_owned(bytes.min(self.bytes_max)).await;
        let permit = permit.map_err(|_| Gone)?;
        if self.sender.is_closed() {
            return Err(Gone);
        }
        Ok(Room { sender: self.sender.clone(), permit })
    }

    /// Waits for a turn to make an answer of any size; it is over when the answer has room.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, Gone> {
        self.turns.acquire().await.map_err(|_| Gone)
    }

    /// Waits until nothing else waits: room for one message of any size.
    pub(super) async fn all_room(&self) -> Result<Room, Gone> {
        self.room(self.bytes_max as usize).await
    }

    /// Ends the connection after what already waits.
    pub(super) fn close(&self, reason: CloseReason) {
        // A connection that is gone needs no closing.
        let _ = self.sender.unbounded_send(Outgoing::Close(reason));
    }
}

/// Room for one message.
pub(super) struct Room {
    sender: mpsc::UnboundedSender<Outgoing>,
    permit: OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn text(self, text: String) {
        self.put(Message::Text(text.into()));
    }

    fn put(self, message: Message) {
        // The connection may end between the two; then nobody waits for the message.
        let _ = self.sender.unbounded_send(Outgoing::Message(message, self.permit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt as _, StreamExt as _};

    #[tokio::test]
    async fn few_answers_of_any_size_are_made_at_a_time() {
        let (outbox, _receiver) = Outbox::new(1_000);
        let lane = outbox.lane(100);
        let mut turns = Vec::new();
        while let Some(turn) = outbox.turn().now_or_never() {
            turns.push(turn.unwrap());
        }
        assert_eq!(turns.len(), TURNS);
        assert!(lane.turn().now_or_never().is_none(), "a lane has no turns of its own");
        turns.pop();
        drop(outbox.turn().now_or_never().expect("one is free again").unwrap());
    }

    #[tokio::test]
    async fn a_full_lane_leaves_the_other_its_room() {
        let (outbox, mut receiver) = Outbox::new(1_000);
        let lane = outbox.lane(100);
        lane.shared_text("x".repeat(200).into()).await.unwrap();
        assert!(lane.all_room().now_or_never().is_none(), "must wait for room");
        outbox.text("document".into()).now_or_never().expect("room of its own").unwrap();
        assert!(matches!(receiver.next().await, Some(Outgoing::Message(..))));
        lane.all_room().now_or_never().expect("the lane is empty").unwrap().text("y".into());
    }

    #[tokio::test]
    async fn holds_the_bound_and_lets_one_large_message_through() {
        let (outbox, mut receiver) = Outbox::new(1_000);
        outbox.text("x".repeat(5_000)).await.unwrap();
        assert!(outbox.text("y".into()).now_or_never().is_none(), "must wait for room");
        let Some(Outgoing::Message(message, room)) = receiver.next().await else { panic!() };
        assert_eq!(message.len(), 5_000);
        drop(room);
        outbox.text("y".into()).await.unwrap();
        drop(receiver);
        assert_eq!(outbox.text("z".into()).await, Err(Gone));
    }
}
