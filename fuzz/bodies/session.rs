//! Any messages leave a session whole; what parses is printed and parsed to the same.

use settee::proto::message::{ClientMessage, Piece, ServerMessage};
use settee::proto::session::{Action, Session};

const CHANNELS_MAX: usize = 3;

fn same_when_printed(text: &str) {
    if let Ok(message) = ClientMessage::parse(text) {
        let printed = message.encode();
        let again = ClientMessage::parse(&printed).expect("what was printed must parse");
        assert_eq!(again.encode(), printed);
    }
    if let Ok(message) = ServerMessage::parse(text) {
        let printed = message.encode();
        let again = ServerMessage::parse(&printed).expect("what was printed must parse");
        assert_eq!(again.encode(), printed);
    }
}

// Each line is a message; one that is no text is a binary message.
pub fn run(bytes: &[u8]) {
    let mut session = Session::new(CHANNELS_MAX);
    for line in bytes.split(|byte| *byte == b'\n') {
        let action = match std::str::from_utf8(line) {
            Ok(text) => {
                same_when_printed(text);
                session.text(text)
            }
            Err(_) => {
                let message = bytes::Bytes::copy_from_slice(line);
                if let Ok(piece) = Piece::parse(&message) {
                    assert_eq!(piece.encode(), message);
                }
                session.binary(&message)
            }
        };
        if let Some(Action::Open { channel, .. }) = action {
            assert!(session.opened(channel), "it was just made");
        }
        assert!(session.channels() <= CHANNELS_MAX);
    }
}
