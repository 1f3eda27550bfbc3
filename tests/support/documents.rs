use settee::store::{EditMode, GetOptions, WriteOutcome};
use settee::{Database, DbName, DocId, Document, Limits, Rev, Store};

pub fn id(text: &str) -> DocId {
    DocId::parse(text, 1024).expect("a document id")
}

pub fn rev(text: &str) -> Rev {
    Rev::parse(text).expect("a revision")
}

pub fn revs(texts: &[&str]) -> Vec<Rev> {
    texts.iter().map(|text| rev(text)).collect()
}

pub fn parse(json: &str) -> Document {
    Document::parse(json, &Limits::default()).expect("a document")
}

/// A revision with its history, newest first: `["2-b", "1-a"]`.
pub fn replicated(id: &str, path: &[&str], deleted: bool) -> Document {
    let start = rev(path[0]).generation();
    let hashes: Vec<String> = path.iter().map(|r| format!("{}", rev(r).hash())).collect();
    let json = serde_json::json!({
        "_id": id,
        "_rev": path[0],
        "_revisions": {"start": start, "ids": hashes},
        "_deleted": deleted,
        "is": path[0],
    });
    parse(&json.to_string())
}

pub async fn database(store: &Store) -> Database {
    store.open_or_create(&DbName::parse("tests").expect("a name")).await.expect("it opens")
}

pub async fn replicate(db: &Database, documents: Vec<Document>) -> Vec<WriteOutcome> {
    db.bulk_docs(documents, EditMode::Replicated).await.expect("the write as a whole succeeds")
}

pub async fn replicate_one(db: &Database, path: &[&str]) -> WriteOutcome {
    replicate(db, vec![replicated("doc", path, false)]).await.remove(0)
}

/// The leaves of a document, the winning one first, as `_rev` texts; `x` marks tombstones.
pub async fn leaves(db: &Database, id: &DocId) -> Vec<String> {
    use settee::store::{BulkGetOptions, OpenRev, OpenRevs};
    let found = db.open_revs(id, &OpenRevs::All, BulkGetOptions::default()).await;
    let shown = |found| match found {
        OpenRev::Found(doc) => {
            let mark = if doc.deleted { "x" } else { "" };
            format!("{}{mark}", doc.rev.expect("a read has its revision"))
        }
        OpenRev::Missing(rev) => format!("{rev} is missing"),
    };
    found.expect("the document is there").into_iter().map(shown).collect()
}

/// The history of a revision, newest first.
pub async fn history(db: &Database, id: &DocId, of: &str) -> Vec<String> {
    let options = GetOptions { rev: Some(rev(of)), revs: true, ..GetOptions::default() };
    let document = db.get(id, &options).await.expect("the revision is there");
    let path = document.revisions.expect("_revisions was asked for");
    path.revs().map(|rev| rev.to_string()).collect()
}

pub async fn update_seq(db: &Database) -> u64 {
    db.info().await.expect("a database tells of itself").update_seq.number
}

pub async fn assert_sound(db: &Database) {
    let report = db.check().await.expect("a database can be checked");
    assert_eq!(report.problems, [], "{}", db.name());
}
