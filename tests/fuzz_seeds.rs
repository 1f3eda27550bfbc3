//! What the fuzz targets check, for their seeds and for seeds with a few bytes changed.
//!
//! `SETTEE_FUZZ` says how many times as many changed seeds are tried, `SETTEE_SEED` with which seed to
//! begin.

#[path = "../fuzz/bodies/access.rs"]
mod access;
#[path = "../fuzz/bodies/backup.rs"]
mod backup;
#[path = "../fuzz/bodies/calls.rs"]
mod calls;
#[path = "../fuzz/bodies/collation.rs"]
mod collation;
#[path = "../fuzz/bodies/document.rs"]
mod document;
#[path = "../fuzz/bodies/http.rs"]
mod http;
#[path = "../fuzz/bodies/legacy.rs"]
mod legacy;
#[path = "../fuzz/bodies/names.rs"]
mod names;
#[path = "../fuzz/bodies/patch.rs"]
mod patch;
#[path = "support/random.rs"]
mod random;
#[path = "../fuzz/bodies/rev.rs"]
mod rev;
#[path = "support/rev_model.rs"]
#[allow(dead_code, reason = "the laws of revision trees use the rest")]
mod rev_model;
#[path = "../fuzz/bodies/rev_tree.rs"]
mod rev_tree;
#[path = "../fuzz/bodies/selector.rs"]
mod selector;
#[path = "../fuzz/bodies/session.rs"]
mod session;
#[path = "../fuzz/bodies/store.rs"]
mod store;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use random::{Random, seed, setting};

/// Its name, how many changed seeds a test run tries, and what it does.
type Target = (&'static str, u64, fn(&[u8]));

const TARGETS: [Target; 14] = [
    ("access", 3_000, access::run),
    ("backup", 3_000, backup::run),
    ("calls", 3_000, calls::run),
    ("collation", 3_000, collation::run),
    ("document", 3_000, document::run),
    ("http", 300, http::run),
    ("legacy", 1_000, legacy::run),
    ("names", 3_000, names::run),
    ("patch", 3_000, patch::run),
    ("rev", 3_000, rev::run),
    ("rev_tree", 3_000, rev_tree::run),
    ("selector", 3_000, selector::run),
    ("session", 3_000, session::run),
    ("store", 1_000, store::run),
];

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(directory().join("seeds").join(target));
    let files = files.unwrap_or_else(|error| panic!("{target} has no seeds: {error}"));
    let mut paths: Vec<_> = files.map(|file| file.expect("it is listed").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("it is read")).collect()
}

/// Takes out, repeats, replaces and mixes a few pieces.
fn changed(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.choose(seeds).clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(8)).min(bytes.len());
        match random.below(6) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            2 if at < bytes.len() => bytes[at] = random.next() as u8,
            3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            4 => {
                let other = random.choose(seeds).clone();
                let from = random.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            _ => {
                const PIECES: [&str; 8] = ["\0", "{", "]", "\"", "-1", "1e999", "\u{10ffff}", "\n"];
                bytes.splice(at..at, random.choose(&PIECES).bytes());
            }
        }
    }
    bytes
}

#[test]
fn every_target_bears_its_seeds() {
    for (name, _, run) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        seeds.iter().for_each(|seed| run(seed));
    }
}

#[test]
fn every_target_bears_changed_seeds() {
    let (first, times) = (seed(), setting("SETTEE_FUZZ", 1));
    for (name, count, run) in TARGETS {
        let seeds = seeds(name);
        for number in 0..count * times {
            let seed = first.wrapping_add(number);
            let bytes = changed(&mut Random::new(seed), &seeds);
            if let Err(panic) = catch_unwind(|| run(&bytes)) {
                let shown = bytes.escape_ascii();
                println!("{name}: SETTEE_SEED={seed} cargo test --test fuzz_seeds; b\"{shown}\"");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[test]
fn every_target_is_built_and_run() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    let targets = fs::read_dir(directory().join("fuzz_targets")).expect("there are some");
    let targets = targets.map(|file| file.expect("it is listed").path());
    let stem = |path: std::path::PathBuf| path.file_stem()?.to_str().map(ToOwned::to_owned);
    assert_eq!(targets.filter_map(stem).collect::<BTreeSet<_>>(), names);
    let manifest = fs::read_to_string(directory().join("Cargo.toml")).expect("it is there");
    for name in names {
        assert!(manifest.contains(&format!("\nname = \"{name}\"\n")), "{name} is not built");
    }
}
