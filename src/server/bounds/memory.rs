//! How much JSON all connections together may have in memory.
//!
//! What has no room is refused at once and not made to wait: those that wait with a part of what
//! they need could keep each other from the rest for ever.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::Limits;
use crate::server::error::TooMuch;

/// Room is taken in pieces of this size, and the first of each body or message is free: small ones
/// pass however large the others are.
const PIECE_BYTES: usize = 64 * 1024;

/// The room of a gateway.
#[derive(Clone)]
pub(in crate::server) struct Memory {
    room: Arc<Semaphore>,
}

/// Room that is taken; free again when dropped.
#[derive(Default)]
pub(in crate::server) struct Held {
    pieces: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory(…)")
    }
}

impl Memory {
    pub(in crate::server) fn new(limits: &Limits) -> Self {
        let pieces = limits.json_bytes_in_memory_max / PIECE_BYTES;
        Self { room: Arc::new(Semaphore::new(pieces.clamp(1, Semaphore::MAX_PERMITS))) }
    }

    /// Makes what is held enough for so many bytes.
    pub(in crate::server) fn grow(&self, held: &mut Held, bytes: usize) -> Result<(), TooMuch> {
        let pieces = bytes.saturating_sub(1) / PIECE_BYTES;
        let more = pieces.saturating_sub(held.pieces);
        if more == 0 {
            return Ok(());
        }
        let count = u32::try_from(more).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.room).try_acquire_many_owned(count);
        let permit = permit.map_err(|_| TooMuch::Memory)?;
        held.pieces = pieces;
        match &mut held.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }
}

/// The room for the message that is coming on one WebSocket.
pub(in crate::server) struct Intake {
    memory: Memory,
    coming: Mutex<Coming>,
}

#[derive(Default)]
struct Coming {
    bytes: usize,
    held: Held,
}

impl Intake {
    pub(in crate::server) fn new(memory: Memory) -> Self {
        Self { memory, coming: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Coming> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts bytes that have come.
    ///
    /// # Errors
    /// `OutOfMemory` if there is no room for them.
    pub(in crate::server) fn came(&self, bytes: usize) -> io::Result<()> {
        let mut coming = self.lock();
        coming.bytes = coming.bytes.saturating_add(bytes);
        let Coming { bytes, held } = &mut *coming;
        let grown = self.memory.grow(held, *bytes);
        grown.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))
    }

    /// Says that a ping or pong of so many bytes has come, which is kept nowhere.
    pub(in crate::server) fn passed(&self, bytes: usize) {
        // A client's frame begins with two bytes and its mask.
        const HEAD_BYTES: usize = 6;
        let mut coming = self.lock();
        coming.bytes = coming.bytes.saturating_sub(bytes + HEAD_BYTES);
    }

    /// The room of a message that has come; the next begins.
    pub(in crate::server) fn take(&self) -> Held {
        std::mem::take(&mut *self.lock()).held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(pieces: usize) -> Memory {
        let json_bytes_in_memory_max = pieces * PIECE_BYTES;
        Memory::new(&Limits { json_bytes_in_memory_max, ..Limits::default() })
    }

    #[test]
    fn the_bound_is_for_all_and_small_bodies_pass() {
        let memory = memory(10);
        let (mut first, mut second, mut small) =
            (Held::default(), Held::default(), Held::default());
        memory.grow(&mut first, 7 * PIECE_BYTES).unwrap();
        memory.grow(&mut first, 7 * PIECE_BYTES).unwrap();
        memory.grow(&mut second, 5 * PIECE_BYTES).unwrap();
        assert_eq!(memory.grow(&mut second, 5 * PIECE_BYTES + 1), Err(TooMuch::Memory));
        memory.grow(&mut small, PIECE_BYTES).unwrap();
        drop(first);
        memory.grow(&mut second, 11 * PIECE_BYTES).unwrap();
        assert!(memory.grow(&mut small, PIECE_BYTES + 1).is_err());
        drop(second);
        memory.grow(&mut small, 11 * PIECE_BYTES).unwrap();
    }

    #[test]
    fn a_message_keeps_its_room_and_the_next_begins_anew() {
        let intake = Intake::new(memory(2));
        intake.came(PIECE_BYTES).unwrap();
        intake.came(2 * PIECE_BYTES).unwrap();
        let first = intake.take();
        intake.came(PIECE_BYTES).unwrap();
        assert_eq!(intake.came(1).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        drop(first);
        intake.came(0).unwrap();
    }
}
