//! How a replication resumes: its id, its checkpoint documents, and the newest point they share.
//!
//! The rules are CouchDB's replication protocol, sections "Generate Replication ID" and "Find Common
//! Ancestry" as PouchDB's `pouchdb-checkpointer` applies them: both sides keep the same document under
//! `_local/<replication id>`; a replication resumes at the newest seq that both histories name.

use serde::{Deserialize, Serialize};

use crate::doc::BlobHasher;

/// What one replication is: who gives to whom, and which part.
///
/// Whatever narrows a replication is part of its identity: when it widens, the replication begins
/// anew and leaves no hole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplicationIdentity {
    /// The database that is read; see `Peer::identity`.
    pub source: String,
    /// The database that is written.
    pub target: String,
    /// Only these documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doc_ids: Option<Vec<String>>,
    /// Only what this selector lets pass, as its canonical text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The part of the source that its grant shows, where it does not show all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
}

impl ReplicationIdentity {
    /// The replication id: 32 hex digits. The order of `doc_ids` and repeats among them make no
    /// difference.
    #[must_use]
    pub fn id(&self) -> String {
        let mut same = self.clone();
        if let Some(ids) = &mut same.doc_ids {
            ids.sort_unstable();
            ids.dedup();
        }
        let text = serde_json::to_string(&same).expect("an identity has string keys only");
        let mut digest = BlobHasher::of(text.as_bytes()).key.to_string();
        digest.truncate(32);
        digest
    }
}

/// Entries of a checkpoint's history.
const HISTORY_MAX: usize = 5;

/// The content of a checkpoint document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The run of the replication that wrote it.
    pub session_id: String,
    /// Everything up to this place of the source is durable on the target.
    pub last_seq: String,
    /// The newest entry of each earlier run, newest first.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
    /// The format, 1.
    #[serde(default)]
    pub version: u32,
    /// Who wrote it.
    #[serde(default)]
    pub replicator: String,
}

/// How far one run came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// How far.
    pub last_seq: String,
    /// Which run.
    pub session_id: String,
}

impl Checkpoint {
    /// Whether a run has written to it, as far as it remembers.
    #[must_use]
    pub fn has_run(&self, session_id: &str) -> bool {
        self.session_id == session_id
            || self.history.iter().any(|entry| entry.session_id == session_id)
    }

    /// The next checkpoint of a run, after `self` (of whichever run).
    #[must_use]
    pub fn next(&self, session_id: &str, last_seq: &str) -> Self {
        let entry = HistoryEntry { last_seq: last_seq.into(), session_id: session_id.into() };
        let earlier = self.history.iter().filter(|e| e.session_id != session_id).cloned();
        let history = std::iter::once(entry).chain(earlier).take(HISTORY_MAX).collect();
        Self {
            session_id: session_id.into(),
            last_seq: last_seq.into(),
            history,
            version: 1,
            replicator: "settee".into(),
        }
    }
}

/// The newest place that both sides say was reached, if there is one.
///
/// Histories tell what each run reached on both sides. Where the last runs are the same, so is the
/// place; else the newest run that both know counts, and of its two places the source's, which was
/// written after the target's.
#[must_use]
pub fn common_point(source: Option<&Checkpoint>, target: Option<&Checkpoint>) -> Option<String> {
    let (source, target) = (source?, target?);
    let runs = |checkpoint: &Checkpoint| {
        let own = HistoryEntry {
            last_seq: checkpoint.last_seq.clone(),
            session_id: checkpoint.session_id.clone(),
        };
        std::iter::once(own).chain(checkpoint.history.clone()).collect::<Vec<_>>()
    };
    let at_target = runs(target);
    runs(source)
        .into_iter()
        .find(|entry| at_target.iter().any(|other| other.session_id == entry.session_id))
        .map(|entry| entry.last_seq)
}

/// How far a run came, as its own memory has it between two connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The place of the source.
    pub last_seq: String,
    /// Whether this run has written a checkpoint at both ends.
    pub is_saved: bool,
}

/// Where a run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resumed {
    /// The checkpoint that its next one follows.
    pub latest: Checkpoint,
    /// The place that both sides say was reached.
    pub common: Option<String>,
    /// What the run itself remembers, where that still holds.
    pub before: Option<Reached>,
}

impl Resumed {
    /// Where the run with this session id goes on, with the checkpoints at both ends.
    ///
    /// A database whose checkpoint is gone was made anew, and lacks what it was given before: then
    /// nothing counts that is remembered.
    #[must_use]
    pub fn new(
        source: Option<Checkpoint>,
        target: Option<Checkpoint>,
        session_id: &str,
        before: Option<Reached>,
    ) -> Self {
        let common = common_point(source.as_ref(), target.as_ref());
        let is_known = [&source, &target]
            .iter()
            .all(|at| at.as_ref().is_some_and(|checkpoint| checkpoint.has_run(session_id)));
        let before = before.filter(|before| is_known || !before.is_saved);
        let latest = target.or(source).filter(|_| common.is_some()).unwrap_or_default();
        Self { latest, common, before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> ReplicationIdentity {
        ReplicationIdentity {
            source: "a".into(),
            target: "b".into(),
            doc_ids: None,
            selector: None,
            view: None,
        }
    }

    #[test]
    fn the_id_depends_on_everything_that_narrows() {
        let with_ids = |ids: &[&str]| ReplicationIdentity {
            doc_ids: Some(ids.iter().map(|id| (*id).to_owned()).collect()),
            ..identity()
        };
        let ids = [
            identity().id(),
            ReplicationIdentity { source: "b".into(), target: "a".into(), ..identity() }.id(),
            with_ids(&[]).id(),
            with_ids(&["x"]).id(),
            ReplicationIdentity { selector: Some("v".into()), ..identity() }.id(),
            ReplicationIdentity { view: Some("v".into()), ..identity() }.id(),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[index + 1..].contains(id));
            assert_eq!(id.len(), 32);
        }
        assert_eq!(with_ids(&["x", "y", "x"]).id(), with_ids(&["y", "x"]).id());
    }

    #[test]
    fn a_run_is_known_by_the_last_session_and_by_the_history() {
        let checkpoint = Checkpoint::default().next("run1", "10").next("run2", "20");
        for (session, known) in [("run1", true), ("run2", true), ("run3", false)] {
            assert_eq!(checkpoint.has_run(session), known, "{session}");
        }
        let without_history = Checkpoint { history: Vec::new(), ..checkpoint };
        assert!(without_history.has_run("run2") && !without_history.has_run("run1"));
    }

    #[test]
    fn resumes_at_the_newest_common_run() {
        let first = Checkpoint::default().next("run1", "10");
        let second = first.next("run2", "20");
        let third = second.next("run3", "30");
        let check =
            |source: Option<&Checkpoint>, target: Option<&Checkpoint>, expected: Option<&str>| {
                assert_eq!(common_point(source, target).as_deref(), expected);
            };
        check(None, None, None);
        check(Some(&first), None, None);
        check(None, Some(&first), None);
        check(Some(&second), Some(&second), Some("20"));
        // The target's last write did not reach the source, or the other way round.
        check(Some(&second), Some(&third), Some("20"));
        check(Some(&third), Some(&second), Some("20"));
        // Histories that share nothing.
        check(Some(&first), Some(&Checkpoint::default().next("other", "99")), None);
    }

    #[test]
    fn what_a_run_remembers_counts_while_both_ends_know_it() {
        let saved = Checkpoint::default().next("run", "10");
        let reached = |is_saved| Some(Reached { last_seq: "20".into(), is_saved });
        let check = |source: Option<&Checkpoint>, is_saved: bool, counts: bool| {
            let (source, target) = (source.cloned(), Some(saved.clone()));
            let resumed = Resumed::new(source.clone(), target, "run", reached(is_saved));
            assert_eq!(resumed.before, reached(is_saved).filter(|_| counts));
            assert_eq!(resumed.common.is_some(), source.is_some());
            assert_eq!(resumed.latest == saved, source.is_some());
        };
        check(Some(&saved), true, true);
        check(None, true, false);
        check(None, false, true);
    }

    #[test]
    fn one_run_has_one_entry_and_history_is_bounded() {
        let mut checkpoint = Checkpoint::default();
        for run in 0..20 {
            for step in 0..3 {
                checkpoint = checkpoint.next(&format!("run{run}"), &format!("{run}{step}"));
            }
        }
        assert_eq!(checkpoint.history.len(), HISTORY_MAX);
        assert_eq!(checkpoint.history[0].last_seq, "192");
        assert_eq!(checkpoint.history[1].session_id, "run18");
    }
}
