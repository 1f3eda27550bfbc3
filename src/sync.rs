//! The locks of structures that many tasks share: the standard library's. `tests/races.rs` compiles the
//! same structures with locks of which it tries the orders.

pub(crate) use std::sync::{Mutex, MutexGuard};
