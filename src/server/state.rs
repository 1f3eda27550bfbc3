//! The channels and calls of one connection, with their tasks. Changed only under its lock.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::AbortHandle;

use crate::doc::DbName;
use crate::proto::message::{CallId, ChannelId};
use crate::proto::session::Session;

use super::calls::CallHandle;
use super::channel::Channel;

pub(super) struct State {
    pub session: Session,
    pub slots: HashMap<ChannelId, Slot>,
    /// Tells apart two channels or calls that had one number after another.
    pub next_number: u64,
    pub calls: usize,
}

pub(super) struct Slot {
    pub number: u64,
    pub requested: DbName,
    /// There once the authorizer has granted it.
    pub channel: Option<Arc<Channel>>,
    pub watcher: Option<AbortHandle>,
    /// Has the newest credentials judged; older ones are of no interest any more.
    pub judging: Option<AbortHandle>,
    pub calls: HashMap<CallId, (u64, CallHandle)>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        for (_, (_, call)) in self.calls.drain() {
            call.abort.abort();
        }
        for task in self.watcher.iter().chain(&self.judging) {
            task.abort();
        }
    }
}

impl State {
    pub(super) fn new(channels_max: usize) -> Self {
        Self {
            session: Session::new(channels_max),
            slots: HashMap::new(),
            next_number: 0,
            calls: 0,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn is_current(&self, channel: ChannelId, number: u64) -> bool {
        self.slots.get(&channel).is_some_and(|slot| slot.number == number)
    }

    /// Forgets a call that has its answer. False if it was cancelled meanwhile.
    pub(super) fn end_call(&mut self, channel: ChannelId, call: CallId, number: u64) -> bool {
        let Some(slot) = self.slots.get_mut(&channel) else { return false };
        if slot.calls.get(&call).is_none_or(|(current, _)| *current != number) {
            return false;
        }
        slot.calls.remove(&call);
        self.calls -= 1;
        self.session.call_ended(channel, call)
    }

    /// Forgets a channel and its calls.
    pub(super) fn drop_slot(&mut self, channel: ChannelId) -> Option<Slot> {
        let slot = self.slots.remove(&channel)?;
        self.calls -= slot.calls.len();
        Some(slot)
    }
}
