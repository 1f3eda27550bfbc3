//! Two clients and a gateway between which every order of steps is tried, for stateright.
//!
//! Revision trees, what is missing, checkpoints, where a run goes on and what is not sent back are
//! the library's own functions; the loop that puts them together is written anew in [`flow`], since
//! the library's is a future, which cannot be copied. Each call to the gateway is one step. With a
//! connection its calls are lost, and one that the gateway has taken may be carried out at any later
//! time.

pub mod flow;
pub mod replica;

use std::sync::Arc;

use settee::doc::Rev;
use stateright::{Model, Property};

use flow::{Ends, Flow, Stage, Way, claims};
use replica::{Doc, Replica, Saved, Tree};

const CLIENTS: usize = 2;
const GATEWAY: usize = CLIENTS;
const DOCS: Doc = 2;
const WAYS: [Way; 2] = [Way::Push, Way::Pull];

/// What the model does wrong, to see that the checker finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// A batch counts as done once it was read.
    ChecksBeforeWriting,
    /// A batch counts as done once it is written, though an earlier one is not.
    EndsOutOfOrder,
    /// Of a document with a conflict the winning revision is sent.
    LeavesOutALeaf,
    /// An edit is acknowledged before it is stored.
    AcknowledgesEarly,
}

/// How much may happen.
#[derive(Debug, Clone)]
pub struct Small {
    pub edits: usize,
    pub crashes: usize,
    pub losses: usize,
    pub fault: Fault,
}

/// A client's memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Client {
    /// How often it began.
    starts: usize,
    flows: [Flow; 2],
    /// What a crash would go back to, where an edit was acknowledged before it was stored.
    unsaved: Option<Arc<Replica>>,
}

/// What a gateway has taken from a connection that is lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Call {
    Write(Doc, Vec<Tree>),
    Checkpoint((usize, Way), Saved),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct State {
    /// The clients' and the gateway's.
    pub replicas: [Arc<Replica>; CLIENTS + 1],
    clients: [Arc<Client>; CLIENTS],
    late: Vec<Call>,
    pub edits: usize,
    pub crashes: usize,
    pub losses: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Put(usize, Doc),
    Delete(usize, Doc, Rev),
    Read(usize, Way),
    Ask(usize, Way, usize),
    Write(usize, Way, usize),
    SaveAtTarget(usize, Way),
    SaveAtSource(usize, Way),
    /// A connection is lost, with a call that the gateway has taken or without.
    Lose(usize, Option<(Way, Option<usize>)>),
    /// The gateway carries out such a call.
    CarryOut(usize),
    /// A client or the gateway ends and begins again with what it had stored.
    Crash(usize),
}

impl State {
    fn to_save(&self, client: usize, way: Way) -> Option<Saved> {
        self.flow(client, way).to_save(client, self.clients[client].starts)
    }

    fn replica(&mut self, place: usize) -> &mut Replica {
        Arc::make_mut(&mut self.replicas[place])
    }

    fn client(&mut self, client: usize) -> &mut Client {
        Arc::make_mut(&mut self.clients[client])
    }

    fn flow(&self, client: usize, way: Way) -> &Flow {
        &self.clients[client].flows[way as usize]
    }

    fn places(client: usize, way: Way) -> (usize, usize) {
        match way {
            Way::Push => (client, GATEWAY),
            Way::Pull => (GATEWAY, client),
        }
    }

    /// Calls a function with a flow and its ends.
    fn with<T>(
        &mut self,
        client: usize,
        way: Way,
        act: impl FnOnce(&mut Flow, &Flow, &Ends) -> T,
    ) -> T {
        let starts = self.clients[client].starts;
        let (source, target) = Self::places(client, way);
        let (source, target) = (&self.replicas[source], &self.replicas[target]);
        let ends = Ends { key: (client, way), starts, source, target };
        let [push, pull] = &mut Arc::make_mut(&mut self.clients[client]).flows;
        match way {
            Way::Push => act(push, pull, &ends),
            Way::Pull => act(pull, push, &ends),
        }
    }

    fn ends<T>(&self, client: usize, way: Way, look: impl FnOnce(&Ends) -> T) -> T {
        let (source, target) = Self::places(client, way);
        let (source, target) = (&self.replicas[source], &self.replicas[target]);
        let starts = self.clients[client].starts;
        look(&Ends { key: (client, way), starts, source, target })
    }

    /// Whether every sync is up to date.
    pub fn rests(&self) -> bool {
        let rests = |client, way| self.ends(client, way, |ends| self.flow(client, way).rests(ends));
        self.late.is_empty()
            && (0..CLIENTS).all(|client| WAYS.iter().all(|&way| rests(client, way)))
    }

    /// Whether a target has everything up to a place of its source.
    fn is_true(&self, client: usize, way: Way, seq: u64) -> bool {
        let (source, target) = Self::places(client, way);
        let target = &self.replicas[target];
        let docs = self.replicas[source].docs.iter();
        let mut before = docs.filter(|(_, (at, _))| *at <= seq);
        before
            .all(|(doc, (_, tree))| tree.0.leaves().iter().all(|leaf| target.has(*doc, &leaf.rev)))
    }

    fn checkpoints_are_true(&self) -> bool {
        let stored = self.replicas.iter().flat_map(|replica| &replica.checkpoints);
        let stored = stored.flat_map(|(key, saved)| claims(&saved.0).map(move |seq| (*key, seq)));
        let remembered = (0..CLIENTS).flat_map(|client| {
            let reached = |way| self.flow(client, way).reached.map(|(seq, _)| ((client, way), seq));
            WAYS.into_iter().filter_map(reached).collect::<Vec<_>>()
        });
        stored.chain(remembered).all(|((client, way), seq)| self.is_true(client, way, seq))
    }

    fn acknowledged_stays(&self) -> bool {
        self.replicas
            .iter()
            .all(|replica| replica.acknowledged.iter().all(|(doc, rev)| replica.has(*doc, rev)))
    }

    fn replicas_agree(&self) -> bool {
        let shown = self.replicas[GATEWAY].shown();
        self.replicas.iter().all(|replica| replica.shown() == shown)
    }

    fn has_conflict(&self) -> bool {
        let docs = &self.replicas[GATEWAY].docs;
        docs.values().any(|(_, tree)| !tree.0.conflicts().is_empty())
    }

    fn edit_actions(&self, actions: &mut Vec<Action>) {
        // Clients and documents are alike, so that the first edit may be that of the first.
        let (clients, docs) = if self.edits == 0 { (1, 1) } else { (CLIENTS, DOCS) };
        for client in 0..clients {
            for doc in 0..docs {
                actions.push(Action::Put(client, doc));
                let leaves = self.replicas[client].tree(doc).leaves().into_iter();
                let open = leaves.filter(|leaf| !leaf.state.deleted);
                actions.extend(open.map(|leaf| Action::Delete(client, doc, leaf.rev)));
            }
        }
    }

    fn flow_actions(&self, client: usize, way: Way, actions: &mut Vec<Action>) {
        let flow = self.flow(client, way);
        if self.ends(client, way, |ends| flow.can_read(ends)) {
            actions.push(Action::Read(client, way));
        }
        let asks = flow.at(Stage::Ask).into_iter();
        actions.extend(asks.map(|index| Action::Ask(client, way, index)));
        let writes = flow.at(Stage::Write).into_iter();
        actions.extend(writes.map(|index| Action::Write(client, way, index)));
        if self.to_save(client, way).is_some() {
            actions.push(Action::SaveAtTarget(client, way));
        }
        if flow.saving().is_some() {
            actions.push(Action::SaveAtSource(client, way));
        }
    }

    fn loss_actions(&self, client: usize, actions: &mut Vec<Action>) {
        actions.push(Action::Lose(client, None));
        let push = self.flow(client, Way::Push);
        let calls = push.at(Stage::Write).into_iter().map(|index| (Way::Push, Some(index)));
        let calls = calls.chain(self.to_save(client, Way::Push).map(|_| (Way::Push, None)));
        let calls = calls.chain(self.flow(client, Way::Pull).saving().map(|_| (Way::Pull, None)));
        actions.extend(calls.map(|call| Action::Lose(client, Some(call))));
    }

    /// A call of a client to the gateway as it waits there.
    fn call(&mut self, client: usize, (way, batch): (Way, Option<usize>)) -> Call {
        let checkpoint = match (way, batch) {
            (Way::Push, Some(index)) => {
                let (doc, paths) =
                    self.with(client, way, |flow, _, ends| flow.send(index, ends.source));
                return Call::Write(doc, paths);
            }
            (Way::Push, None) => self.to_save(client, way),
            (Way::Pull, _) => self.flow(client, way).saving().cloned(),
        };
        Call::Checkpoint((client, way), checkpoint.expect("it is about to be saved"))
    }

    fn carry_out(&mut self, call: Call) {
        match call {
            Call::Write(doc, paths) => self.replica(GATEWAY).write(doc, &paths),
            Call::Checkpoint(key, saved) => {
                self.replica(GATEWAY).checkpoints.insert(key, saved);
            }
        }
    }

    fn edit(&mut self, client: usize, doc: Doc, deleted: Option<&Rev>, fault: Fault) {
        // Neither the first nor the last edit always wins.
        const HASHES: [u8; 5] = [2, 3, 1, 5, 4];
        let hash = HASHES[self.edits];
        self.edits += 1;
        let before = self.replicas[client].clone();
        let winner = before.tree(doc).winner().map(|leaf| leaf.rev);
        let parent = deleted.or(winner.as_ref());
        self.replica(client).edit(doc, parent, hash, deleted.is_some());
        if fault == Fault::AcknowledgesEarly {
            self.client(client).unsaved = Some(before);
        }
    }

    fn crash(&mut self, place: usize) {
        if place == GATEWAY {
            self.late.clear();
            for client in 0..CLIENTS {
                self.client(client).flows.iter_mut().for_each(Flow::lose_connection);
            }
            return;
        }
        if let Some(before) = self.client(place).unsaved.take() {
            let replica = self.replica(place);
            (replica.docs, replica.seq) = (before.docs.clone(), before.seq);
        }
        let starts = self.clients[place].starts + 1;
        *self.client(place) = Client { starts, ..Client::default() };
    }

    fn after(&mut self, action: Action, fault: Fault) {
        match action {
            Action::Put(client, doc) => self.edit(client, doc, None, fault),
            Action::Delete(client, doc, rev) => self.edit(client, doc, Some(&rev), fault),
            Action::Read(client, way) => {
                self.with(client, way, |flow, other, ends| flow.read(ends, other, fault));
            }
            Action::Ask(client, way, index) => {
                self.with(client, way, |flow, _, ends| flow.ask(index, ends, fault));
            }
            Action::Write(client, way, index) => {
                let (doc, paths) =
                    self.with(client, way, |flow, _, ends| flow.send(index, ends.source));
                self.replica(State::places(client, way).1).write(doc, &paths);
                self.with(client, way, |flow, _, _| flow.written(index, fault));
            }
            Action::SaveAtTarget(client, way) => {
                let saved = self.to_save(client, way);
                let saved = saved.expect("a place was reached");
                let target = self.replica(State::places(client, way).1);
                target.checkpoints.insert((client, way), saved.clone());
                self.with(client, way, |flow, _, _| flow.saved_at_target(saved));
            }
            Action::SaveAtSource(client, way) => {
                let saved = self.flow(client, way).saving().cloned().expect("the target has it");
                let source = self.replica(State::places(client, way).0);
                source.checkpoints.insert((client, way), saved);
                self.with(client, way, |flow, _, _| flow.saved_at_source(fault));
            }
            Action::Lose(client, call) => {
                self.losses += 1;
                let call = call.map(|call| self.call(client, call));
                self.late.extend(call);
                self.client(client).flows.iter_mut().for_each(Flow::lose_connection);
            }
            Action::CarryOut(index) => {
                let call = self.late.remove(index);
                self.carry_out(call);
            }
            Action::Crash(place) => {
                self.crashes += 1;
                self.crash(place);
            }
        }
    }
}

impl Model for Small {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.edits < self.edits {
            state.edit_actions(actions);
        }
        for client in 0..CLIENTS {
            for way in WAYS {
                state.flow_actions(client, way, actions);
            }
            if state.losses < self.losses {
                state.loss_actions(client, actions);
            }
        }
        actions.extend((0..state.late.len()).map(Action::CarryOut));
        if state.crashes < self.crashes {
            actions.extend((0..=GATEWAY).map(Action::Crash));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.after(action, self.fault);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ACKNOWLEDGED, |_, state: &State| state.acknowledged_stays()),
            Property::always(CHECKPOINTS, |_, state: &State| state.checkpoints_are_true()),
            Property::always(AGREEMENT, |_, state: &State| {
                !state.rests() || state.replicas_agree()
            }),
            Property::sometimes(ALL_OF_IT, |small, state: &State| {
                let happened = (state.edits, state.crashes, state.losses);
                happened == (small.edits, small.crashes, small.losses)
                    && state.rests()
                    && state.has_conflict()
            }),
        ]
    }
}

pub const ACKNOWLEDGED: &str = "what was acknowledged stays";
pub const CHECKPOINTS: &str = "a checkpoint says no more than the target has";
pub const AGREEMENT: &str = "where all syncs are up to date, all replicas are equal";
pub const ALL_OF_IT: &str = "with all edits and faults behind it, a conflict is everywhere";
