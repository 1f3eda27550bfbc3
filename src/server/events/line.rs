//! What waits for one connection: the newest that fits, and how much was lost before it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::proto::event::EventNotice;
use crate::proto::lossy::LossyQueue;
use crate::proto::message::WireError;

/// One connection as events see it.
pub(super) struct Line {
    pub number: u64,
    /// Held for moments only, never over an await.
    waiting: Mutex<Waiting>,
    ready: Notify,
    /// Told when the identity's end may have moved.
    pub changed: Notify,
}

struct Waiting {
    queue: LossyQueue<Entry>,
    lost: u64,
    /// Channels some of whose presence was lost: their members are told anew.
    stale: BTreeSet<Arc<str>>,
    ended: Option<WireError>,
}

struct Entry {
    text: Utf8Bytes,
    presence_of: Option<Arc<str>>,
}

/// What is to be told next.
pub(super) enum Next {
    Text(Utf8Bytes),
    /// The members of this channel, all of them.
    Members(Arc<str>),
    /// Why there is nothing more, from [`Line::take_end`].
    Ended,
}

impl Line {
    pub(super) fn new(number: u64, queue_bytes_max: usize) -> Self {
        let queue = LossyQueue::new(queue_bytes_max);
        let waiting = Waiting { queue, lost: 0, stale: BTreeSet::new(), ended: None };
        Self { number, waiting: Mutex::new(waiting), ready: Notify::new(), changed: Notify::new() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push_event(&self, text: Utf8Bytes) {
        self.push(Entry { text, presence_of: None });
    }

    pub(super) fn push_presence(&self, channel: &Arc<str>, text: Utf8Bytes) {
        self.push(Entry { text, presence_of: Some(Arc::clone(channel)) });
    }

    fn push(&self, entry: Entry) {
        let mut waiting = self.lock();
        let bytes = entry.text.len();
        for lost in waiting.queue.push(entry, bytes) {
            match lost.presence_of {
                Some(channel) => drop(waiting.stale.insert(channel)),
                None => waiting.lost += 1,
            }
        }
        drop(waiting);
        self.ready.notify_one();
    }

    /// Forgets what waits of a channel's presence: what comes next tells all of it, or nobody here
    /// is interested any more.
    pub(super) fn forget_presence(&self, channel: &str) {
        let mut waiting = self.lock();
        waiting.queue.retain(|entry| entry.presence_of.as_deref() != Some(channel));
        waiting.stale.remove(channel);
    }

    /// Nothing more is for this connection but, if given, why.
    pub(super) fn end(&self, why: Option<WireError>) {
        let mut waiting = self.lock();
        waiting.queue.retain(|_| false);
        waiting.stale.clear();
        waiting.lost = 0;
        waiting.ended = why;
        drop(waiting);
        self.ready.notify_one();
    }

    /// An identity takes the place of one whose end was not yet told.
    pub(super) fn begin(&self) {
        self.lock().ended = None;
        self.changed.notify_one();
    }

    /// Why there is nothing more, unless it was told or another identity came.
    pub(super) fn take_end(&self) -> Option<WireError> {
        self.lock().ended.take()
    }

    /// Waits for what is to be told next. For one caller.
    pub(super) async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.ready.notified().await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut waiting = self.lock();
        if waiting.ended.is_some() {
            return Some(Next::Ended);
        }
        if waiting.lost > 0 {
            let events = std::mem::take(&mut waiting.lost);
            return Some(Next::Text(EventNotice::Lost { events }.encode().into()));
        }
        if let Some(channel) = waiting.stale.pop_first() {
            return Some(Next::Members(channel));
        }
        waiting.queue.pop().map(|entry| Next::Text(entry.text))
    }
}
