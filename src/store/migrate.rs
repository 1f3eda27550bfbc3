//! The store's format version, and the steps from each version to the next.
//!
//! The version is written when a store is made and read before anything else when it is opened. A
//! newer one is refused, since reading it with older eyes would lose what they do not see. An
//! older one is brought forward by [`STEPS`], one at a time; each step ends by writing the version
//! that it reached, in the same batch as its last change or after it, so that a step cut by a
//! crash is made again. A step must therefore be one that can be made twice.

use std::path::Path;

use super::backend::Uuid;
use super::error::StoreError;
use super::keys;

/// Rows as a step sees them.
pub(super) trait Rows {
    /// A row's value.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Whether there is no row at all.
    fn is_empty(&self) -> bool;
    /// Writes rows atomically; they are on disk on return.
    fn write(&self, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError>;
}

/// Brings a store one version forward.
type Step = fn(&dyn Rows) -> Result<(), StoreError>;

/// The version of stores before the first step.
const FIRST_VERSION: u32 = 1;
/// `STEPS[n]` leads from version `n + 1` to `n + 2`. Released steps never change.
const STEPS: &[Step] = &[
    // Format 2 has rows of indexes. Of the others none changed; but who does not know the new ones
    // would purge a document and leave its entries.
    // It has notes of maintenance too, which begin empty; older programs would leave them behind when
    // they destroy a database.
    |_| Ok(()),
    // Format 3 has rows of groups. None of the others changed; older programs would leave them behind
    // when they destroy a database, and end pages within a group.
    |_| Ok(()),
];

/// Checks the version and makes the steps that are due; makes the store's first rows if it is
/// empty.
///
/// # Errors
/// [`StoreError::TooNew`], [`StoreError::Damaged`] if the version is missing or malformed, and
/// what the steps answer.
pub(super) fn prepare(rows: &dyn Rows, path: &Path) -> Result<(), StoreError> {
    prepare_with(rows, path, STEPS)
}

fn prepare_with(rows: &dyn Rows, path: &Path, steps: &[Step]) -> Result<(), StoreError> {
    let known = steps.iter().fold(FIRST_VERSION, |version, _| version + 1);
    if rows.is_empty() {
        let uuid = Uuid::random()?;
        return rows.write(&[version_row(known), (keys::uuid(), uuid.0.to_vec())]);
    }
    let found = read_version(rows)?;
    if found > known {
        return Err(StoreError::TooNew { path: path.to_owned(), found, known });
    }
    for (version, step) in (FIRST_VERSION..).zip(steps).filter(|(version, _)| *version >= found) {
        step(rows)?;
        rows.write(&[version_row(version + 1)])?;
    }
    Ok(())
}

fn version_row(version: u32) -> (Vec<u8>, Vec<u8>) {
    (keys::version(), version.to_be_bytes().to_vec())
}

fn read_version(rows: &dyn Rows) -> Result<u32, StoreError> {
    let damaged = |what: &str| StoreError::Damaged { what: format!("the format version {what}") };
    let bytes = rows.get(&keys::version())?.ok_or_else(|| damaged("is missing"))?;
    let bytes = bytes.try_into().map_err(|_| damaged("does not have 4 bytes"))?;
    match u32::from_be_bytes(bytes) {
        0 => Err(damaged("is 0")),
        version => Ok(version),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Default)]
    struct Map(RefCell<BTreeMap<Vec<u8>, Vec<u8>>>);

    impl Rows for Map {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(self.0.borrow().get(key).cloned())
        }
        fn is_empty(&self) -> bool {
            self.0.borrow().is_empty()
        }
        fn write(&self, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
            self.0.borrow_mut().extend(rows.iter().cloned());
            Ok(())
        }
    }

    fn append(rows: &dyn Rows, letter: u8) -> Result<(), StoreError> {
        let mut value = rows.get(b"trail")?.unwrap_or_default();
        value.push(letter);
        rows.write(&[(b"trail".to_vec(), value)])
    }

    const TWO_STEPS: &[Step] = &[|rows| append(rows, b'1'), |rows| append(rows, b'2')];

    fn trail_from(version: u32) -> Option<Vec<u8>> {
        let rows = Map::default();
        rows.write(&[version_row(version)]).expect("a map takes rows");
        prepare_with(&rows, Path::new("data"), TWO_STEPS).expect("the steps succeed");
        assert_eq!(read_version(&rows).expect("there is a version"), 3);
        rows.get(b"trail").expect("a map gives rows")
    }

    #[test]
    fn makes_exactly_the_steps_that_are_due() {
        assert_eq!(trail_from(1).as_deref(), Some(&b"12"[..]));
        assert_eq!(trail_from(2).as_deref(), Some(&b"2"[..]));
        assert_eq!(trail_from(3), None);
    }

    #[test]
    fn the_first_format_is_brought_to_the_one_of_today() {
        let rows = Map::default();
        rows.write(&[version_row(1), (b"row".to_vec(), b"value".to_vec())])
            .expect("rows are taken");
        prepare(&rows, Path::new("data")).expect("the steps succeed");
        assert_eq!(read_version(&rows).expect("there is a version"), 3);
        assert_eq!(rows.get(b"row").expect("a map gives rows").as_deref(), Some(&b"value"[..]));
    }

    #[test]
    fn an_empty_store_begins_at_the_newest_version() {
        let rows = Map::default();
        prepare_with(&rows, Path::new("data"), TWO_STEPS).expect("an empty store is prepared");
        assert_eq!(read_version(&rows).expect("there is a version"), 3);
        assert_eq!(
            rows.get(&keys::uuid()).expect("a map gives rows").map(|uuid| uuid.len()),
            Some(16)
        );
    }

    #[test]
    fn newer_and_malformed_versions_are_refused() {
        let open = |value: Option<&[u8]>| {
            let rows = Map::default();
            rows.write(&[(b"other".to_vec(), Vec::new())]).expect("a map takes rows");
            if let Some(value) = value {
                rows.write(&[(keys::version(), value.to_vec())]).expect("a map takes rows");
            }
            prepare_with(&rows, Path::new("data"), &[])
        };
        assert!(matches!(
            open(Some(&[0, 0, 0, 2])),
            Err(StoreError::TooNew { found: 2, known: 1, .. })
        ));
        for bad in [None, Some(&[0, 1][..]), Some(&[0; 4])] {
            assert!(matches!(open(bad), Err(StoreError::Damaged { .. })), "{bad:?}");
        }
    }
}
