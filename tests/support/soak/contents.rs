//! Whether all replicas hold the same.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};
use reqwest::Method;
use serde_json::{Map, Value, json};
use settee::store::{BulkGetOptions, ChangesOptions, GetOptions, OpenRev, OpenRevs, Style};
use settee::{Database, DbName, Store};

use super::{DATABASES, ROUNDS_KEPT, Stage, holds_file};

/// What a replica can hold of documents with attachments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    Compared,
    /// The bytes of a revision that does not win may be those of another: PouchDB's replicator asks a
    /// remote database for a document's attachment without saying of which revision.
    Named,
    /// The client of 2015 cannot take such documents.
    LeftOut,
}

impl Files {
    pub fn told(text: &str) -> Self {
        match text {
            "compared" => Self::Compared,
            "named" => Self::Named,
            "left out" => Self::LeftOut,
            other => panic!("{other} says nothing of attachments"),
        }
    }

    /// A document without what is not compared.
    fn of(self, document: Option<&Value>) -> Option<Value> {
        let mut document = document?.clone();
        if self == Self::Named {
            let leaves = document["leaves"].as_object_mut().expect("leaves by revision");
            let files = leaves.values_mut().filter_map(|leaf| leaf["files"].as_object_mut());
            files.flat_map(Map::values_mut).for_each(|digest| *digest = Value::Null);
        }
        Some(document)
    }
}

/// What a database holds.
pub struct Contents {
    /// By document whose round is kept: the winning revision, and each leaf with whether it is
    /// deleted, its text, and its files' digests.
    pub kept: Map<String, Value>,
    /// Older documents that are open.
    pub old: BTreeSet<String>,
}

impl Contents {
    /// As a script tells them.
    pub fn told(replica: &Value) -> Self {
        let kept = replica["all"].as_object().expect("documents by id").clone();
        let old = replica["old"].as_array().expect("a list").iter();
        let old = old.map(|id| id.as_str().expect("an id").to_owned()).collect();
        Self { kept, old }
    }

    /// Of a database in this process.
    pub async fn of(stage: &Stage, store: &Store, name: &str) -> Self {
        let db = store.database(&DbName::parse(name).expect("a name")).await.expect("it is there");
        let options = ChangesOptions { style: Style::AllDocs, ..Default::default() };
        let rows = db.changes(&options).await.expect("changes can be read").rows;
        let mut contents = Self { kept: Map::new(), old: BTreeSet::new() };
        for row in rows.into_iter().filter(|row| !row.id.as_str().starts_with('_')) {
            let winner = db.get(&row.id, &GetOptions::default()).await.ok();
            if stage.age(row.id.as_str()) > ROUNDS_KEPT {
                contents.old.extend(winner.map(|_| row.id.to_string()));
                continue;
            }
            let winner = winner.and_then(|document| document.rev).map(|rev| rev.to_string());
            let shown = shown(winner, leaves(&db, &row.id).await);
            contents.kept.insert(row.id.to_string(), shown);
        }
        contents
    }
}

async fn leaves(db: &Database, id: &settee::DocId) -> Vec<Value> {
    let options = BulkGetOptions { attachments: true, ..Default::default() };
    let leaves = db.open_revs(id, &OpenRevs::All, options).await.expect("leaves can be read");
    let leaves = leaves.into_iter().map(|leaf| match leaf {
        OpenRev::Found(document) => document.to_json(),
        OpenRev::Missing(rev) => panic!("{id} lacks the body of {rev}"),
    });
    leaves.map(|leaf| serde_json::from_str(&leaf).expect("a document is JSON")).collect()
}

fn shown(winner: Option<String>, leaves: Vec<Value>) -> Value {
    let shown = leaves.into_iter().map(|leaf| {
        let rev = leaf["_rev"].as_str().expect("a leaf has its revision").to_owned();
        let deleted = leaf["_deleted"] == true;
        let files = leaf["_attachments"].as_object().cloned().unwrap_or_default();
        let files = files.into_iter().map(|(name, file)| {
            let data = file["data"].as_str().expect("attachments were asked for");
            let data = BASE64_STANDARD.decode(data).expect("it is base64");
            (name, json!(format!("md5-{}", BASE64_STANDARD.encode(Md5::digest(data)))))
        });
        let files: Map<String, Value> = files.collect();
        (rev, json!({"deleted": deleted, "text": leaf["text"], "files": files}))
    });
    let shown: Map<String, Value> = shown.collect();
    json!({"winner": winner, "leaves": shown})
}

/// What the gateway's databases hold.
pub struct Truth {
    kept: BTreeMap<&'static str, Map<String, Value>>,
    /// Every document that the gateway knows of, deleted ones included.
    known: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Truth {
    /// Asks the gateway; an old document that is still open is a reason to wait.
    pub async fn ask(stage: &Stage) -> Result<Self, String> {
        let mut truth = Self { kept: BTreeMap::new(), known: BTreeMap::new() };
        for database in DATABASES {
            let get = async |path: &str| {
                stage.json(Method::GET, path, None).await.expect("the gateway is up in the calm")
            };
            let changes = get(&format!("/{database}/_changes?style=all_docs")).await;
            let rows = changes["results"].as_array().expect("a list of changes");
            let (mut kept, mut known) = (Map::new(), BTreeSet::new());
            for row in rows {
                let id = row["id"].as_str().expect("a document's id");
                if id.starts_with('_') {
                    continue;
                }
                known.insert(id.to_owned());
                let deleted = row["deleted"] == true;
                if stage.age(id) > ROUNDS_KEPT {
                    if !deleted {
                        return Err(format!("{database}/{id} is not deleted yet"));
                    }
                    continue;
                }
                let path = format!("/{database}/{id}");
                let leaves = get(&format!("{path}?open_revs=all&attachments=true")).await;
                let leaves = leaves.as_array().expect("a list of leaves").iter();
                let winner = if deleted { Value::Null } else { get(&path).await["_rev"].clone() };
                let winner = winner.as_str().map(str::to_owned);
                kept.insert(
                    id.to_owned(),
                    shown(winner, leaves.map(|leaf| leaf["ok"].clone()).collect()),
                );
            }
            truth.kept.insert(database, kept);
            truth.known.insert(database, known);
        }
        Ok(truth)
    }

    pub fn documents(&self) -> usize {
        self.kept.values().map(Map::len).sum()
    }

    /// How often there are conflicts: a comparison without any would show little.
    pub fn conflicts(&self) -> usize {
        let branched =
            |doc: &&Value| doc["leaves"].as_object().is_some_and(|leaves| leaves.len() > 1);
        self.kept.values().flat_map(Map::values).filter(branched).count()
    }

    /// What a replica has otherwise. Older documents that it has open are told apart: those that the
    /// gateway knows to be deleted, and those it has forgotten, whose number is returned.
    pub fn compare(&self, database: &str, here: &Contents, files: Files) -> Result<usize, String> {
        let there = &self.kept[database];
        let ids: BTreeSet<&String> = there.keys().chain(here.kept.keys()).collect();
        for id in ids.into_iter().filter(|id| files != Files::LeftOut || !holds_file(id)) {
            let (here, there) = (files.of(here.kept.get(id)), files.of(there.get(id)));
            // A replica that began with nothing is not told of what was deleted before.
            let both_deleted =
                here.is_none() && there.as_ref().is_some_and(|doc| doc["winner"].is_null());
            if here != there && !both_deleted {
                return Err(format!("{database}/{id}: {here:#?}, and the gateway {there:#?}"));
            }
        }
        let mut forgotten = 0;
        for id in &here.old {
            if self.known[database].contains(id) {
                return Err(format!("{database}/{id} is deleted at the gateway only"));
            }
            forgotten += 1;
        }
        Ok(forgotten)
    }
}
