//! Every order of the first steps of two clients and a gateway, with three edits, a crash and a lost
//! connection, tried one by one, and of all steps with less: what was acknowledged stays, a
//! checkpoint never says more than its target has, and replicas whose syncs are up to date are equal.
//!
//! `SETTEE_MODEL_DEPTH` says how many steps are looked ahead, 0 for all there are;
//! `SETTEE_MODEL_EDITS`, `SETTEE_MODEL_CRASHES` and `SETTEE_MODEL_LOSSES` how much may happen.

#[path = "support/random.rs"]
mod random;
#[path = "support/small_model/mod.rs"]
mod small;

use random::setting;
use small::{ACKNOWLEDGED, AGREEMENT, ALL_OF_IT, CHECKPOINTS, Fault, Small};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

fn whole(edits: usize, crashes: usize, losses: usize) -> Small {
    Small { edits, crashes, losses, fault: Fault::None }
}

/// Goes through all states that so many steps reach; 0 for all.
fn go_through(small: Small, steps: usize, end: HasDiscoveries) -> impl Checker<Small> {
    let what = format!("{small:?}");
    // One thread: several meet a state on a longer way first, and leave out what follows it.
    let mut builder = small.checker().threads(1).finish_when(end);
    if steps > 0 {
        // The checker counts states, of which a path has one more than steps.
        builder = builder.target_max_depth(steps + 1);
    }
    let checked = builder.spawn_bfs().join();
    let (states, depth) = (checked.unique_state_count(), checked.max_depth() - 1);
    println!("{what}: {states} states, {depth} steps");
    checked
}

fn assert_holds(checked: &impl Checker<Small>) {
    for property in checked.model().properties() {
        if property.expectation == Expectation::Always
            && let Some(path) = checked.discovery(property.name)
        {
            panic!("{}: {:#?}", property.name, path.into_actions());
        }
    }
}

#[test]
fn nothing_is_lost_in_the_first_steps_of_three_edits_a_crash_and_a_lost_connection() {
    let set = |name, otherwise| setting(name, otherwise) as usize;
    let small = whole(
        set("SETTEE_MODEL_EDITS", 3),
        set("SETTEE_MODEL_CRASHES", 1),
        set("SETTEE_MODEL_LOSSES", 1),
    );
    assert_holds(&go_through(small, set("SETTEE_MODEL_DEPTH", 12), HasDiscoveries::AnyFailures));
}

#[test]
fn two_edits_end_alike_in_every_order() {
    let checked = go_through(whole(2, 0, 0), 0, HasDiscoveries::AnyFailures);
    assert_holds(&checked);
    assert!(checked.discovery(ALL_OF_IT).is_some(), "the model must get as far as that");
}

#[test]
fn an_edit_arrives_whatever_is_lost() {
    let checked = go_through(whole(1, 1, 1), 0, HasDiscoveries::AnyFailures);
    assert_holds(&checked);
}

#[test]
fn every_fault_is_found() {
    let check = |fault, edits, property| {
        let small = Small { fault, ..whole(edits, 1, 0) };
        let checked = go_through(small, 0, HasDiscoveries::AllOf([property].into()));
        assert!(checked.discovery(property).is_some(), "{fault:?} must break: {property}");
    };
    check(Fault::ChecksBeforeWriting, 1, CHECKPOINTS);
    check(Fault::EndsOutOfOrder, 2, CHECKPOINTS);
    check(Fault::LeavesOutALeaf, 2, CHECKPOINTS);
    check(Fault::LeavesOutALeaf, 2, AGREEMENT);
    check(Fault::AcknowledgesEarly, 1, ACKNOWLEDGED);
}
