//! sled's keys: everything is in one tree, and this file alone builds and takes apart its keys.
//!
//! A key is the database's key (4 bytes, big-endian, so that a database's rows lie together), one
//! letter for the kind, and what names the row within the kind. Numbers in keys are big-endian.
//!
//! | key | value |
//! |---|---|
//! | `DB d` id | the document: version, revision tree, maybe the winning rev's body |
//! | `DB s` seq (8 bytes) | the document that changed last with this update seq, and its leaves |
//! | `DB t` seq (8 bytes) | the group of documents that ends with this update seq |
//! | `DB b` escaped id, generation (8 bytes), hash text | the body of a revision that is not in `d` |
//! | `DB h` escaped id, number (8 bytes) | older revisions of a document with a long history |
//! | `DB l` name | a local document |
//! | `DB a` SHA-256 (32 bytes) | a small attachment's bytes |
//! | `DB i` | the database's counters |
//! | `DB o` | the database's settings |
//! | `DB q` index (16 bytes) | how far an index is |
//! | `DB e` index, key, id | an entry of an index |
//! | `DB f` index, id | the key of a document's entry |
//! | `DB m` | what maintenance noted of the database |
//! | `DB x` the rest of another key, stamp (8 bytes), number (4 bytes) | a further piece of that key's value |
//! | `0 v` | format version of the store |
//! | `0 u` | uuid of the store |
//! | `0 k` | key of the database that was made last |
//! | `0 g` | number of the last group of writes |
//! | `0 l` name | a note of the store itself, kept as a local document is |
//! | `0 n` name | a database: its key and incarnation |
//! | `0 z` key (4 bytes) | a destroyed database whose rows are still to be removed |
//!
//! The hard case is ids with NUL bytes: within a `b` key the id ends where the generation begins,
//! so NUL is written `00 FF` there and `00 00` ends the id. Everywhere else the id is last, and
//! is written as it is: rows of kind `d` are in the byte order of the ids.

use std::ops::Bound;

use super::backend::{DatabaseKey, DocsRange, IndexEntry, IndexKey, IndexRange, Order, STORE_KEY};
use crate::doc::{BlobKey, DbName, DocId, LocalId, Rev};

/// Ends of a scan.
pub(super) type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The store's own rows are those of a database that never exists.
const STORE: DatabaseKey = STORE_KEY;

/// What a row is; its letter in the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Doc = b'd',
    Seq = b's',
    Together = b't',
    Body = b'b',
    Older = b'h',
    Local = b'l',
    Blob = b'a',
    Counts = b'i',
    Settings = b'o',
    Index = b'q',
    Entry = b'e',
    Indexed = b'f',
    Notes = b'm',
    Piece = b'x',
    Version = b'v',
    Uuid = b'u',
    LastKey = b'k',
    Group = b'g',
    Name = b'n',
    Swept = b'z',
}

/// The order in which a destroyed database's rows go: a row that names another goes before it, so
/// that a reader who misses the second finds on looking again that the first is gone too.
pub(super) const SWEEP_ORDER: [Kind; 14] = [
    Kind::Index,
    Kind::Entry,
    Kind::Indexed,
    Kind::Doc,
    Kind::Seq,
    Kind::Together,
    Kind::Local,
    Kind::Body,
    Kind::Older,
    Kind::Blob,
    Kind::Counts,
    Kind::Settings,
    Kind::Notes,
    Kind::Piece,
];

const PREFIX_BYTES: usize = 5;

fn key(db: DatabaseKey, kind: Kind, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut key = Vec::with_capacity(PREFIX_BYTES + length);
    key.extend_from_slice(&db.0.to_be_bytes());
    key.push(kind as u8);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

fn kind_end(db: DatabaseKey, kind: Kind) -> Vec<u8> {
    let mut end = key(db, kind, &[]);
    end[PREFIX_BYTES - 1] += 1;
    end
}

/// What names a row within its kind.
fn name_part(key: &[u8], kind: Kind) -> Option<&[u8]> {
    let (prefix, rest) = key.split_at_checked(PREFIX_BYTES)?;
    (prefix[PREFIX_BYTES - 1] == kind as u8).then_some(rest)
}

fn text_part(key: &[u8], kind: Kind) -> Option<&str> {
    std::str::from_utf8(name_part(key, kind)?).ok()
}

/// All rows of one kind.
pub(super) fn all(db: DatabaseKey, kind: Kind) -> Bounds {
    (Bound::Included(key(db, kind, &[])), Bound::Excluded(kind_end(db, kind)))
}

fn all_after(db: DatabaseKey, kind: Kind, after: Option<&str>) -> Bounds {
    let (first, end) = all(db, kind);
    (after.map_or(first, |after| Bound::Excluded(key(db, kind, &[after.as_bytes()]))), end)
}

pub(super) fn doc(db: DatabaseKey, id: &DocId) -> Vec<u8> {
    key(db, Kind::Doc, &[id.as_str().as_bytes()])
}

pub(super) fn doc_id(key: &[u8]) -> Option<DocId> {
    text_part(key, Kind::Doc).map(DocId::from_stored)
}

/// The rows of a range of documents, low end first; `None` if it is empty by its bounds.
pub(super) fn docs(db: DatabaseKey, range: &DocsRange) -> Option<Bounds> {
    let at = |id: &String| key(db, Kind::Doc, &[id.as_bytes()]);
    let from = range.from.as_ref().map(|id| (at(id), !range.after_from));
    let to = range.to.as_ref().map(|id| (at(id), range.to_inclusive));
    let (low, high) = match range.order {
        Order::Ascending => (from, to),
        Order::Descending => (to, from),
    };
    let low = low.unwrap_or_else(|| (key(db, Kind::Doc, &[]), true));
    let high = high.unwrap_or_else(|| (kind_end(db, Kind::Doc), false));
    let bound =
        |(key, inclusive)| if inclusive { Bound::Included(key) } else { Bound::Excluded(key) };
    (low.0 < high.0 || (low.0 == high.0 && low.1 && high.1)).then(|| (bound(low), bound(high)))
}

pub(super) fn seq(db: DatabaseKey, seq: u64) -> Vec<u8> {
    key(db, Kind::Seq, &[&seq.to_be_bytes()])
}

pub(super) fn seq_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(name_part(key, Kind::Seq)?.try_into().ok()?))
}

/// By-seq rows after `since`, up to and with `until`; `None` if there can be none.
pub(super) fn seqs(db: DatabaseKey, since: u64, until: u64) -> Option<Bounds> {
    (since < until).then(|| (Bound::Excluded(seq(db, since)), Bound::Included(seq(db, until))))
}

pub(super) fn together(db: DatabaseKey, last: u64) -> Vec<u8> {
    key(db, Kind::Together, &[&last.to_be_bytes()])
}

pub(super) fn group_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(name_part(key, Kind::Together)?.try_into().ok()?))
}

/// Rows of groups that end after `since`.
pub(super) fn groups_after(db: DatabaseKey, since: u64) -> Bounds {
    let (_, end) = all(db, Kind::Together);
    (Bound::Excluded(together(db, since)), end)
}

/// An id with an end of its own, so that more can follow.
fn escaped(id: &DocId) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(id.as_str().len() + 2);
    for byte in id.as_str().bytes() {
        escaped.push(byte);
        if byte == 0 {
            escaped.push(0xff);
        }
    }
    escaped.extend_from_slice(&[0, 0]);
    escaped
}

pub(super) fn body(db: DatabaseKey, id: &DocId, rev: &Rev) -> Vec<u8> {
    let hash = rev.hash().to_string();
    key(db, Kind::Body, &[&escaped(id), &rev.generation().to_be_bytes(), hash.as_bytes()])
}

pub(super) fn older(db: DatabaseKey, id: &DocId, number: u64) -> Vec<u8> {
    key(db, Kind::Older, &[&escaped(id), &number.to_be_bytes()])
}

pub(super) fn local(db: DatabaseKey, id: &LocalId) -> Vec<u8> {
    key(db, Kind::Local, &[id.as_str().as_bytes()])
}

pub(super) fn local_id(key: &[u8]) -> Option<LocalId> {
    text_part(key, Kind::Local).map(LocalId::from_stored)
}

pub(super) fn locals_after(db: DatabaseKey, after: Option<&LocalId>) -> Bounds {
    all_after(db, Kind::Local, after.map(LocalId::as_str))
}

pub(super) fn blob(db: DatabaseKey, blob: &BlobKey) -> Vec<u8> {
    key(db, Kind::Blob, &[blob.as_bytes()])
}

pub(super) fn blob_key(key: &[u8]) -> Option<BlobKey> {
    Some(BlobKey::from_bytes(name_part(key, Kind::Blob)?.try_into().ok()?))
}

pub(super) fn counts(db: DatabaseKey) -> Vec<u8> {
    key(db, Kind::Counts, &[])
}

pub(super) fn settings(db: DatabaseKey) -> Vec<u8> {
    key(db, Kind::Settings, &[])
}

pub(super) fn notes(db: DatabaseKey) -> Vec<u8> {
    key(db, Kind::Notes, &[])
}

/// A further piece of the value at `base`. The stamp and the number have a fixed length and stand
/// last, so that no two pieces share a key.
pub(super) fn piece(base: &[u8], stamp: [u8; 8], number: u32) -> Vec<u8> {
    let (prefix, rest) = base.split_at(PREFIX_BYTES - 1);
    [prefix, &[Kind::Piece as u8], rest, &stamp, &number.to_be_bytes()].concat()
}

pub(super) fn index(db: DatabaseKey, index: IndexKey) -> Vec<u8> {
    key(db, Kind::Index, &[&index.0])
}

pub(super) fn index_of(key: &[u8]) -> Option<IndexKey> {
    Some(IndexKey(name_part(key, Kind::Index)?.try_into().ok()?))
}

pub(super) fn entry(db: DatabaseKey, index: IndexKey, entry: &[u8], id: &DocId) -> Vec<u8> {
    key(db, Kind::Entry, &[&index.0, entry, id.as_str().as_bytes()])
}

/// Takes an entry apart whose own key has this length.
pub(super) fn entry_of(key: &[u8], length: usize) -> Option<IndexEntry> {
    let rest = name_part(key, Kind::Entry)?.get(size_of::<IndexKey>()..)?;
    let (key, id) = rest.split_at_checked(length)?;
    let id = DocId::from_stored(std::str::from_utf8(id).ok()?);
    Some(IndexEntry { key: key.to_vec(), id })
}

pub(super) fn indexed(db: DatabaseKey, index: IndexKey, id: &DocId) -> Vec<u8> {
    key(db, Kind::Indexed, &[&index.0, id.as_str().as_bytes()])
}

/// All rows of one kind of an index.
pub(super) fn all_of_index(db: DatabaseKey, index: IndexKey, kind: Kind) -> Bounds {
    let first = key(db, kind, &[&index.0]);
    let end = after_all(first.clone());
    (Bound::Included(first), Bound::Excluded(end))
}

/// The lowest key above all that begin with these bytes, of which one at least is not 255.
fn after_all(mut bytes: Vec<u8>) -> Vec<u8> {
    while bytes.last() == Some(&0xff) {
        bytes.pop();
    }
    if let Some(last) = bytes.last_mut() {
        *last += 1;
    }
    bytes
}

/// The entries of a range; `None` if it is empty by its bounds.
pub(super) fn entries(db: DatabaseKey, index: IndexKey, range: &IndexRange) -> Option<Bounds> {
    let at = |part: &[u8]| key(db, Kind::Entry, &[&index.0, part]);
    let mut low = Bound::Included(at(&range.low));
    let mut high = range.high.as_ref().map_or_else(|| after_all(at(&[])), |high| at(high));
    if let Some(after) = &range.after {
        let after = entry(db, index, &after.key, &after.id);
        match range.order {
            Order::Ascending if after >= at(&range.low) => low = Bound::Excluded(after),
            Order::Descending if after < high => high = after,
            Order::Ascending | Order::Descending => {}
        }
    }
    let (Bound::Included(first) | Bound::Excluded(first)) = &low else { return None };
    (*first < high).then_some((low, Bound::Excluded(high)))
}

pub(super) fn version() -> Vec<u8> {
    key(STORE, Kind::Version, &[])
}

pub(super) fn uuid() -> Vec<u8> {
    key(STORE, Kind::Uuid, &[])
}

pub(super) fn last_key() -> Vec<u8> {
    key(STORE, Kind::LastKey, &[])
}

pub(super) fn group() -> Vec<u8> {
    key(STORE, Kind::Group, &[])
}

pub(super) fn name(name: &DbName) -> Vec<u8> {
    key(STORE, Kind::Name, &[name.as_str().as_bytes()])
}

pub(super) fn name_of(key: &[u8]) -> Option<DbName> {
    DbName::parse(text_part(key, Kind::Name)?).ok()
}

pub(super) fn names_after(after: Option<&DbName>) -> Bounds {
    all_after(STORE, Kind::Name, after.map(DbName::as_str))
}

pub(super) fn swept(db: DatabaseKey) -> Vec<u8> {
    key(STORE, Kind::Swept, &[&db.0.to_be_bytes()])
}

pub(super) fn swept_of(key: &[u8]) -> Option<DatabaseKey> {
    Some(DatabaseKey(u32::from_be_bytes(name_part(key, Kind::Swept)?.try_into().ok()?)))
}

pub(super) fn all_swept() -> Bounds {
    all(STORE, Kind::Swept)
}

/// The database that a row belongs to; `None` for the store's own rows.
pub(super) fn database_of(key: &[u8]) -> Option<DatabaseKey> {
    let database = DatabaseKey(u32::from_be_bytes(*key.first_chunk()?));
    (database != STORE).then_some(database)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::backend::{ReadBody, ReadDoc};

    const DB: DatabaseKey = DatabaseKey(0x0102_0304);

    fn id(text: &str) -> DocId {
        DocId::parse(text, 512).expect(text)
    }

    #[test]
    fn keys_are_taken_apart_as_they_were_built() {
        for text in ["a", "a\0", "a\0\0b", "ÿ\u{10ffff}"] {
            assert_eq!(doc_id(&doc(DB, &id(text))), Some(id(text)));
            let local_name = LocalId::parse(text, 512).expect(text);
            assert_eq!(local_id(&local(DB, &local_name)), Some(local_name));
        }
        assert_eq!(seq_of(&seq(DB, 258)), Some(258));
        assert_eq!(seq_of(&doc(DB, &id("12345678"))), None);
        assert_eq!(swept_of(&swept(DB)), Some(DB));
        let db_name = DbName::parse("todos").expect("a legal name");
        assert_eq!(name_of(&name(&db_name)), Some(db_name));
        assert_eq!(name_of(b"\0\0\0\0n"), None);
        assert_eq!(seq(DB, 1), b"\x01\x02\x03\x04s\0\0\0\0\0\0\0\x01");
    }

    #[test]
    fn bodies_of_different_revisions_never_share_a_key() {
        let ids = ["a", "a\0", "a\0\0", "a\0\0b", "a\0b", "ab", "a\u{ff}"];
        let revs = ["1-", "1-a", "1-a\0", "256-a", "1-ab", "1-967a00dff5e02add41819138abb3284d"];
        let mut keys = std::collections::BTreeSet::new();
        for text in ids {
            for rev in revs {
                assert!(
                    keys.insert(body(DB, &id(text), &Rev::parse(rev).expect(rev))),
                    "{text:?} {rev}"
                );
            }
        }
    }

    #[test]
    fn rows_of_one_kind_lie_within_its_bounds_and_no_others() {
        let inside = doc(DB, &id("\u{10ffff}"));
        let (Bound::Included(low), Bound::Excluded(high)) = all(DB, Kind::Doc) else {
            panic!("the bounds have another shape")
        };
        assert!(low < inside && inside < high);
        for outside in [seq(DB, 0), counts(DB), blob(DB, &crate::doc::BlobHasher::of(b"").key)] {
            assert!(outside < low || outside >= high);
        }
        assert!(doc(DatabaseKey(DB.0 + 1), &id("a")) > high);
    }

    const INDEX: IndexKey = IndexKey(*b"sixteen bytes...");

    /// On disk they are for ever: docs/STORAGE.md.
    #[test]
    fn keys_have_the_bytes_that_are_on_disk() {
        let blob_key_of = BlobKey::from_bytes([7; 32]);
        let rev = Rev::parse("258-xy").expect("a legal rev");
        let local_name = LocalId::parse("l", 9).expect("a legal name");
        let todos = DbName::parse("todos").expect("a legal name");
        let of_db = |rest: &[u8]| [&b"\x01\x02\x03\x04"[..], rest].concat();
        let of_store = |rest: &[u8]| [&b"\0\0\0\0"[..], rest].concat();
        let at_258: &[u8] = b"\0\0\0\0\0\0\x01\x02";
        for (built, bytes) in [
            (doc(DB, &id("a\0")), of_db(b"da\0")),
            (seq(DB, 258), of_db(&[b"s", at_258].concat())),
            (together(DB, 258), of_db(&[b"t", at_258].concat())),
            (body(DB, &id("a\0b"), &rev), of_db(&[b"ba\0\xffb\0\0", at_258, b"xy"].concat())),
            (older(DB, &id("a"), 258), of_db(&[b"ha\0\0", at_258].concat())),
            (local(DB, &local_name), of_db(b"ll")),
            (blob(DB, &blob_key_of), of_db(&[&b"a"[..], &[7; 32]].concat())),
            (counts(DB), of_db(b"i")),
            (settings(DB), of_db(b"o")),
            (notes(DB), of_db(b"m")),
            (index(DB, INDEX), of_db(b"qsixteen bytes...")),
            (entry(DB, INDEX, b"key", &id("a")), of_db(b"esixteen bytes...keya")),
            (indexed(DB, INDEX, &id("a")), of_db(b"fsixteen bytes...a")),
            (piece(&doc(DB, &id("a")), *b"stamped.", 258), of_db(b"xdastamped.\0\0\x01\x02")),
            (version(), of_store(b"v")),
            (uuid(), of_store(b"u")),
            (last_key(), of_store(b"k")),
            (group(), of_store(b"g")),
            (name(&todos), of_store(b"ntodos")),
            (swept(DB), of_store(b"z\x01\x02\x03\x04")),
        ] {
            assert_eq!(built, bytes, "{}", bytes.escape_ascii());
        }
        assert_eq!(blob_key(&blob(DB, &blob_key_of)), Some(blob_key_of));
        assert_eq!(group_of(&together(DB, 258)), Some(258));
        assert_eq!(index_of(&index(DB, INDEX)), Some(INDEX));
        let taken_apart = IndexEntry { key: b"key".to_vec(), id: id("a") };
        assert_eq!(entry_of(&entry(DB, INDEX, b"key", &id("a")), 3), Some(taken_apart));
        assert_eq!(database_of(&doc(DB, &id("a"))), Some(DB));
        assert_eq!(database_of(&group()), None);
    }

    fn holds(bounds: Option<Bounds>, key: &[u8]) -> bool {
        use std::ops::RangeBounds as _;
        bounds.is_some_and(|bounds| bounds.contains(&key.to_vec()))
    }

    #[test]
    fn a_range_of_documents_holds_its_ends_as_it_says() {
        let held = |from: Option<&str>, after_from, to: Option<&str>, to_inclusive, order| {
            let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
            let read = ReadDoc::whole(ReadBody::No);
            let range = DocsRange { from, after_from, to, to_inclusive, limit: 9, order, read };
            let all = ["a", "b", "c", "d"].into_iter();
            all.filter(|text| holds(docs(DB, &range), &doc(DB, &id(text)))).collect::<String>()
        };
        let (up, down) = (Order::Ascending, Order::Descending);
        assert_eq!(held(None, false, None, true, up), "abcd");
        assert_eq!(held(Some("b"), false, Some("c"), true, up), "bc");
        assert_eq!(held(Some("b"), true, Some("d"), false, up), "c");
        assert_eq!(held(Some("c"), false, Some("b"), true, down), "bc");
        assert_eq!(held(Some("d"), true, Some("a"), false, down), "bc");
        assert_eq!(held(Some("b"), false, Some("b"), true, up), "b");
        for (after_from, to_inclusive) in [(true, true), (false, false), (true, false)] {
            assert_eq!(held(Some("b"), after_from, Some("b"), to_inclusive, up), "");
        }
        assert_eq!(held(Some("c"), false, Some("b"), true, up), "");
    }

    #[test]
    fn rows_by_seq_come_after_one_and_up_to_the_other() {
        let held = |since, until| {
            (1..6).filter(|at| holds(seqs(DB, since, until), &seq(DB, *at))).collect::<Vec<_>>()
        };
        assert_eq!(held(2, 4), [3, 4]);
        assert_eq!(held(4, 4), [0; 0]);
        assert_eq!(seqs(DB, 4, 4), None);
        assert_eq!(seqs(DB, 5, 4), None);
    }

    #[test]
    fn a_range_of_entries_goes_on_after_one_in_its_direction() {
        let held = |low: &str, high: Option<&str>, after: Option<&str>, order| {
            let after = after.map(|key| IndexEntry { key: key.into(), id: id("x") });
            let (low, high) = (low.into(), high.map(Into::into));
            let range = IndexRange { low, high, after, order, limit: 9 };
            let bounds = entries(DB, INDEX, &range);
            let all = ["a", "b", "c", "d"].into_iter();
            let holds = |key: &&str| {
                let key = entry(DB, INDEX, key.as_bytes(), &id("x"));
                holds(bounds.clone(), &key)
            };
            all.filter(holds).collect::<String>()
        };
        let (up, down) = (Order::Ascending, Order::Descending);
        assert_eq!(held("", None, None, up), "abcd");
        assert_eq!(held("b", Some("d"), None, up), "bc");
        assert_eq!(held("a", None, Some("b"), up), "cd");
        assert_eq!(held("c", None, Some("b"), up), "cd");
        assert_eq!(held("a", None, Some("c"), down), "ab");
        assert_eq!(held("a", Some("c"), Some("d"), down), "ab");
        assert_eq!(held("c", Some("c"), None, up), "");
        assert_eq!(held("d", Some("b"), None, up), "");
    }

    #[test]
    fn what_comes_after_all_is_found_by_the_last_byte_that_can_grow() {
        assert_eq!(after_all(b"ab".to_vec()), b"ac");
        assert_eq!(after_all(b"a\xff\xff".to_vec()), b"b");
    }
}
