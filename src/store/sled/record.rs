//! The values of sled's rows as bytes. Integers are varints unless said otherwise; `docs/STORAGE.md`
//! has them in a table.
//!
//! A value that may grow begins with a byte that says whether it is whole or cut in pieces (see
//! [`super::value`]); the functions here write it as whole and read what follows it.

use std::num::NonZeroU32;

use super::value::WHOLE;
use crate::doc::varint::{self, Reader};
use crate::doc::{Body, DocId, Leaf, LocalRev, Rev, RevHash, RevState, RevTree};
use crate::store::backend::{
    ChangeRow, Counts, DatabaseKey, DatabaseSettings, GroupRow, Older, Uuid, Version,
};

/// The winning rev's body follows the tree.
const INLINE: u8 = 1;
/// The document's by-seq row is cut in pieces.
const SEQ_IN_PIECES: u8 = 1 << 1;

/// Older revisions are kept apart; their generations follow the version.
const OLDER: u8 = 1 << 2;

/// A document as it is stored.
#[derive(Debug)]
pub(super) struct DocRecord<'a> {
    pub(super) version: Version,
    pub(super) older: Older,
    /// All revisions but those that are kept apart.
    pub(super) tree: RevTree,
    /// The winning rev's encoded body, if it is kept here.
    pub(super) inline: Option<&'a [u8]>,
    pub(super) seq_in_pieces: bool,
}

impl<'a> DocRecord<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let known = INLINE | SEQ_IN_PIECES | OLDER;
        let flags = reader.byte().filter(|flags| flags & !known == 0)?;
        let seq = reader.varint()?;
        let edition = u32::try_from(reader.varint()?).ok()?;
        let older = if flags & OLDER == 0 { Older::default() } else { read_older(&mut reader)? };
        let (tree, rest) = RevTree::decode(reader.0).ok()?;
        let inline = (flags & INLINE != 0).then_some(rest);
        if tree.is_empty() || inline.is_none() && !rest.is_empty() {
            return None;
        }
        if !older.is_empty() && tree.first_generation() != older.top + 1 {
            return None;
        }
        Some(Self {
            version: Version { seq, edition },
            older,
            tree,
            inline,
            seq_in_pieces: flags & SEQ_IN_PIECES != 0,
        })
    }
}

fn read_older(reader: &mut Reader<'_>) -> Option<Older> {
    let (first, top, body_bytes) = (reader.varint()?, reader.varint()?, reader.varint()?);
    let older = Older { first, top, body_bytes };
    (first > 0 && !older.is_empty()).then_some(older)
}

/// A document's value; `tree` is its encoded tree, without what is kept apart.
pub(super) fn doc(
    version: Version,
    older: Older,
    tree: &[u8],
    inline: Option<&[u8]>,
    seq_in_pieces: bool,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + tree.len() + inline.map_or(0, <[u8]>::len));
    let flags = if inline.is_some() { INLINE } else { 0 };
    let flags = flags | if older.is_empty() { 0 } else { OLDER };
    out.extend([WHOLE, flags | if seq_in_pieces { SEQ_IN_PIECES } else { 0 }]);
    varint::push(&mut out, version.seq);
    varint::push(&mut out, u64::from(version.edition));
    if !older.is_empty() {
        for number in [older.first, older.top, older.body_bytes] {
            varint::push(&mut out, number);
        }
    }
    out.extend_from_slice(tree);
    out.extend_from_slice(inline.unwrap_or_default());
    out
}

/// A by-seq row's value: the id, the number of leaves, the leaves.
pub(super) fn seq_row(id: &DocId, leaves: &[Leaf]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + id.as_str().len() + 18 * leaves.len());
    out.push(WHOLE);
    varint::push_bytes(&mut out, id.as_str().as_bytes());
    varint::push(&mut out, leaves.len() as u64);
    for leaf in leaves {
        push_leaf(&mut out, leaf);
    }
    out
}

const DELETED: u8 = 1;
const TEXT_HASH: u8 = 1 << 1;
const HAS_BODY: u8 = 1 << 2;

/// A flag byte, the generation, the hash: 16 bytes, or a length and text.
fn push_leaf(out: &mut Vec<u8>, leaf: &Leaf) {
    let hash = leaf.rev.hash();
    let deleted = if leaf.state.deleted { DELETED } else { 0 };
    out.push(deleted | hash_flag(hash));
    varint::push(out, leaf.rev.generation());
    push_hash(out, hash);
}

fn hash_flag(hash: &RevHash) -> u8 {
    if hash.packed().is_err() { TEXT_HASH } else { 0 }
}

fn push_hash(out: &mut Vec<u8>, hash: &RevHash) {
    match hash.packed() {
        Ok(bytes) => out.extend_from_slice(bytes),
        Err(text) => varint::push_bytes(out, text.as_bytes()),
    }
}

fn read_hash(reader: &mut Reader<'_>, flags: u8) -> Option<RevHash> {
    if flags & TEXT_HASH == 0 {
        Some(RevHash::from_digest(reader.array()?))
    } else {
        RevHash::parse(reader.text()?).ok()
    }
}

/// A revision of a row of older ones: a flag byte, the hash, the length of its body if stored.
pub(super) fn push_older_rev(out: &mut Vec<u8>, rev: &Rev, state: RevState) {
    let deleted = if state.deleted { DELETED } else { 0 };
    let body = if state.body_bytes.is_some() { HAS_BODY } else { 0 };
    out.push(deleted | body | hash_flag(rev.hash()));
    push_hash(out, rev.hash());
    state.body_bytes.into_iter().for_each(|bytes| varint::push(out, u64::from(bytes)));
}

pub(super) fn read_older_rev(reader: &mut Reader<'_>, generation: u64) -> Option<(Rev, RevState)> {
    let known = DELETED | TEXT_HASH | HAS_BODY;
    let flags = reader.byte().filter(|flags| flags & !known == 0)?;
    let hash = read_hash(reader, flags)?;
    let body_bytes = match flags & HAS_BODY {
        0 => None,
        _ => Some(u32::try_from(reader.varint()?).ok()?),
    };
    let state = RevState { deleted: flags & DELETED != 0, body_bytes };
    Some((Rev::new(generation, hash).ok()?, state))
}

fn read_leaf(reader: &mut Reader<'_>) -> Option<(Rev, bool)> {
    let flags = reader.byte().filter(|flags| flags & !(DELETED | TEXT_HASH) == 0)?;
    let generation = reader.varint()?;
    let hash = read_hash(reader, flags)?;
    Some((Rev::new(generation, hash).ok()?, flags & DELETED != 0))
}

pub(super) fn decode_seq_row(seq: u64, bytes: &[u8]) -> Option<ChangeRow> {
    let mut reader = Reader(bytes);
    let id = DocId::from_stored(reader.text()?);
    let count = reader.varint()?;
    let mut leaves = Vec::new();
    for _ in 0..count {
        leaves.push(read_leaf(&mut reader)?);
    }
    reader.0.is_empty().then_some(ChangeRow { seq, id, leaves })
}

/// A group's value: its by-seq rows as they were written, each after its length.
pub(super) fn group<'r>(seq_rows: impl Iterator<Item = &'r [u8]>) -> Vec<u8> {
    let mut out = vec![WHOLE];
    for row in seq_rows {
        varint::push_bytes(&mut out, &row[1..]);
    }
    out
}

/// The group whose last document has this update seq.
pub(super) fn decode_group(last: u64, bytes: &[u8]) -> Option<GroupRow> {
    let mut reader = Reader(bytes);
    let mut encoded = Vec::new();
    while !reader.0.is_empty() {
        encoded.push(reader.bytes()?);
    }
    let first = last.checked_add(1)?.checked_sub(encoded.len() as u64)?;
    let rows = (first..).zip(encoded).map(|(seq, row)| decode_seq_row(seq, row));
    let rows: Vec<ChangeRow> = rows.collect::<Option<_>>()?;
    (rows.len() > 1).then_some(GroupRow { rows })
}

/// A local document's value: its revision, then the body's text.
pub(super) fn local(rev: LocalRev, body: &Body) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 + body.as_str().len());
    out.push(WHOLE);
    varint::push(&mut out, rev.0);
    out.extend_from_slice(body.as_str().as_bytes());
    out
}

pub(super) fn decode_local(bytes: &[u8]) -> Option<(LocalRev, Body)> {
    let mut reader = Reader(bytes);
    let rev = LocalRev(reader.varint()?);
    let text = std::str::from_utf8(reader.0).ok()?;
    (text.starts_with('{') && text.ends_with('}')).then(|| (rev, Body::from_stored(text)))
}

/// A value that is `bytes` as they are.
pub(super) fn plain(bytes: &[u8]) -> Vec<u8> {
    [&[WHOLE], bytes].concat()
}

/// The counters' value; never in pieces.
pub(super) fn counts(counts: &Counts) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    for count in [
        counts.update_seq,
        counts.docs,
        counts.deleted_docs,
        counts.body_bytes,
        counts.leaf_bytes,
        counts.purge_seq,
    ] {
        varint::push(&mut out, count);
    }
    out
}

pub(super) fn decode_counts(bytes: &[u8]) -> Option<Counts> {
    let mut reader = Reader(bytes);
    let update_seq = reader.varint()?;
    let (docs, deleted_docs) = (reader.varint()?, reader.varint()?);
    let (body_bytes, leaf_bytes) = (reader.varint()?, reader.varint()?);
    let purge_seq = reader.varint()?;
    let counts = Counts { docs, deleted_docs, update_seq, body_bytes, leaf_bytes, purge_seq };
    reader.0.is_empty().then_some(counts)
}

/// The settings' value: `revs_limit` (0 if none is kept), then the security object's text.
pub(super) fn settings(settings: &DatabaseSettings) -> Vec<u8> {
    let mut out = vec![WHOLE];
    varint::push(&mut out, settings.revs_limit.map_or(0, |limit| u64::from(limit.get())));
    out.extend_from_slice(settings.security.as_deref().unwrap_or_default().as_bytes());
    out
}

pub(super) fn decode_settings(bytes: &[u8]) -> Option<DatabaseSettings> {
    let mut reader = Reader(bytes);
    let revs_limit = NonZeroU32::new(u32::try_from(reader.varint()?).ok()?);
    let security = std::str::from_utf8(reader.0).ok()?;
    let security = (!security.is_empty()).then(|| security.to_owned());
    Some(DatabaseSettings { revs_limit, security })
}

/// A name's value: the key (4 bytes, big-endian) and the incarnation (16 bytes).
pub(super) fn database(key: DatabaseKey, incarnation: Uuid) -> Vec<u8> {
    [&key.0.to_be_bytes()[..], &incarnation.0].concat()
}

pub(super) fn decode_database(bytes: &[u8]) -> Option<(DatabaseKey, Uuid)> {
    let (key, incarnation) = bytes.split_first_chunk()?;
    Some((DatabaseKey(u32::from_be_bytes(*key)), Uuid(incarnation.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{RevPath, RevState};
    use proptest::prelude::*;

    fn tree() -> RevTree {
        let state = RevState { deleted: true, body_bytes: Some(7) };
        RevTree::from_path(&RevPath::single(Rev::parse("2-ab").expect("a revision")), state)
    }

    fn encoded_tree() -> Vec<u8> {
        let mut out = Vec::new();
        tree().encode(&mut out);
        out
    }

    #[test]
    fn documents_come_back() {
        let kept = Older { first: 1, top: 1, body_bytes: 300 };
        let none = Older::default();
        let inline = Some(&b"\0{}"[..]);
        for (older, inline, pieces) in [(none, None, true), (kept, inline, false)] {
            let version = Version { seq: 300, edition: 2 };
            let bytes = doc(version, older, &encoded_tree(), inline, pieces);
            assert_eq!(bytes[0], WHOLE);
            let record = DocRecord::decode(&bytes[1..]).expect("a whole record");
            assert_eq!((record.version, record.older, &record.tree), (version, older, &tree()));
            assert_eq!((record.inline, record.seq_in_pieces), (inline, pieces));
        }
    }

    #[test]
    fn by_seq_rows_come_back() {
        let id = DocId::from_stored("a\0b");
        let hex = "10-967a00dff5e02add41819138abb3284d";
        let leaf = |rev: &str, deleted| Leaf {
            rev: Rev::parse(rev).expect(rev),
            state: RevState { deleted, body_bytes: None },
        };
        let leaves = [leaf(hex, false), leaf("3-é", true)];
        let row = decode_seq_row(9, &seq_row(&id, &leaves)[1..]).expect("a whole row");
        assert_eq!((row.seq, row.id), (9, id));
        let expected: Vec<(Rev, bool)> =
            leaves.iter().map(|leaf| (leaf.rev.clone(), leaf.state.deleted)).collect();
        assert_eq!(row.leaves, expected);
    }

    #[test]
    fn cut_or_padded_values_are_refused() {
        let kept = Older { first: 1, top: 1, body_bytes: 300 };
        let version = Version { seq: 1, edition: 0 };
        let doc_value = doc(version, kept, &encoded_tree(), None, false);
        let id = DocId::from_stored("a");
        let leaves = tree().leaves();
        let seq_value = seq_row(&id, &leaves);
        let counts_value = counts(&Counts { docs: 1, update_seq: 300, ..Counts::default() });
        for end in 0..doc_value.len() - 1 {
            assert!(DocRecord::decode(&doc_value[1..=end]).is_none(), "{end}");
        }
        for end in 0..seq_value.len() - 1 {
            assert!(decode_seq_row(1, &seq_value[1..=end]).is_none(), "{end}");
        }
        for end in 0..counts_value.len() {
            assert!(decode_counts(&counts_value[..end]).is_none(), "{end}");
        }
        let padded = |value: &[u8]| [value, &[0]].concat();
        assert!(DocRecord::decode(&padded(&doc_value)[1..]).is_none());
        assert!(decode_seq_row(1, &padded(&seq_value)[1..]).is_none());
        assert!(decode_counts(&padded(&counts_value)).is_none());
        assert!(decode_local(&[1, b'{']).is_none());
        assert!(decode_database(&[0; 19]).is_none());
    }

    /// What is stored of something, without the byte that says that it is whole.
    fn values() -> Vec<Vec<u8>> {
        let kept = Older { first: 1, top: 1, body_bytes: 300 };
        let version = Version { seq: 300, edition: 2 };
        let row = seq_row(&DocId::from_stored("a"), &tree().leaves());
        let security = Some("{}".to_owned());
        let whole = [
            doc(version, kept, &encoded_tree(), Some(b"\0{}"), true),
            group([&row[..], &row[..]].into_iter()),
            row,
            local(LocalRev(3), &Body::from_stored("{}")),
            settings(&DatabaseSettings { revs_limit: NonZeroU32::new(5), security }),
        ];
        let others = [counts(&Counts::default()), database(DatabaseKey(1), Uuid([2; 16]))];
        whole.map(|value| value[1..].to_vec()).into_iter().chain(others).collect()
    }

    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let places = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        let value = (prop::sample::select(values()), places).prop_map(|(mut value, places)| {
            places.into_iter().for_each(|(at, byte)| *at.get_mut(&mut value) = byte);
            value
        });
        prop_oneof![3 => value, 1 => proptest::collection::vec(any::<u8>(), 0..40)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn whatever_decodes_is_what_its_content_encodes_to(bytes in damaged(), seq: u64) {
            let same = |encoded: Vec<u8>| assert_eq!(encoded, bytes);
            if let Some(record) = DocRecord::decode(&bytes) {
                let mut tree = Vec::new();
                record.tree.encode(&mut tree);
                let pieces = record.seq_in_pieces;
                same(doc(record.version, record.older, &tree, record.inline, pieces)[1..].to_vec());
            }
            let encode_row = |row: &ChangeRow| {
                let leaf = |(rev, deleted): &(Rev, bool)| Leaf {
                    rev: rev.clone(),
                    state: RevState { deleted: *deleted, body_bytes: None },
                };
                seq_row(&row.id, &row.leaves.iter().map(leaf).collect::<Vec<_>>())
            };
            if let Some(row) = decode_seq_row(seq, &bytes) {
                same(encode_row(&row)[1..].to_vec());
            }
            if let Some(rows) = decode_group(seq, &bytes) {
                let rows: Vec<Vec<u8>> = rows.rows.iter().map(encode_row).collect();
                same(group(rows.iter().map(Vec::as_slice))[1..].to_vec());
            }
            if let Some((rev, body)) = decode_local(&bytes) {
                same(local(rev, &body)[1..].to_vec());
            }
            if let Some(decoded) = decode_settings(&bytes) {
                same(settings(&decoded)[1..].to_vec());
            }
            if let Some(decoded) = decode_counts(&bytes) {
                same(counts(&decoded));
            }
            if let Some((key, incarnation)) = decode_database(&bytes) {
                same(database(key, incarnation));
            }
        }
    }
}
