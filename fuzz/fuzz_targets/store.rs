#![no_main]

#[path = "../bodies/store.rs"]
mod body;
#[path = "../../tests/support/rev_model.rs"]
#[allow(dead_code, reason = "tests of revision trees use the rest")]
mod rev_model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
