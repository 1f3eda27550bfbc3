//! A body after a patch, after counting operations, or after a merge of two, is a body within its
//! bounds; a merge patch changes nothing the second time.

use settee::Limits;
use settee::doc::{Body, Merge, MergePolicy, Operations, Patch};

fn limits() -> Limits {
    Limits { doc_bytes_max: 10_000, json_members_max: 500, json_depth_max: 30, ..Limits::default() }
}

fn within(body: &Body, limits: &Limits) {
    let again = Body::parse(body.as_str(), limits).expect("what was made must parse");
    assert_eq!(&again, body);
}

// The first two lines are bodies; each other is tried as a patch of every kind.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let limits = limits();
    let mut lines = text.lines();
    let mut body = || Body::parse(lines.next()?, &limits).ok();
    let (Some(body), Some(other)) = (body(), body()) else { return };
    for line in lines.take(6) {
        if let Ok(patch) = Patch::merge(line, &limits)
            && let Ok(after) = patch.apply(&body, &limits)
        {
            within(&after, &limits);
            assert_eq!(patch.apply(&after, &limits).as_ref(), Ok(&after));
        }
        if let Ok(patch) = Patch::operations(line, &limits)
            && let Ok(after) = patch.apply(&body, &limits)
        {
            within(&after, &limits);
        }
        if let Ok(operations) = Operations::parse(line) {
            operate(&operations, &body, &other, &limits);
        }
    }
    let policy = MergePolicy::new().field("c", Merge::Counter).field("s", Merge::Set);
    for policy in [policy.clone(), policy.others_by_winner()] {
        if let Ok(Some(merged)) = policy.merge(&body, &other, &limits) {
            within(&merged, &limits);
        }
    }
}

fn operate(operations: &Operations, body: &Body, other: &Body, limits: &Limits) {
    for others in [&[][..], &[other][..]] {
        if let Ok(Some(after)) = operations.apply(body, others, "writer", limits) {
            within(&after, limits);
        }
    }
}
