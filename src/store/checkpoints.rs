//! Local documents that are checkpoints of replications, as CouchDB, PouchDB and this crate write
//! them: with a `session_id`, a `history`, and the source's seq that was reached.

use serde::Deserialize;
use serde_json::Value;

use super::seq::{Seq, Since};
use crate::doc::Body;

#[derive(Deserialize)]
struct Members {
    #[expect(dead_code, reason = "that it is there tells a checkpoint")]
    session_id: String,
    #[expect(dead_code, reason = "that it is there tells a checkpoint")]
    history: Vec<Value>,
    /// As PouchDB and this crate say it.
    last_seq: Option<Value>,
    /// As CouchDB says it.
    source_last_seq: Option<Value>,
}

/// A checkpoint, as far as a store cares.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checkpoint {
    /// The place at the source, if it names an incarnation as this crate's seqs do.
    pub(super) reached: Option<Seq>,
}

impl Checkpoint {
    /// Reads a local document; `None` if it is no checkpoint.
    pub(super) fn of(body: &Body) -> Option<Self> {
        let members: Members = body.to().ok()?;
        let seq = members.last_seq.or(members.source_last_seq)?;
        let since = seq.as_str().and_then(Since::parse);
        let reached = since.and_then(|since| match since {
            Since::After(seq) => Some(seq),
            Since::Start | Since::Now | Since::Number(_) => None,
        });
        Some(Self { reached })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn checkpoints_of_all_replicators_are_known() {
        let check = |text: &str, reached: Option<Option<u64>>| {
            let body = Body::parse(text, &Limits::default()).expect(text);
            let found = Checkpoint::of(&body).map(|found| found.reached.map(|seq| seq.number));
            assert_eq!(found, reached, "{text}");
        };
        let seq = "17-0707070707070707";
        let pouch = format!(
            r#"{{"last_seq":"{seq}","session_id":"a","version":1,"replicator":"pouchdb","history":[]}}"#
        );
        check(&pouch, Some(Some(17)));
        let couch = format!(
            r#"{{"source_last_seq":"{seq}","session_id":"a","replication_id_version":4,"history":[{{}}]}}"#
        );
        check(&couch, Some(Some(17)));
        check(r#"{"last_seq":42,"session_id":"a","history":[]}"#, Some(None));
        check(r#"{"last_seq":"42-g1AAA","session_id":"a","history":[]}"#, Some(None));
        for other in [
            "{}",
            r#"{"last_seq":1}"#,
            r#"{"session_id":"a","history":[]}"#,
            r#"{"last_seq":1,"session_id":1,"history":[]}"#,
            r#"{"last_seq":1,"session_id":"a","history":{}}"#,
        ] {
            check(other, None);
        }
    }
}
