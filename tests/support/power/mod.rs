//! A process that writes, the calls that it made, and what a power loss leaves of them.

pub mod disk;
pub mod judge;
pub mod script;
pub mod trace;
pub mod writer;

pub const WRITERS: usize = 4;
/// Operations of a writer.
pub const OPS: usize = 40;
