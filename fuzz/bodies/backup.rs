//! Bytes that are no archive are refused, with the checksums of an archive or without.

use settee::store::Manifest;
use sha2::{Digest as _, Sha256};

const MAGIC_AND_VERSION: &[u8] = b"SETTEEB\x01";

/// Pieces as frames: a kind, a length of one byte, so many bytes.
fn archive_of(mut pieces: &[u8]) -> Vec<u8> {
    let mut out = MAGIC_AND_VERSION.to_vec();
    let mut chain: [u8; 32] = Sha256::digest(MAGIC_AND_VERSION).into();
    while let [kind, length, rest @ ..] = pieces {
        let (content, after) = rest.split_at(rest.len().min(usize::from(*length)));
        let mut frame = u32::try_from(content.len()).expect("it is short").to_be_bytes().to_vec();
        frame.push(*kind);
        frame.extend_from_slice(content);
        chain = Sha256::new().chain_update(chain).chain_update(&frame).finalize().into();
        out.extend_from_slice(&frame);
        out.extend_from_slice(&chain[..8]);
        pieces = after;
    }
    out
}

pub fn run(bytes: &[u8]) {
    for archive in [bytes.to_vec(), archive_of(bytes)] {
        match Manifest::read(archive.as_slice()) {
            Ok(manifest) => {
                let printed = serde_json::to_string(&manifest).expect("names are text");
                let again: Manifest = serde_json::from_str(&printed).expect("it was printed");
                assert_eq!(again, manifest);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
