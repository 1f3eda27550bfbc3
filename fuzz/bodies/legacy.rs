//! Any frames of the protocol of 2015 leave its lines and streams whole, however they are cut; and
//! attachments in any text are read or refused.

use settee::Limits;
use settee::proto::legacy::attachments::with_plain_attachments;
use settee::proto::legacy::lines::Lines;
use settee::proto::legacy::mux::{Action, Mux};
use settee::proto::legacy::record::Record;

const STREAMS_MAX: usize = 3;
const LINE_BYTES_MAX: usize = 4_096;

fn lines_of(bytes: &[u8], frame_bytes: usize) -> Vec<String> {
    let mut lines = Lines::new(LINE_BYTES_MAX);
    let mut found = Vec::new();
    for frame in bytes.chunks(frame_bytes) {
        lines.push(frame);
        while let Ok(Some(line)) = lines.next_line() {
            found.push(line);
        }
    }
    found
}

pub fn run(bytes: &[u8]) {
    // The first byte says how long frames are; the others are what they bring.
    let Some((first, bytes)) = bytes.split_first() else { return };
    let lines = lines_of(bytes, usize::from(*first) + 1);
    if bytes.len() <= LINE_BYTES_MAX && std::str::from_utf8(bytes).is_ok() {
        assert_eq!(lines, lines_of(bytes, bytes.len().max(1)), "borders of frames mean nothing");
    }
    let mut mux = Mux::new(STREAMS_MAX);
    for line in &lines {
        let _ = Record::parse(line);
        let _ = with_plain_attachments(line, &Limits::default());
        if let Ok(Some(Action::Open { number, .. })) = mux.line(line) {
            assert!(mux.granted(number, format!("c{number}")), "it was just asked for");
        }
        assert!(mux.streams() <= STREAMS_MAX);
    }
}
