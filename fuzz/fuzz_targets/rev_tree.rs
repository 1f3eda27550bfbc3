#![no_main]

#[path = "../bodies/rev_tree.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
