//! `settee compact`: what nobody can ask for by the current state of documents goes.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use settee::Store;
use settee::store::CompactOptions;

use crate::failure::Failure;
use crate::place::{DirOrPlaceArgs, databases, open_store};

/// Remove the bodies of old revisions, and attachments that nothing names
///
/// Removes the bodies of revisions that are no leaves, and then attachments that no document names.
/// Documents, conflicts and tombstones stay, and histories too. Prints what went, a line for each
/// database, and the bytes that the data directory takes on the disk before and after. A gateway
/// does this by itself while it serves; only with --rewrite does the disk get space back.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: DirOrPlaceArgs,
    /// Then writes the whole data directory into fresh files, which are as small as what is left.
    /// Needs the disk for both for a while; nothing is lost if it is killed
    #[arg(long)]
    rewrite: bool,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let (dir, name) = args.place.resolve()?;
    let size = || bytes_on_disk(&dir).map_err(Failure::file("measure", &dir));
    let before = size()?;
    let store = open_store(&dir)?;
    let mut stdout = io::stdout();
    for database in databases(&store, &dir, name.as_ref()).await? {
        let report = database.compact(CompactOptions::ALONE).await?;
        writeln!(
            stdout,
            "{}: {} bodies of {} bytes and {} attachments of {} bytes removed",
            database.name(),
            report.bodies,
            report.body_bytes,
            report.attachments,
            report.attachment_bytes,
        )
        .map_err(Failure::stdout)?;
    }
    store.close().await?;
    if args.rewrite {
        Store::rewrite(&dir)?;
    }
    let after = size()?;
    writeln!(stdout, "{}: {before} bytes on disk before, {after} after", dir.display())
        .map_err(Failure::stdout)
}

fn bytes_on_disk(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes +=
            if metadata.is_dir() { bytes_on_disk(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
