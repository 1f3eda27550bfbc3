//! The frames of an archive: every byte is covered by a checksum that also covers all before it.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::BackupError;

/// What an archive begins with; the format version is the byte that follows.
const MAGIC: &[u8; 7] = b"SETTEEB";
pub(super) const VERSION: u8 = 1;
/// Longest content of a frame.
pub(super) const FRAME_BYTES_MAX: usize = 256 * 1024;
/// Longest content of the frames of one record together: longer ones are taken for damage.
const RECORD_BYTES_MAX: usize = 1 << 30;
/// Set in the kind of every frame of a record but its last.
const GOES_ON: u8 = 0x80;
const CHECK_BYTES: usize = 8;

/// The digest of everything so far.
#[derive(Clone)]
struct Chain([u8; 32]);

impl Chain {
    fn begin() -> Self {
        Self(Sha256::new().chain_update(MAGIC).chain_update([VERSION]).finalize().into())
    }

    /// Takes a frame in; answers its checksum.
    fn take(&mut self, head: &[u8], content: &[u8]) -> [u8; CHECK_BYTES] {
        let digest = Sha256::new().chain_update(self.0).chain_update(head).chain_update(content);
        self.0 = digest.finalize().into();
        *self.0.first_chunk().expect("32 bytes hold 8")
    }
}

/// Makes the bytes of an archive.
pub(super) struct FrameWriter(Chain);

impl FrameWriter {
    pub(super) fn begin(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        Self(Chain::begin())
    }

    pub(super) fn record(&mut self, kind: u8, content: &[u8], out: &mut Vec<u8>) {
        let mut rest = content;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(FRAME_BYTES_MAX));
            let kind = if after.is_empty() { kind } else { kind | GOES_ON };
            let length = u32::try_from(piece.len()).expect("a frame is short");
            let [a, b, c, d] = length.to_be_bytes();
            let head = [a, b, c, d, kind];
            let check = self.0.take(&head, piece);
            out.extend_from_slice(&head);
            out.extend_from_slice(piece);
            out.extend_from_slice(&check);
            rest = after;
            if rest.is_empty() {
                return;
            }
        }
    }
}

/// Takes the bytes of an archive apart.
pub(super) struct FrameReader<R> {
    from: R,
    chain: Chain,
    /// The frame that was read last, from 1.
    frame: u64,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn begin(mut from: R) -> Result<Self, BackupError> {
        let mut head = [0; MAGIC.len() + 1];
        from.read_exact(&mut head).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => BackupError::NotABackup,
            _ => BackupError::Io(error),
        })?;
        let (magic, version) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(BackupError::NotABackup);
        }
        if version != [VERSION] {
            return Err(BackupError::TooNew { found: version[0], known: VERSION });
        }
        Ok(Self { from, chain: Chain::begin(), frame: 0 })
    }

    /// The next record: its kind and content.
    pub(super) fn record(&mut self) -> Result<(u8, Vec<u8>), BackupError> {
        let (kind, mut content) = self.frame(Vec::new())?;
        let mut last = kind;
        while last & GOES_ON != 0 {
            if content.len() > RECORD_BYTES_MAX {
                return Err(self.damaged("belongs to a record that is too long"));
            }
            (last, content) = self.frame(content)?;
            if last & !GOES_ON != kind & !GOES_ON {
                return Err(self.damaged("does not go on with the record before it"));
            }
        }
        Ok((last, content))
    }

    /// Reads a frame onto what was read before.
    fn frame(&mut self, mut content: Vec<u8>) -> Result<(u8, Vec<u8>), BackupError> {
        self.frame += 1;
        let mut head = [0; 5];
        self.read(&mut head)?;
        let [a, b, c, d, kind] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(self.damaged("is longer than a frame can be"));
        }
        let before = content.len();
        content.resize(before + length, 0);
        let frame = self.frame;
        self.from.read_exact(&mut content[before..]).map_err(|error| cut_or_io(error, frame))?;
        let mut check = [0; CHECK_BYTES];
        self.read(&mut check)?;
        if self.chain.take(&head, &content[before..]) != check {
            return Err(self.damaged("does not have its checksum"));
        }
        Ok((kind, content))
    }

    /// Makes sure that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), BackupError> {
        let mut byte = [0];
        match self.from.read(&mut byte) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damaged("is not the last, though it says so")),
            Err(error) => Err(BackupError::Io(error)),
        }
    }

    pub(super) fn damaged(&self, problem: &'static str) -> BackupError {
        BackupError::Damaged { frame: self.frame, problem }
    }

    /// The number of the frame that was read last.
    #[cfg(feature = "sled")]
    pub(super) fn number(&self) -> u64 {
        self.frame
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.from.read_exact(bytes).map_err(|error| cut_or_io(error, self.frame))
    }
}

fn cut_or_io(error: io::Error, frame: u64) -> BackupError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::Cut { frame },
        _ => BackupError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = FrameWriter::begin(&mut out);
        writer.record(b'a', b"first", &mut out);
        writer.record(b'b', &vec![7; 2 * FRAME_BYTES_MAX + 1], &mut out);
        writer.record(b'e', b"", &mut out);
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<(u8, usize)>, BackupError> {
        let mut reader = FrameReader::begin(bytes)?;
        let mut found = Vec::new();
        loop {
            let (kind, content) = reader.record()?;
            found.push((kind, content.len()));
            if kind == b'e' {
                reader.end()?;
                return Ok(found);
            }
        }
    }

    #[test]
    fn records_come_back_whatever_their_length() {
        let long = 2 * FRAME_BYTES_MAX + 1;
        assert_eq!(read(&archive()).unwrap(), [(b'a', 5), (b'b', long), (b'e', 0)]);
    }

    #[test]
    fn no_changed_byte_passes() {
        let whole = archive();
        let places = (0..64).chain(whole.len() - 64..whole.len()).chain([whole.len() / 2]);
        for place in places {
            for bit in [0, 3, 7] {
                let mut changed = whole.clone();
                changed[place] ^= 1 << bit;
                assert!(read(&changed).is_err(), "byte {place}, bit {bit}");
            }
        }
        for length in (0..40).chain(whole.len() - 40..whole.len()) {
            assert!(read(&whole[..length]).is_err(), "cut at {length}");
        }
        assert!(read(&[&whole[..], b"x"].concat()).is_err(), "more follows");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(matches!(read(b"{}"), Err(BackupError::NotABackup)));
        assert!(matches!(read(b"SETTEEB\x02..."), Err(BackupError::TooNew { found: 2, .. })));
        let whole = archive();
        assert!(matches!(read(&whole[..whole.len() - 1]), Err(BackupError::Cut { frame: 5 })));
    }
}
