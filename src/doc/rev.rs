//! A revision's id: generation and hash, its order, parser and printer.
//!
//! The hard case is hashes that other software made. Settee, CouchDB and PouchDB use 32 lower-case
//! hex digits, but any text after the dash is a legal hash (`1-a`, `3-c2`, also `1-`), must come back
//! unchanged, and takes part in the winner's order by its bytes. So the common form is packed into
//! 16 bytes and everything else is kept as text; the two forms compare as the texts would.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::error::{ParseError, printable};

/// Longest hash in bytes.
const HASH_BYTES_MAX: usize = 128;

/// Highest generation: the greatest integer that every JSON reader keeps exactly.
pub const GENERATION_MAX: u64 = (1 << 53) - 1;

/// The part of a revision after the dash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RevHash(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    /// Exactly 32 lower-case hex digits.
    Hex([u8; 16]),
    /// Anything else.
    Text(Arc<str>),
}

impl RevHash {
    /// Checks and packs a hash.
    ///
    /// # Errors
    /// [`ParseError::Rev`] if it is longer than 128 bytes.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > HASH_BYTES_MAX {
            return Err(ParseError::Rev { rev: printable(text) });
        }
        Ok(Self(pack_hex(text).map_or_else(|| Repr::Text(text.into()), Repr::Hex)))
    }

    /// The hash made of 16 bytes of digest.
    #[must_use]
    pub fn from_digest(digest: [u8; 16]) -> Self {
        Self(Repr::Hex(digest))
    }

    /// The packed form, if it has one.
    pub(crate) fn packed(&self) -> Result<&[u8; 16], &str> {
        match &self.0 {
            Repr::Hex(bytes) => Ok(bytes),
            Repr::Text(text) => Err(text),
        }
    }

    fn with_text<R>(&self, read: impl FnOnce(&str) -> R) -> R {
        match &self.0 {
            Repr::Text(text) => read(text),
            Repr::Hex(bytes) => {
                let mut buffer = [0; 32];
                read(unpack_hex(bytes, &mut buffer))
            }
        }
    }

    /// Appends the hash's text.
    pub(crate) fn push_to(&self, out: &mut String) {
        self.with_text(|text| out.push_str(text));
    }
}

fn pack_hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut packed = [0; 16];
    for (byte, pair) in packed.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
    }
    Some(packed)
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn unpack_hex<'a>(bytes: &[u8; 16], buffer: &'a mut [u8; 32]) -> &'a str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in buffer.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    std::str::from_utf8(buffer).expect("hex digits are ASCII")
}

impl Ord for RevHash {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            // Equal-length hex texts order as the bytes they stand for.
            (Repr::Hex(a), Repr::Hex(b)) => a.cmp(b),
            _ => self.with_text(|a| other.with_text(|b| a.cmp(b))),
        }
    }
}

impl PartialOrd for RevHash {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RevHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl fmt::Debug for RevHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A revision: its generation (the number before the dash) and its hash.
///
/// Ordered by generation, then by the hash's bytes, as CouchDB orders leaves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rev {
    generation: u64,
    hash: RevHash,
}

impl Rev {
    /// A revision from its two parts.
    ///
    /// # Errors
    /// [`ParseError::Rev`] if the generation is 0 or above [`GENERATION_MAX`].
    pub fn new(generation: u64, hash: RevHash) -> Result<Self, ParseError> {
        if generation == 0 || generation > GENERATION_MAX {
            return Err(ParseError::Rev { rev: format!("{generation}-{hash}") });
        }
        Ok(Self { generation, hash })
    }

    /// Reads `GENERATION-HASH`.
    ///
    /// # Errors
    /// [`ParseError::Rev`] without a dash, with anything but digits before it, with a leading zero
    /// (the revision would not come back as it was written), or too much after it.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let refused = || ParseError::Rev { rev: printable(text) };
        let (generation, hash) = text.split_once('-').ok_or_else(refused)?;
        let plain = !generation.is_empty()
            && generation.len() <= 16
            && !generation.starts_with('0')
            && generation.bytes().all(|b| b.is_ascii_digit());
        if !plain {
            return Err(refused());
        }
        let generation = generation.parse().map_err(|_| refused())?;
        let hash = RevHash::parse(hash).map_err(|_| refused())?;
        Self::new(generation, hash).map_err(|_| refused())
    }

    /// The number before the dash; 1 for a first revision.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The part after the dash.
    #[must_use]
    pub fn hash(&self) -> &RevHash {
        &self.hash
    }

    /// Appends the revision's text.
    pub(crate) fn push_to(&self, out: &mut String) {
        use fmt::Write as _;
        let _ = write!(out, "{}-", self.generation);
        self.hash.push_to(out);
    }
}

impl fmt::Display for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.generation, self.hash)
    }
}

impl fmt::Debug for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Rev {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// A revision with its ancestors, newest first, as `_revisions` tells it: generations fall by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevPath {
    start: u64,
    hashes: Vec<RevHash>,
}

impl RevPath {
    /// A revision whose ancestors are not known.
    #[must_use]
    pub fn single(rev: Rev) -> Self {
        Self { start: rev.generation, hashes: vec![rev.hash] }
    }

    /// From `_revisions`: the newest generation and the hashes, newest first.
    ///
    /// # Errors
    /// [`ParseError::SpecialValue`] if there are no hashes or more hashes than generations.
    pub fn new(start: u64, hashes: Vec<RevHash>) -> Result<Self, ParseError> {
        let problem = if hashes.is_empty() {
            "ids must not be empty"
        } else if start > GENERATION_MAX {
            "start is too large"
        } else if start < hashes.len() as u64 {
            "start is smaller than the number of ids"
        } else {
            return Ok(Self { start, hashes });
        };
        Err(ParseError::SpecialValue { member: "_revisions", problem })
    }

    /// The newest revision.
    #[must_use]
    pub fn leaf(&self) -> Rev {
        Rev { generation: self.start, hash: self.hashes[0].clone() }
    }

    /// The newest generation.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Hashes, newest first.
    #[must_use]
    pub fn hashes(&self) -> &[RevHash] {
        &self.hashes
    }

    /// Revisions, newest first.
    #[must_use]
    pub fn revs(&self) -> impl DoubleEndedIterator<Item = Rev> + ExactSizeIterator + '_ {
        self.hashes
            .iter()
            .enumerate()
            .map(|(age, hash)| Rev { generation: self.start - age as u64, hash: hash.clone() })
    }

    /// Forgets all but the newest `revs` revisions (at least one).
    pub fn truncate(&mut self, revs: usize) {
        self.hashes.truncate(revs.max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for good in [
            "1-a",
            "3-c2",
            "2-967a00dff5e02add41819138abb3284d",
            "9007199254740991-x",
            "1-a-b",
            "2-é",
            "1-",
        ] {
            assert_eq!(Rev::parse(good).expect(good).to_string(), good);
        }
        for bad in [
            "",
            "1",
            "-a",
            "0-a",
            "01-a",
            "x-a",
            "+1-a",
            " 1-a",
            "1.5-a",
            "9007199254740992-a",
            "99999999999999999999-a",
        ] {
            assert!(Rev::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn order_is_that_of_the_texts() {
        let texts = [
            "967a00dff5e02add41819138abb3284d",
            "967A00DFF5E02ADD41819138ABB3284D",
            "a",
            "",
            "967a00dff5e02add41819138abb3284e",
            "967a00dff5e02add41819138abb3284",
            "967a00dff5e02add41819138abb3284d0",
            "z",
            "Z",
            "é",
            "0",
        ];
        for a in texts {
            for b in texts {
                let (left, right) = (RevHash::parse(a).unwrap(), RevHash::parse(b).unwrap());
                assert_eq!(left.cmp(&right), a.cmp(b), "{a} {b}");
                assert_eq!(left == right, a == b);
            }
        }
    }

    #[test]
    fn generation_comes_before_hash() {
        assert!(Rev::parse("10-a").unwrap() > Rev::parse("9-z").unwrap());
    }

    #[test]
    fn paths_must_fit_their_generation() {
        let hash = |text| RevHash::parse(text).unwrap();
        assert!(RevPath::new(2, vec![hash("b"), hash("a")]).is_ok());
        assert!(RevPath::new(1, vec![hash("b"), hash("a")]).is_err());
        assert!(RevPath::new(0, vec![]).is_err());
        let path = RevPath::new(5, vec![hash("e"), hash("d")]).unwrap();
        let revs: Vec<String> = path.revs().map(|r| r.to_string()).collect();
        assert_eq!(revs, ["5-e", "4-d"]);
    }
}
