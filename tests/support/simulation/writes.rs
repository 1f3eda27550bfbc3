//! Whatever an application may write, at random.

use std::ops::Range;

use bytes::Bytes;
use serde_json::json;
use settee::doc::{Attachment, RevHash, RevPath};
use settee::store::{DocError, EditMode, GetOptions, Written};
use settee::{Database, DocId, Document, Rev, Store, StoreError};

use super::random::Random;
use super::stage::{Acknowledged, Place, Stage};

/// Documents that everybody writes.
const SHARED_DOCS: usize = 6;

/// Milliseconds between two writes.
const PAUSE_MS: Range<u64> = 50..1_200;

/// Writes to a place's databases until the storm is over.
pub async fn keep_writing(stage: &Stage, place: Place, store: &Store, mut random: Random) {
    while stage.sleeps_in_storm(&mut random, PAUSE_MS).await {
        let name = random.choose(&stage.names);
        let db = stage.database(store, name).await;
        let outcomes = write(&db, &mut random).await;
        for written in outcomes {
            let Written { id, rev, .. } = written;
            stage.acknowledge(Acknowledged { place, database: name.clone(), id, rev });
        }
    }
}

fn shared(random: &mut Random) -> DocId {
    DocId::parse(&format!("doc{}", random.below(SHARED_DOCS)), 100).expect("an id")
}

async fn write(db: &Database, random: &mut Random) -> Vec<Written> {
    let id = shared(random);
    let length = random.of(0..200);
    let body = json!({ "text": random.text(length) });
    let fresh = Document::new(id.as_str(), &body).expect("it parses");
    let found = db.get(&id, &GetOptions { revs: true, ..Default::default() }).await;
    let found = match found {
        Ok(found) => Some(found),
        Err(StoreError::DocMissing { .. } | StoreError::DocDeleted { .. }) => None,
        Err(other) => panic!("{id} cannot be read: {other}"),
    };
    let (documents, mode) = match (random.below(12), found) {
        (0..2, Some(found)) => {
            let rev = found.rev.expect("a read has its revision");
            (vec![Document::tombstone(id, rev)], EditMode::Edit)
        }
        (2..4, found) => {
            let bytes = Bytes::from(random.text(1_000).into_bytes());
            let attachment = Attachment::inline("text/plain", bytes);
            let document = found.unwrap_or(fresh).with_attachment("file", attachment);
            (vec![Document { revisions: None, ..document }], EditMode::Edit)
        }
        (4..6, found) => (vec![branch(fresh, found, random)], EditMode::Replicated),
        (6, _) => {
            let documents = (0..random.of(1..12)).map(|_| {
                let id = format!("own-{}", random.text(8));
                Document::new(&id, &body).expect("it parses")
            });
            (documents.collect(), EditMode::Edit)
        }
        (_, found) => {
            let rev = found.and_then(|found| found.rev);
            (vec![Document { rev, ..fresh }], EditMode::Edit)
        }
    };
    let outcomes = db.bulk_docs(documents, mode).await.expect("the store writes");
    let taken = outcomes.into_iter().filter_map(|outcome| match outcome {
        Ok(written) => Some(written),
        // A sync was faster.
        Err(refused) => match refused.error {
            DocError::Conflict => None,
            other => panic!("{} is refused: {other}", refused.id),
        },
    });
    taken.collect()
}

/// A revision beside the winning one, as another writer would have made it.
fn branch(fresh: Document, found: Option<Document>, random: &mut Random) -> Document {
    let hash = (u128::from(random.next()) << 64 | u128::from(random.next())).to_be_bytes();
    let hash = RevHash::from_digest(hash);
    let older = found.and_then(|found| found.revisions);
    let (start, hashes) = match older {
        Some(path) => {
            let ancestors = path.hashes().iter().skip(1).cloned();
            (path.start(), [hash].into_iter().chain(ancestors).collect())
        }
        None => (1, vec![hash]),
    };
    let path = RevPath::new(start, hashes).expect("a path");
    let rev: Rev = path.leaf();
    Document { rev: Some(rev), revisions: Some(path), ..fresh }
}
