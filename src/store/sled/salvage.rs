//! Opening what is left of a damaged data directory, as a copy.
//!
//! [`super::log`] refuses a log that is broken below what it says was on disk, and [`super::mark`] a
//! store that lacks groups which were acknowledged. Here neither is asked: sled takes the first
//! broken message for the end of its log and gives what came before. The copy is for reading, and then
//! to be removed: what is missing in it must not be overlooked later.

use std::fs;
use std::io;
use std::path::Path;

use super::lock::{LOCK_FILE, lock};
use super::open::{self, Log, SLED_DIR, doing};
use super::{Opened, SledOptions, blobs_dir, log, mark, rewrite};
use crate::store::error::StoreError;
use crate::store::keys;

/// How far what is left goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reaches {
    /// The last group of writes that is there.
    pub(crate) group: u64,
    /// The last one that was acknowledged, where that is known.
    pub(crate) acknowledged: Option<u64>,
    /// What is wrong with sled's log: something of any group may be missing then.
    pub(crate) log_damage: Option<String>,
}

/// Opens a copy of a damaged directory, which stays as it is and must not be in use.
pub(super) fn open_copy(
    from: &Path,
    copy: &Path,
    options: &SledOptions,
) -> Result<((Opened, open::DataFile, mark::Mark), Reaches), StoreError> {
    open::check_finished(from)?;
    let _from = lock(from)?;
    let log_damage = match log::check(&from.join(SLED_DIR), open::last_opening(from)) {
        Err(StoreError::Damaged { what }) => Some(what),
        looked => looked.map(|()| None)?,
    };
    let (opened, log_damage) = match copy_and_open(from, copy, Log::AsItIs, options) {
        Ok(opened) => (opened, log_damage),
        Err(first) => {
            let opened = copy_and_open(from, copy, Log::WithoutSnapshots, options);
            // The log before the snapshot was not looked over.
            let damage = log_damage.unwrap_or_else(|| first.to_string());
            (opened.map_err(|_| first)?, Some(damage))
        }
    };
    let uuid = open::read_uuid(&opened.0.db)?;
    let made = fs::read(from.join(LOCK_FILE)).map_err(doing("read the lock file"))?;
    let is_empty = opened.0.db.range(keys::names_after(None)).next().is_none();
    if is_empty && !made.is_empty() && made != uuid.to_string().as_bytes() {
        // sled found nothing, and a new store was made. With databases it is `lock` that is damaged.
        return Err(StoreError::Damaged {
            what: format!("nothing can be read of the files in {}", from.join(SLED_DIR).display()),
        });
    }
    let reaches =
        Reaches { group: opened.2.reached(), acknowledged: mark::told(from, uuid), log_damage };
    Ok((opened, reaches))
}

fn copy_and_open(
    from: &Path,
    copy: &Path,
    log: Log,
    options: &SledOptions,
) -> Result<(Opened, open::DataFile, mark::Mark), StoreError> {
    // Without what `lock` and `mark` say, as if it had never been opened to the end.
    copy_parts(from, copy).map_err(doing("copy the damaged data directory"))?;
    let lock = lock(copy)?;
    open::open_anyway(copy, lock, options, log)
}

fn copy_parts(from: &Path, copy: &Path) -> io::Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    fs::create_dir(copy)?;
    for name in [SLED_DIR, rewrite::OLD_DIR, rewrite::NEW_DIR] {
        copy_dir(&from.join(name), &copy.join(name), |from, to| fs::copy(from, to).map(drop))?;
    }
    // Attachments are never changed, only removed: a second name does, where the disk has them.
    copy_dir(&blobs_dir(from), &blobs_dir(copy), |from, to| {
        fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
    })
}

/// Copies a directory, if it is there.
fn copy_dir(
    from: &Path,
    to: &Path,
    copy: impl Fn(&Path, &Path) -> io::Result<()> + Copy,
) -> io::Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_dir(&from, &to, copy)?;
        } else {
            copy(&from, &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::value::Writes;
    use super::*;
    use crate::doc::{Document, Rev};
    use crate::store::backend::DatabaseKey;
    use crate::store::{Salvaged, SalvagedDatabase, Store};

    const DOCS: u64 = 300;
    /// The document at this place is what is damaged, in the middle of a page.
    const PLACE: u64 = 150;

    struct Made {
        key: DatabaseKey,
        rev: Rev,
    }

    /// A store with one document whose body is long, and many others.
    async fn make(path: &Path) -> Made {
        let store = Store::open(path).expect("it is made");
        let name = crate::DbName::parse("todos").expect("a name");
        let db = store.create(&name).await.expect("it is made");
        let mut rev = None;
        for number in 1..=DOCS {
            let text = "x".repeat(if number == PLACE { 20_000 } else { 10 });
            let doc = Document::new(&format!("d{number:03}"), &json!({ "text": text }));
            let written = db.put(doc.expect("a document")).await.expect("it is written");
            if number == PLACE {
                rev = Some(written.rev);
            }
        }
        let key = db.key();
        drop(db);
        store.close().await.expect("it closes");
        Made { key, rev: rev.expect("it was written") }
    }

    /// Salvages a store in which a row is missing, or is of no sense.
    async fn salvage(row: impl FnOnce(&Made) -> Vec<u8>, value: Option<&[u8]>) -> Salvaged {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (data, new) = (directory.path().join("data"), directory.path().join("new"));
        let made = make(&data).await;
        let (opened, file, _) = open::open(&data, &SledOptions::default()).expect("it opens");
        let (row, mut writes) = (row(&made), Writes::default());
        assert!(opened.db.contains_key(&row).expect("it is read"), "there is such a row");
        match value {
            Some(value) => writes.insert(&row, value),
            None => writes.remove(&row),
        }
        writes.apply(&opened.db).expect("it is damaged");
        file.flush(&opened.db).expect("it is on disk");
        opened.close(&data).expect("it closes");
        let salvaged = Store::salvage(&data, &new).await.expect("something can be read");
        let store = Store::open(&new).expect("what was salvaged opens");
        let db = store.database(&salvaged.databases[0].name).await.expect("it is there");
        let report = db.check().await.expect("it can be read");
        assert_eq!((report.docs, report.problems), (salvaged.databases[0].docs, Vec::new()));
        drop(db);
        store.close().await.expect("it closes");
        salvaged
    }

    /// How many documents came of it, and what was told.
    fn told(salvaged: &Salvaged) -> (u64, Vec<String>) {
        let [SalvagedDatabase { docs, lost, .. }] = &salvaged.databases[..] else {
            panic!("one database: {salvaged:?}")
        };
        (*docs, lost.iter().map(ToString::to_string).collect())
    }

    fn id() -> crate::DocId {
        crate::DocId::parse(&format!("d{PLACE:03}"), 1_000).expect("an id")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_document_that_one_index_names_is_salvaged() {
        let by_seq = |made: &Made| keys::seq(made.key, PLACE);
        assert_eq!(told(&salvage(by_seq, None).await), (DOCS, Vec::new()));
        let (docs, lost) = told(&salvage(by_seq, Some(b"?")).await);
        assert_eq!((docs, lost.len()), (DOCS, 1), "{lost:?}");
        // Whoever reads one row looks whether there is another.
        assert!(lost[0].starts_with("changes 149 to 150 are not listed"), "{lost:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_document_that_cannot_be_read_is_told_and_the_others_are_salvaged() {
        let by_id = |made: &Made| keys::doc(made.key, &id());
        let only_feed = r#"document "d150": only the feed names it"#.to_owned();
        assert_eq!(told(&salvage(by_id, None).await), (DOCS - 1, vec![only_feed]));
        let (docs, lost) = told(&salvage(by_id, Some(b"?")).await);
        assert_eq!((docs, lost.len()), (DOCS - 1, 2), "{lost:?}");
        assert!(lost[0].starts_with(r#"documents after "d149" are not listed"#), "{lost:?}");
        assert!(lost[1].contains("d150"), "{lost:?}");
        let body = |made: &Made| keys::body(made.key, &id(), &made.rev);
        let (docs, lost) = told(&salvage(body, None).await);
        assert_eq!((docs, lost.len()), (DOCS - 1, 1), "{lost:?}");
        assert!(lost[0].contains("d150") && lost[0].contains("is missing"), "{lost:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn counters_that_make_no_sense_are_told() {
        let (docs, lost) = told(&salvage(|made| keys::counts(made.key), Some(b"?")).await);
        assert_eq!((docs, lost.len()), (DOCS, 2), "{lost:?}");
        assert!(lost[0].starts_with("the counters cannot be read"), "{lost:?}");
        assert!(lost[1].starts_with("changes 1 to 300 are not listed"), "{lost:?}");
    }
}
