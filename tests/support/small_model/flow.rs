//! One direction of a client's sync, in the steps of `src/replicate/flow.rs` and `checkpoints.rs`:
//! changes, what is missing, fetch and write, checkpoint at the target, checkpoint at the source.

use std::collections::BTreeSet;
use std::sync::Arc;

use settee::doc::{DocId, Rev};
use settee::proto::checkpoint::{Checkpoint, Reached, Resumed};
use settee::proto::recent::RecentRevs;

use super::Fault;
use super::replica::{Doc, Replica, Saved, Tree};

/// Batches in flight, of one document each.
const BATCHES_IN_FLIGHT: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    Push,
    Pull,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Batch {
    last_seq: u64,
    doc: Doc,
    leaves: Vec<Rev>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// What is missing is to be asked.
    Ask,
    /// What is missing is known, or all is sent without asking, as with the newest change.
    Write,
    Done,
}

/// What is gone with the connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Run {
    since: u64,
    latest: Saved,
    batches: Vec<Batch>,
    reached: Option<u64>,
    /// The checkpoint that the target has, and the source has not yet.
    saving: Option<Saved>,
    is_saved: bool,
}

/// What is gone with the client's process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Flow {
    run: Option<Run>,
    /// The place that the next connection begins at, and whether this sync has saved a checkpoint.
    pub reached: Option<(u64, bool)>,
    /// Revisions that went by, so that the other direction does not send them back.
    moved: BTreeSet<(Doc, Rev)>,
}

/// The two ends of a flow, and whose it is.
pub struct Ends<'a> {
    pub key: (usize, Way),
    /// How often the client began.
    pub starts: usize,
    pub source: &'a Replica,
    pub target: &'a Replica,
}

impl Flow {
    /// A run as it would begin now.
    fn begun(&self, ends: &Ends) -> Run {
        let at = |replica: &Replica| {
            replica.checkpoints.get(&ends.key).map(|saved| Checkpoint::clone(&saved.0))
        };
        let remembered =
            |(seq, is_saved): (u64, bool)| Reached { last_seq: seq.to_string(), is_saved };
        let before = self.reached.map(remembered);
        let resumed = Resumed::new(
            at(ends.source),
            at(ends.target),
            &session_id(ends.key.0, ends.starts),
            before,
        );
        let is_saved = resumed.before.as_ref().is_some_and(|before| before.is_saved);
        let since = resumed.before.map(|before| before.last_seq).or(resumed.common);
        Run {
            since: since.map_or(0, |since| number(&since)),
            latest: Saved(Arc::new(resumed.latest)),
            batches: Vec::new(),
            reached: None,
            saving: None,
            is_saved,
        }
    }

    pub fn can_read(&self, ends: &Ends) -> bool {
        let newest = ends.source.seq;
        match &self.run {
            Some(run) => run.batches.len() < BATCHES_IN_FLIGHT && run.since < newest,
            None => newest > 0 && self.begun(ends).since < newest,
        }
    }

    /// Begins a run, if there is none, and reads the next change. A run begins with its first read,
    /// since nothing but itself writes the checkpoints that it begins with.
    pub fn read(&mut self, ends: &Ends, other: &Self, fault: Fault) {
        let mut run = self.run.take().unwrap_or_else(|| self.begun(ends));
        let (seq, doc) = ends.source.change_after(run.since).expect("there is one to read");
        let mut leaves: Vec<Rev> =
            ends.source.tree(doc).leaves().into_iter().map(|leaf| leaf.rev).collect();
        if fault == Fault::LeavesOutALeaf {
            leaves.truncate(1);
        }
        let newest = ends.source.change_after(seq).is_none();
        let mut recent = RecentRevs::default();
        other.moved.iter().for_each(|(doc, rev)| recent.insert(&id(*doc), rev));
        let stage = if recent.contains_all(&id(doc), &leaves) {
            Stage::Done
        } else if newest {
            Stage::Write
        } else {
            Stage::Ask
        };
        run.since = seq;
        run.batches.push(Batch { last_seq: seq, doc, leaves, stage });
        self.run = Some(run);
        if fault == Fault::ChecksBeforeWriting {
            self.reach(seq);
        }
        self.settle(fault);
    }

    /// Batches at a stage.
    pub fn at(&self, stage: Stage) -> Vec<usize> {
        let batches = self.run.iter().flat_map(|run| run.batches.iter().enumerate());
        batches.filter(|(_, batch)| batch.stage == stage).map(|(index, _)| index).collect()
    }

    fn batch(&mut self, index: usize) -> &mut Batch {
        &mut self.run.as_mut().expect("a batch is part of a run").batches[index]
    }

    pub fn ask(&mut self, index: usize, ends: &Ends, fault: Fault) {
        let batch = self.batch(index);
        batch.leaves = ends.target.tree(batch.doc).revs_diff(&batch.leaves).missing;
        batch.stage = if batch.leaves.is_empty() { Stage::Done } else { Stage::Write };
        self.settle(fault);
    }

    /// What a batch sends. It counts as gone by from then on, whether it arrives or not.
    pub fn send(&mut self, index: usize, source: &Replica) -> (Doc, Vec<Tree>) {
        let Batch { doc, leaves, .. } = self.batch(index).clone();
        let paths = leaves.iter().map(|rev| source.fetch(doc, rev)).collect();
        self.moved.extend(leaves.into_iter().map(|rev| (doc, rev)));
        (doc, paths)
    }

    pub fn written(&mut self, index: usize, fault: Fault) {
        self.batch(index).stage = Stage::Done;
        self.settle(fault);
    }

    /// Takes batches that are done, in the order in which they were read; not while a checkpoint
    /// is being saved.
    fn settle(&mut self, fault: Fault) {
        while let Some(run) = self.run.as_mut().filter(|run| run.saving.is_none()) {
            let is_done = |batch: &Batch| batch.stage == Stage::Done;
            let done = match fault {
                Fault::EndsOutOfOrder => run.batches.iter().position(is_done),
                _ => run.batches.first().filter(|batch| is_done(batch)).map(|_| 0),
            };
            let Some(index) = done else { return };
            let seq = run.batches.remove(index).last_seq;
            self.reach(seq);
        }
    }

    fn reach(&mut self, seq: u64) {
        let run = self.run.as_mut().expect("a batch is part of a run");
        self.reached = Some((seq, run.is_saved));
        if run.latest.0.last_seq != seq.to_string() {
            run.reached = Some(seq);
        }
    }

    /// The checkpoint that may be written at the target now.
    pub fn to_save(&self, client: usize, starts: usize) -> Option<Saved> {
        let run = self.run.as_ref().filter(|run| run.saving.is_none())?;
        let reached = run.reached?;
        let session_id = session_id(client, starts);
        Some(Saved(Arc::new(run.latest.0.next(&session_id, &reached.to_string()))))
    }

    pub fn saved_at_target(&mut self, saved: Saved) {
        let run = self.run.as_mut().expect("a checkpoint is part of a run");
        (run.reached, run.saving) = (None, Some(saved));
    }

    /// The checkpoint that may be written at the source now.
    pub fn saving(&self) -> Option<&Saved> {
        self.run.as_ref()?.saving.as_ref()
    }

    pub fn saved_at_source(&mut self, fault: Fault) {
        let run = self.run.as_mut().expect("a checkpoint is part of a run");
        run.latest = run.saving.take().expect("the target has it");
        run.is_saved = true;
        self.reached = Some((number(&run.latest.0.last_seq), true));
        self.settle(fault);
    }

    pub fn lose_connection(&mut self) {
        self.run = None;
    }

    /// Whether nothing is left to do until something changes.
    pub fn rests(&self, ends: &Ends) -> bool {
        let idle =
            |run: &Run| run.batches.is_empty() && run.reached.is_none() && run.saving.is_none();
        self.run.as_ref().is_none_or(idle) && !self.can_read(ends)
    }
}

/// Every place up to which a checkpoint says that the target has everything.
pub fn claims(checkpoint: &Checkpoint) -> impl Iterator<Item = u64> {
    let history = checkpoint.history.iter().map(|entry| &entry.last_seq);
    history.chain([&checkpoint.last_seq]).map(|seq| number(seq))
}

fn session_id(client: usize, starts: usize) -> String {
    format!("{client}.{starts}")
}

fn number(seq: &str) -> u64 {
    seq.parse().expect("a seq of the model is a number")
}

fn id(doc: Doc) -> DocId {
    DocId::parse(&doc.to_string(), 10).expect("a number is an id")
}
