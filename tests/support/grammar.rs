//! A sync whose every event is checked against the grammar of `settee::replicate::events`.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::ops::{Deref, DerefMut};

use futures::{FutureExt as _, StreamExt as _};
use settee::replicate::{
    ChangeEvent, DeniedEvent, Direction, PauseCause, SyncError, SyncEvent, SyncSummary,
};
use settee::{Sync, SyncState};

/// `[paused] {active {change|denied} paused} [active {change|denied}] (complete|error)`, event by
/// event.
#[derive(Debug, Default)]
pub struct Grammar {
    last_spell: Option<&'static str>,
    ended: bool,
    log: Vec<&'static str>,
}

impl Grammar {
    pub fn take(&mut self, event: &SyncEvent) {
        let word = word(event);
        self.log.push(word);
        assert!(!self.ended, "an event after the last: {:?}", self.log);
        match word {
            "active" | "paused" => {
                assert_ne!(self.last_spell, Some(word), "{:?}", self.log);
                self.last_spell = Some(word);
            }
            "change" | "denied" => assert_eq!(self.last_spell, Some("active"), "{:?}", self.log),
            "complete" | "error" => self.ended = true,
            other => panic!("no such event: {other}"),
        }
    }
}

pub fn word(event: &SyncEvent) -> &'static str {
    match event {
        SyncEvent::Active { .. } => "active",
        SyncEvent::Change(_) => "change",
        SyncEvent::Denied(_) => "denied",
        SyncEvent::Paused { .. } => "paused",
        SyncEvent::Complete(_) => "complete",
        SyncEvent::Error(_) => "error",
        other => panic!("an event that the grammar does not have: {other:?}"),
    }
}

/// What a sync told until its end.
#[derive(Debug)]
pub struct Ended {
    pub changes: Vec<ChangeEvent>,
    pub denied: Vec<DeniedEvent>,
    pub causes: Vec<PauseCause>,
    pub result: Result<SyncSummary, SyncError>,
}

impl Ended {
    pub fn summary(self) -> SyncSummary {
        self.result.expect("the sync completes")
    }

    pub fn error(self) -> SyncError {
        self.result.expect_err("the sync fails")
    }

    /// How often a revision was told as written in a direction.
    pub fn times_written(&self, direction: Direction, id: &str) -> usize {
        let changes = self.changes.iter().filter(|change| change.direction == direction);
        changes.flat_map(|change| &change.docs).filter(|doc| doc.id.as_str() == id).count()
    }
}

/// A sync whose events are all checked: those that are asked for, and the rest at its end.
pub struct Watched {
    sync: Option<Sync>,
    grammar: Grammar,
    changes: Vec<ChangeEvent>,
    denied: Vec<DeniedEvent>,
    causes: Vec<PauseCause>,
}

impl Deref for Watched {
    type Target = Sync;

    fn deref(&self) -> &Sync {
        self.sync.as_ref().expect("there until the end")
    }
}

impl DerefMut for Watched {
    fn deref_mut(&mut self) -> &mut Sync {
        self.sync.as_mut().expect("there until the end")
    }
}

impl Watched {
    pub fn new(sync: Sync) -> Self {
        Self {
            sync: Some(sync),
            grammar: Grammar::default(),
            changes: Vec::new(),
            denied: Vec::new(),
            causes: Vec::new(),
        }
    }

    /// Takes note of an event; gives the last one of all back.
    fn note(&mut self, event: SyncEvent) -> Option<Result<SyncSummary, SyncError>> {
        self.grammar.take(&event);
        match event {
            SyncEvent::Change(change) => self.changes.push(change),
            SyncEvent::Denied(denied) => self.denied.push(denied),
            SyncEvent::Paused { cause } => self.causes.extend(cause),
            SyncEvent::Complete(summary) => return Some(Ok(summary)),
            SyncEvent::Error(error) => return Some(Err(error)),
            _ => {}
        }
        None
    }

    /// Waits for an event of this name.
    pub async fn until(&mut self, wanted: &str) {
        loop {
            let event = self.next().await.expect("the sync goes on");
            let found = word(&event) == wanted;
            assert!(self.note(event).is_none(), "the sync ended before {wanted}");
            if found {
                return;
            }
        }
    }

    /// Waits for the sync to rest for want of a connection or of credentials.
    pub async fn until_paused_with_cause(&mut self) -> PauseCause {
        while self.causes.is_empty() {
            self.until("paused").await;
        }
        self.causes.remove(0)
    }

    /// Reads to the end. Exactly one event is the last. What was read stays noted when the future is
    /// dropped.
    pub async fn until_end(&mut self) -> Result<SyncSummary, SyncError> {
        let result = loop {
            let event = self.next().await.expect("the last event says how it ended");
            if let Some(result) = self.note(event) {
                break result;
            }
        };
        assert!(self.next().await.is_none(), "the stream ends after the last event");
        assert_eq!(self.status().state, SyncState::Ended);
        result
    }

    /// Reads to the end, and tells of all there was.
    pub async fn ended(mut self) -> Ended {
        let result = self.until_end().await;
        self.sync = None;
        Ended {
            changes: std::mem::take(&mut self.changes),
            denied: std::mem::take(&mut self.denied),
            causes: std::mem::take(&mut self.causes),
            result,
        }
    }

    /// Cancels, and reads to the end.
    pub async fn stop(mut self) -> Ended {
        self.cancel().await;
        self.ended().await
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let Some(mut sync) = self.sync.take() else { return };
        while let Some(Some(event)) = sync.next().now_or_never() {
            self.grammar.take(&event);
        }
    }
}
