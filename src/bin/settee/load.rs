//! `settee load`: documents from JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Write as _, stdin};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use settee::doc::{AnyDocument, ParseError};
use settee::store::EditMode;
use settee::{Database, DocId, Document, Limits, Store};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::input::{self, Item, Place};
use crate::place::PlaceArgs;

/// Documents written at a time, and bytes of their text that are enough for one write.
const BATCH_DOCS: usize = 500;
const BATCH_BYTES: usize = 1024 * 1024;
/// Documents read ahead.
const AHEAD_DOCS: usize = 16;
/// Bad documents that are listed; the others are only counted.
const LISTED_MAX: u64 = 20;

/// Load documents from JSON into a database
///
/// Loads documents from lines of JSON or from a JSON array into a database, which is made if it is
/// not there.
///
/// A document with `_revisions` (as `settee dump` writes them) is stored as the revision it is,
/// with its history, its attachments and its place among conflicts. Any other is an edit: without
/// `_rev` it must be new. A bad document is listed, the others are loaded all the same, and the
/// exit code is then 1.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// What to read; standard input if left out or `-`
    file: Option<PathBuf>,
    /// The member whose value (a string or a number) is the id of a document that has no `_id`; it
    /// stays in the document
    #[arg(long, value_name = "FIELD")]
    id: Option<String>,
    /// The input is one object, and this member of it is the array of documents
    #[arg(long, value_name = "NAME")]
    array: Option<String>,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let place = args.place.place()?;
    let (sender, items) = mpsc::channel(AHEAD_DOCS);
    let array = args.array;
    match args.file.filter(|file| file != Path::new("-")) {
        None => {
            let read = move || input::read(stdin().lock(), array.as_deref(), &sender);
            tokio::task::spawn_blocking(read);
        }
        Some(path) => {
            let file = File::open(&path).map_err(Failure::file("read", &path))?;
            let read = move || input::read(BufReader::new(file), array.as_deref(), &sender);
            tokio::task::spawn_blocking(read);
        }
    }
    let store = Store::open(&place.dir)?;
    let database = store.open_or_create(&place.name).await?;
    let loaded = Loader::new(database, args.id).load(items).await;
    store.close().await?;
    let loaded = loaded?;
    let (written, known, bad) = (loaded.written, loaded.known, loaded.bad);
    let text = format!("loaded {written} documents; {known} were there already; {bad} were bad");
    writeln!(std::io::stdout(), "{text}").map_err(Failure::stdout)?;
    if bad > 0 { Err(Failure::Reported) } else { Ok(()) }
}

struct Loader {
    database: Database,
    limits: Limits,
    id_member: Option<String>,
    batch: Vec<Document>,
    places: Vec<Place>,
    batch_bytes: usize,
    mode: EditMode,
    written: u64,
    known: u64,
    bad: u64,
}

impl Loader {
    fn new(database: Database, id_member: Option<String>) -> Self {
        Self {
            limits: database.limits().clone(),
            database,
            id_member,
            batch: Vec::new(),
            places: Vec::new(),
            batch_bytes: 0,
            mode: EditMode::Edit,
            written: 0,
            known: 0,
            bad: 0,
        }
    }

    async fn load(mut self, mut items: mpsc::Receiver<Item>) -> Result<Self, Failure> {
        while let Some(item) = items.recv().await {
            match item {
                Item::Text(place, text) => match self.parse(&text) {
                    Ok(document) => self.take(place, document, text.len()).await?,
                    Err(problem) => self.refuse(&place.to_string(), &problem),
                },
                Item::Bad(place, problem) => self.refuse(&place.to_string(), &problem),
                Item::OneObject => return Err(Failure::OneObject),
                Item::Broken(problem) => {
                    self.refuse("the input cannot be read further", &problem);
                }
            }
        }
        self.write().await?;
        if self.bad > LISTED_MAX {
            eprintln!("settee: {} more bad documents are not listed", self.bad - LISTED_MAX);
        }
        Ok(self)
    }

    fn parse(&self, text: &str) -> Result<Document, String> {
        let said = |error: ParseError| error.to_string();
        match AnyDocument::parse(text, &self.limits).map_err(said)? {
            AnyDocument::Doc(document) => Ok(document),
            AnyDocument::Local(_) => Err("local documents are not loaded".into()),
            AnyDocument::WithoutId(unnamed) => {
                let Some(member) = &self.id_member else {
                    return Err("it has no _id; name the member that is to be it with --id".into());
                };
                let id = id_of(text, member)?;
                let id = DocId::parse(&id, self.limits.doc_id_bytes_max).map_err(said)?;
                Ok(unnamed.named(id))
            }
        }
    }

    async fn take(
        &mut self,
        place: Place,
        document: Document,
        bytes: usize,
    ) -> Result<(), Failure> {
        let mode = if document.revisions.is_some() { EditMode::Replicated } else { EditMode::Edit };
        if mode != self.mode || self.batch.len() >= BATCH_DOCS || self.batch_bytes >= BATCH_BYTES {
            self.write().await?;
        }
        self.mode = mode;
        self.batch_bytes += bytes;
        self.batch.push(document);
        self.places.push(place);
        Ok(())
    }

    async fn write(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        let places = std::mem::take(&mut self.places);
        self.batch_bytes = 0;
        let outcomes = self.database.bulk_docs(batch, self.mode).await?;
        for (place, outcome) in places.into_iter().zip(outcomes) {
            match outcome {
                Ok(written) if written.seq.is_some() => self.written += 1,
                Ok(_) => self.known += 1,
                Err(refused) => {
                    let what = format!("{place}: document {}", refused.id);
                    self.refuse(&what, &refused.error.to_string());
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, what: &str, problem: &str) {
        self.bad += 1;
        if self.bad <= LISTED_MAX {
            eprintln!("settee: {what}: {problem}");
        }
    }
}

/// The value of a member, as an id.
fn id_of(text: &str, member: &str) -> Result<String, String> {
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    let value = members.get(member).ok_or_else(|| format!("it has no member {member:?}"))?.get();
    match value.as_bytes().first() {
        Some(b'"') => serde_json::from_str(value).map_err(|error| error.to_string()),
        // A number's digits are the id, whatever a float could hold of them.
        Some(b'-' | b'0'..=b'9') => Ok(value.to_owned()),
        _ => Err(format!("its member {member:?} is neither a string nor a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_strings_or_numbers() {
        let id = |text| id_of(text, "k");
        assert_eq!(id(r#"{"k":"a\u0062"}"#).as_deref(), Ok("ab"));
        assert_eq!(id(r#"{"k":12345678901234567890.0}"#).as_deref(), Ok("12345678901234567890.0"));
        for bad in [r#"{"k":null}"#, r#"{"k":[1]}"#, r#"{"l":1}"#] {
            assert!(id(bad).expect_err(bad).contains("\"k\""), "{bad}");
        }
    }
}
