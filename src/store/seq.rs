//! Update seqs as the wire shows them: opaque text that also names the database's incarnation.

use std::fmt;

use super::backend::Uuid;

/// A place in a database's changes feed.
///
/// Written `NUMBER-INCARNATION`, where the number counts the database's changes and the second part
/// (16 hex digits) changes when a database is destroyed and made again or restored from a backup.
/// Clients send it back verbatim; only its beginning, a number, may be read, to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seq {
    /// The update seq.
    pub number: u64,
    incarnation: u64,
}

impl Seq {
    pub(super) fn new(number: u64, incarnation: Uuid) -> Self {
        let (head, _) = incarnation.0.split_first_chunk().expect("16 bytes hold 8");
        Self { number, incarnation: u64::from_be_bytes(*head) }
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.number, self.incarnation)
    }
}

/// Where a reader of the changes feed begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Since {
    /// Before the first change.
    #[default]
    Start,
    /// After the last change there is.
    Now,
    /// After a place this database told. One told by another incarnation counts as
    /// [`Since::Start`]: what was read from a destroyed database says nothing about this one.
    After(Seq),
    /// After a number of this database.
    Number(u64),
}

impl Since {
    /// Reads `0`, `now`, a bare number, or a [`Seq`]'s text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "now" {
            return Some(Self::Now);
        }
        let (number, incarnation) = match text.split_once('-') {
            None => (text, None),
            Some((number, incarnation)) => (number, Some(incarnation)),
        };
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let number: u64 = number.parse().ok().filter(|_| digits)?;
        let Some(incarnation) = incarnation else {
            return Some(if number == 0 { Self::Start } else { Self::Number(number) });
        };
        let plain = incarnation.len() == 16
            && incarnation.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let incarnation = u64::from_str_radix(incarnation, 16).ok().filter(|_| plain)?;
        Some(Self::After(Seq { number, incarnation }))
    }

    /// The update seq to read after, in a database whose last one is `update_seq`. A place that is
    /// yet to come counts as [`Since::Now`].
    pub(super) fn resolve(self, update_seq: u64, incarnation: Uuid) -> u64 {
        match self {
            Self::Start => 0,
            Self::Now => update_seq,
            Self::Number(number) => number.min(update_seq),
            Self::After(seq) if seq == Seq::new(seq.number, incarnation) => {
                seq.number.min(update_seq)
            }
            Self::After(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let here = Uuid([7; 16]);
        let seq = Seq::new(42, here);
        assert_eq!(seq.to_string(), "42-0707070707070707");
        assert_eq!(Since::parse(&seq.to_string()), Some(Since::After(seq)));
        assert_eq!(Since::After(seq).resolve(50, here), 42);
        assert_eq!(Since::After(seq).resolve(50, Uuid([8; 16])), 0);
        assert_eq!(Since::After(seq).resolve(41, here), 41);
        assert_eq!(Since::Number(9).resolve(8, here), 8);
        assert_eq!(Since::parse("0"), Some(Since::Start));
        assert_eq!(Since::parse("17"), Some(Since::Number(17)));
        assert_eq!(Since::parse("now").map(|s| s.resolve(50, here)), Some(50));
        for bad in [
            "",
            "-",
            "x",
            "1-",
            "1-xyz",
            "-1",
            "1.5",
            "+1",
            "1-07070707070707070",
            "99999999999999999999",
        ] {
            assert_eq!(Since::parse(bad), None, "{bad}");
        }
    }
}
