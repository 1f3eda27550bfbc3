//! Looking over sled's log before sled opens it.
//!
//! sled reads its log from its last snapshot on. A message whose checksum is wrong ends a segment
//! there, or the whole log; sled writes zeros over what follows and opens with less, without a
//! word. That is right for what a crash tore at the log's end, where nothing was acknowledged, and
//! silent loss everywhere else. So the same messages are read here first, and damage below what
//! the log itself says was on disk is told. What lies before the snapshot is not read: sled
//! notices damage there when it reads the page.
//!
//! The first hard case is a segment that was free and was being written anew when the process ended:
//! buffers are written in any order, so the old header may stand before newer messages.
//!
//! The second is a power loss. What the log says was on disk need not have been: sled counts what it
//! wrote, and the sync comes after that. What is missing there is refused too, since it cannot be told
//! from damage; the committer syncs often, so that it is little and seldom. And sled fills free
//! segments with zeros when it opens the log, of which a power loss leaves some.
//!
//! Numbers are little-endian. A segment is a header (CRC-32 of the rest, LSN, LSN that was on disk
//! when the segment was begun, both XOR `i64::MAX`) and messages. A message is a CRC-32 of its body
//! and the rest of its header; a kind; length, segment number and page id as sled's varints; its
//! body. An LSN counts the log's bytes over all segments.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::RangeInclusive;
use std::path::Path;

use super::open::doing;
use super::value::SEGMENT_BYTES;
use crate::doc::varint::Reader;
use crate::store::error::StoreError;

const HEADER_BYTES: usize = 20;
/// No message begins in the last bytes of a segment.
const MESSAGE_HEADER_BYTES_MAX: usize = 32;
/// Disks write whole sectors.
const SECTOR_BYTES: usize = 512;
/// Fills the rest of a segment.
const CAP: u8 = 2;
/// Kinds that are messages.
const KINDS: RangeInclusive<u8> = 1..=11;

/// How the last opening of a log ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastOpening {
    Done,
    /// Free segments may be zeros in part.
    Cut,
}

/// Fails if sled would open with less than was on disk.
pub(super) fn check(sled_dir: &Path, last: LastOpening) -> Result<(), StoreError> {
    let path = sled_dir.join("db");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(StoreError::Io { doing: "open the database's file", source }),
    };
    let first = snapshot_lsn(sled_dir).map_err(doing("read sled's directory"))? / SEGMENT_LSNS;
    let damaged = look_over(file, first, last).map_err(doing("read the database's file"))?;
    damaged.map_or(Ok(()), |at| {
        let path = path.display();
        Err(StoreError::Damaged { what: format!("{path} does not have its checksum at byte {at}") })
    })
}

const SEGMENT_LSNS: u64 = SEGMENT_BYTES as u64;

/// Where the newest snapshot ends, which its name says.
fn snapshot_lsn(sled_dir: &Path) -> io::Result<u64> {
    let mut newest = 0;
    for entry in fs::read_dir(sled_dir)? {
        let name = entry?.file_name();
        let lsn = name.to_str().and_then(|name| name.strip_prefix("snap."));
        let lsn = lsn.and_then(|lsn| u64::from_str_radix(lsn, 16).ok());
        newest = newest.max(lsn.unwrap_or(0));
    }
    Ok(newest)
}

/// What a segment's header says.
struct Header {
    number: u64,
    stable_lsn: u64,
}

/// The place of the first damage in segments with this number or later ones.
fn look_over(mut file: File, first: u64, last: LastOpening) -> io::Result<Option<u64>> {
    let mut segments = Vec::new();
    let mut segment = vec![0; SEGMENT_BYTES];
    for offset in (0..file.metadata()?.len()).step_by(SEGMENT_BYTES) {
        read_at(&mut file, offset, &mut segment[..HEADER_BYTES])?;
        if let Some(header) = header(&segment) {
            segments.push((header, offset));
            continue;
        }
        // An unused segment is zero. One whose first message is whole was in use.
        read_at(&mut file, offset, &mut segment)?;
        let is_zero = segment.iter().take(HEADER_BYTES).all(|byte| *byte == 0);
        if !is_zero || message(&segment, HEADER_BYTES).is_some() {
            return Ok(Some(offset));
        }
    }
    let stable_lsn = segments.iter().map(|(header, _)| header.stable_lsn).max().unwrap_or(0);
    let newest = segments.iter().map(|(header, _)| header.number).max().unwrap_or(0);
    for (header, offset) in segments.into_iter().filter(|(header, _)| header.number >= first) {
        read_at(&mut file, offset, &mut segment)?;
        let end = end_of_messages(&segment, header.number);
        let Err(broken) = end else { continue };
        let freed = last == LastOpening::Cut && is_half_zeroed(&segment, broken);
        if header.number * SEGMENT_LSNS + broken as u64 <= stable_lsn
            && !freed
            && !is_overwritten(&segment[broken..], newest)
        {
            return Ok(Some(offset + broken as u64));
        }
    }
    Ok(None)
}

/// Fills the buffer, with zeros after the end of the file.
fn read_at(file: &mut File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer[filled..].fill(0);
    Ok(())
}

fn header(segment: &[u8]) -> Option<Header> {
    let mut reader = Reader(segment);
    let crc = !u32::from_le_bytes(reader.array()?);
    if crc != crc32fast::hash(&segment[4..HEADER_BYTES]) {
        return None;
    }
    let mut lsn = || reader.array().map(|bytes| u64::from_le_bytes(bytes) ^ i64::MAX as u64);
    let (lsn, stable_lsn) = (lsn()?, lsn()?);
    // The stable LSN of the first segment is -1.
    let stable_lsn = if stable_lsn > i64::MAX as u64 { 0 } else { stable_lsn };
    (lsn % SEGMENT_LSNS == 0).then_some(Header { number: lsn / SEGMENT_LSNS, stable_lsn })
}

/// Walks a segment's messages; the error is the place where there should be one.
fn end_of_messages(segment: &[u8], number: u64) -> Result<(), usize> {
    let mut at = HEADER_BYTES;
    while at <= SEGMENT_BYTES - MESSAGE_HEADER_BYTES_MAX {
        let message = message(segment, at).filter(|message| message.segment == number);
        let message = message.ok_or(at)?;
        if message.kind == CAP {
            break;
        }
        at += message.bytes;
    }
    Ok(())
}

/// Whether there are messages of a segment that is newer than all that have headers.
fn is_overwritten(rest: &[u8], newest: u64) -> bool {
    (0..rest.len()).any(|at| {
        // Few places look like a newer message, and only these are worth a checksum.
        rest.get(at + 4).is_some_and(|kind| KINDS.contains(kind))
            && head(rest, at).is_some_and(|head| head.segment > newest)
            && message(rest, at).is_some()
    })
}

/// Whether a message is broken since a sector of it is zero.
fn is_half_zeroed(segment: &[u8], broken: usize) -> bool {
    let bytes = head(&segment[broken..], 0).map_or(MESSAGE_HEADER_BYTES_MAX, |head| head.bytes);
    let sectors = broken / SECTOR_BYTES..(broken + bytes).div_ceil(SECTOR_BYTES);
    let mut sectors = segment.chunks(SECTOR_BYTES).take(sectors.end).skip(sectors.start);
    sectors.any(|sector| sector.iter().all(|byte| *byte == 0))
}

struct Message {
    kind: u8,
    segment: u64,
    bytes: usize,
}

/// A message's header, unchecked but for its kind and length.
fn head(segment: &[u8], at: usize) -> Option<Message> {
    let mut reader = Reader(segment.get(at + 4..)?);
    let kind = reader.byte().filter(|kind| KINDS.contains(kind))?;
    let length = usize::try_from(number(&mut reader)?).ok()?;
    let segment_number = number(&mut reader)?;
    number(&mut reader)?;
    reader.take(length)?;
    let bytes = segment.len() - at - reader.0.len();
    Some(Message { kind, segment: segment_number, bytes })
}

/// A whole message with its checksum.
fn message(segment: &[u8], at: usize) -> Option<Message> {
    let message = head(segment, at)?;
    let bytes = segment.get(at..at + message.bytes)?;
    let crc = !u32::from_le_bytes(*bytes.first_chunk()?);
    let mut reader = Reader(bytes.get(5..)?);
    let length = usize::try_from(number(&mut reader)?).ok()?;
    let (head, body) = bytes.split_at(bytes.len() - length);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(&head[4..]);
    (hasher.finalize() == crc).then_some(message)
}

/// sled's varint.
fn number(reader: &mut Reader<'_>) -> Option<u64> {
    let first = u64::from(reader.byte()?);
    Some(match first {
        0..=240 => first,
        241..=248 => 240 + 256 * (first - 241) + u64::from(reader.byte()?),
        249 => 2288 + 256 * u64::from(reader.byte()?) + u64::from(reader.byte()?),
        _ => {
            let mut bytes = [0; 8];
            let length = first as usize - 247;
            bytes[..length].copy_from_slice(reader.take(length)?);
            u64::from_le_bytes(bytes)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sled::close::wait_closed;

    #[test]
    fn numbers_are_read_as_sled_writes_them() {
        let cases: [(&[u8], u64); 7] = [
            (&[240], 240),
            (&[241, 1], 241),
            (&[248, 255], 2_287),
            (&[249, 0, 0], 2_288),
            (&[249, 255, 255], 67_823),
            (&[250, 0xf0, 8, 1], 67_824),
            (&[255, 1, 0, 0, 0, 0, 0, 0, 0x80], (1 << 63) + 1),
        ];
        for (bytes, wanted) in cases {
            let mut reader = Reader(bytes);
            assert_eq!((number(&mut reader), reader.0.len()), (Some(wanted), 0), "{bytes:?}");
            assert_eq!(number(&mut Reader(&bytes[..bytes.len() - 1])), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_bit_in_an_earlier_segment_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = ::sled::Config::new().path(dir.path()).segment_size(SEGMENT_BYTES);
        let db = config.open().expect("a new database opens");
        for n in 0..400_u32 {
            db.insert(n.to_be_bytes(), vec![n as u8; 20_000]).expect("it takes rows");
            db.flush().expect("it is flushed");
        }
        drop(db);
        wait_closed(dir.path(), dir.path()).expect("it closes");
        check(dir.path(), LastOpening::Done).expect("it is whole");
        let path = dir.path().join("db");
        let mut bytes = fs::read(&path).expect("it can be read");
        // Segments are used again: the newest one, where damage may be a torn end, stands anywhere.
        let numbers =
            bytes.chunks(SEGMENT_BYTES).map(|segment| header(segment).map(|it| it.number));
        let in_order = numbers.enumerate().filter_map(|(at, number)| Some((number?, at)));
        let (_, oldest) = in_order.min().expect("there are segments");
        let place = oldest * SEGMENT_BYTES + 1_000;
        let refused = |bytes: &[u8], last| {
            fs::write(&path, bytes).expect("it can be written");
            check(dir.path(), last).is_err_and(|error| {
                let error = error.to_string();
                assert!(error.contains("db does not have its checksum"), "{error}");
                true
            })
        };
        bytes[place] ^= 1;
        assert!(refused(&bytes, LastOpening::Done) && refused(&bytes, LastOpening::Cut));
        let sector = place / SECTOR_BYTES * SECTOR_BYTES;
        bytes[sector..sector + SECTOR_BYTES].fill(0);
        assert!(refused(&bytes, LastOpening::Done), "nobody was about to fill it with zeros");
        assert!(!refused(&bytes, LastOpening::Cut), "a power loss may leave a free segment so");
    }
}
