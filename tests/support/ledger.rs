//! Writes groups, remembers them, and says whether a database holds each of them whole.
#![allow(dead_code, reason = "each test file uses some of these")]

use serde_json::json;
use settee::store::{EditMode, GetOptions};
use settee::{Database, DocId, Document, Rev};

/// The revisions of a group.
pub type Written = Vec<(DocId, Rev)>;

/// A database in which groups are written.
pub struct Ledger {
    pub db: Database,
    pub groups: Vec<Written>,
    number: u64,
}

fn id(text: &str) -> DocId {
    DocId::parse(text, 1024).expect("a document id")
}

impl Ledger {
    pub fn new(db: Database) -> Self {
        Self { db, groups: Vec::new(), number: 0 }
    }

    async fn edit_of(&mut self, id_text: &str) -> Document {
        self.number += 1;
        let rev = self.db.get(&id(id_text), &GetOptions::default()).await.ok().and_then(|d| d.rev);
        let document = Document::new(id_text, &json!({"n": self.number})).expect("it parses");
        Document { rev, ..document }
    }

    /// Makes or edits documents together.
    pub async fn group(&mut self, ids: &[&str]) {
        let mut documents = Vec::new();
        for one in ids {
            documents.push(self.edit_of(one).await);
        }
        let outcomes = self.db.write_group(documents, EditMode::Edit).await.expect("it is written");
        let written = outcomes.into_iter().map(|outcome| outcome.expect("nobody else writes"));
        self.groups.push(written.map(|one| (one.id, one.rev)).collect());
    }

    /// Makes or edits one document.
    pub async fn edit(&mut self, one: &str) {
        let document = self.edit_of(one).await;
        self.db.put(document).await.expect("nobody else writes");
    }

    pub async fn delete(&mut self, one: &str) {
        let found = self.db.get(&id(one), &GetOptions::default()).await;
        if let Some(rev) = found.ok().and_then(|document| document.rev) {
            self.db.delete(&id(one), rev).await.expect("nobody else writes");
        }
    }

    /// Whether a replica knows all revisions of each group, or none. A document that is deleted
    /// here and was never there counts as known: that is what its deletion amounts to.
    pub async fn assert_whole_in(&self, replica: &Database) {
        for group in &self.groups {
            assert_whole(group, replica, Some(&self.db)).await;
        }
    }
}

pub async fn assert_whole(group: &Written, replica: &Database, source: Option<&Database>) {
    let ids: Vec<DocId> = group.iter().map(|(id, _)| id.clone()).collect();
    let trees = replica.rev_trees(&ids).await.expect("trees are read");
    let mut known = Vec::new();
    for ((id, rev), tree) in group.iter().zip(trees) {
        match (tree, source) {
            (Some(tree), _) => known.push(tree.contains(rev)),
            (None, Some(source)) if source.get(id, &GetOptions::default()).await.is_err() => {}
            (None, _) => known.push(false),
        }
    }
    let whole = known.iter().all(|known| *known) || known.iter().all(|known| !known);
    assert!(whole, "a group is there in part: {group:?}: {known:?}");
}
