//! The protocol of the npm package `pouch-websocket-sync` 0.3 (2015), spoken where a WebSocket asks
//! for no subprotocol. Pure: no IO, no clock.
//!
//! `docs/LEGACY_PROTOCOL.md` is the specification. [`lines`] cuts what comes into records,
//! [`record`] is their grammar, [`mux`] knows the streams of a connection and says what to do,
//! [`call`] has calls, their options and what is answered, [`tree`] shows a revision tree as
//! PouchDB keeps it, [`attachments`] reads attachments as that client sends them.

pub mod attachments;
pub mod call;
pub mod lines;
pub mod mux;
pub mod record;
pub mod tree;
