//! Changes that do not wake live feeds.
//!
//! A feed gives out every change in order, and a checkpoint behind a change means that it was given
//! out; so none can be passed over. What a quiet change does is to let feeds wait on: one that stands
//! at the end stays there as long as nothing but quiet changes follows, and gives them out together
//! with the first other one. A feed that is opened gives out all that it finds.
//!
//! The hard case is that a commit wakes feeds before its writer learns the numbers of its changes. A
//! feed that wakes while quiet writes are under way waits until those have ended that had begun by
//! then, and looks again. A writer that gives up leaves its changes as loud as any.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use tokio::sync::watch;

use crate::sync::{Mutex, MutexGuard};

/// Changes that are kept quiet in one database; beyond, the oldest wakes the feeds.
const QUIET_MAX: usize = 4_096;

#[derive(Default)]
struct State {
    /// Update seqs of quiet changes.
    numbers: BTreeSet<u64>,
    /// Quiet writes under way, by the order in which they began.
    under_way: BTreeSet<u64>,
    /// How many ever began.
    begun: u64,
}

/// The quiet changes of a database.
pub(super) struct Quiet {
    state: Mutex<State>,
    told: watch::Sender<()>,
}

impl Default for Quiet {
    fn default() -> Self {
        Self { state: Mutex::default(), told: watch::Sender::new(()) }
    }
}

impl Quiet {
    /// Begins a write of which some changes may be quiet.
    pub(super) fn begin(&self) -> QuietWrite<'_> {
        let mut state = self.state();
        state.begun += 1;
        let number = state.begun;
        state.under_way.insert(number);
        QuietWrite { quiet: self, number }
    }

    /// Waits until a feed that stands at `since` is to look for changes; `newest` tells the newest one.
    ///
    /// # Errors
    /// The sender of `newest` is gone.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn let_go(
        &self,
        since: u64,
        newest: &mut watch::Receiver<u64>,
    ) -> Result<(), watch::error::RecvError> {
        let mut told = self.told.subscribe();
        let mut begun = None;
        loop {
            // Before looking: what ends while this looks is looked at again.
            told.mark_unchanged();
            let number = *newest.borrow_and_update();
            if !self.holds(since, number, &mut begun) {
                return Ok(());
            }
            tokio::select! {
                woken = newest.changed() => woken?,
                // The sender lives in `self`, so waiting cannot fail.
                _ = told.changed() => {}
            }
        }
    }

    /// Whether a feed that stands at `since` is to wait on, where `newest` is the newest change.
    ///
    /// `begun` is the reader's, to tell the writes that it has to wait for from later ones.
    fn holds(&self, since: u64, newest: u64, begun: &mut Option<u64>) -> bool {
        if newest <= since {
            return false;
        }
        let state = self.state();
        let quiet = state.numbers.range(since + 1..=newest).count() as u64;
        if quiet == newest - since {
            *begun = None;
            return true;
        }
        let begun = *begun.get_or_insert(state.begun);
        state.under_way.first().is_some_and(|oldest| *oldest <= begun)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A quiet write under way.
pub(super) struct QuietWrite<'a> {
    quiet: &'a Quiet,
    number: u64,
}

impl QuietWrite<'_> {
    /// Says which changes it made that are quiet.
    pub(super) fn made(self, numbers: impl IntoIterator<Item = u64>) {
        let mut state = self.quiet.state();
        state.numbers.extend(numbers);
        while state.numbers.len() > QUIET_MAX {
            state.numbers.pop_first();
        }
    }
}

impl Drop for QuietWrite<'_> {
    fn drop(&mut self) {
        self.quiet.state().under_way.remove(&self.number);
        self.quiet.told.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_is_held_by_quiet_changes_alone() {
        let quiet = Quiet::default();
        quiet.begin().made([5, 6]);
        let holds = |since, newest| quiet.holds(since, newest, &mut None);
        assert!(holds(4, 6));
        assert!(holds(5, 6));
        assert!(!holds(3, 6), "the change 4 is no quiet one");
        assert!(!holds(4, 7), "neither is 7");
        assert!(!holds(6, 6), "there is nothing to hold back");
    }

    #[test]
    fn a_feed_waits_for_the_writes_that_had_begun_and_for_no_later_ones() {
        let quiet = Quiet::default();
        let first = quiet.begin();
        let mut begun = None;
        assert!(quiet.holds(0, 1, &mut begun));
        let second = quiet.begin();
        drop(first);
        assert!(!quiet.holds(0, 1, &mut begun), "the change turned out to be no quiet one");
        drop(second);
    }

    #[test]
    fn no_more_changes_are_kept_quiet_than_are_remembered() {
        let quiet = Quiet::default();
        let most = QUIET_MAX as u64;
        quiet.begin().made(1..=most);
        assert!(quiet.holds(0, most, &mut None));
        quiet.begin().made([most + 1]);
        assert!(!quiet.holds(0, most + 1, &mut None));
    }
}
