//! What the tests of the store share: the stores to run on, and short ways to say a document.
#![allow(dead_code, reason = "each test file uses some of these")]

pub mod documents;
pub mod stores;
pub mod yielding;
