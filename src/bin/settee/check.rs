//! `settee check`: everything is read and compared.

use std::io::Write as _;

use settee::Database;
use settee::store::{CheckReport, CompactOptions};

use crate::failure::Failure;
use crate::place::{DirOrPlaceArgs, databases, open_store};

/// Read everything and say what does not fit together
///
/// Reads everything a data directory or a database holds and prints what does not fit together, a
/// line for each problem. The exit code is 0 if there is none, else 1. Attachments that no revision
/// names and indexes that must be built anew are told but are no problem. Files of databases that
/// were destroyed are removed by every opening of a data directory.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: DirOrPlaceArgs,
    /// Removes attachments that no revision names, where nothing else is wrong, and damaged
    /// indexes, which queries build anew. Other damage stays as it is
    #[arg(long)]
    repair: bool,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let (dir, name) = args.place.resolve()?;
    let store = open_store(&dir)?;
    let mut stdout = std::io::stdout();
    let mut problems = 0;
    for database in databases(&store, &dir, name.as_ref()).await? {
        let report = database.check().await?;
        let name = database.name();
        for problem in &report.problems {
            writeln!(stdout, "{name}: {problem}").map_err(Failure::stdout)?;
        }
        problems += report.problems.len();
        let (docs, bodies, attachments) = (report.docs, report.bodies, report.attachments);
        let found = match report.problems.len() {
            0 => "sound".to_owned(),
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        writeln!(
            stdout,
            "{name}: {found} ({docs} documents, {bodies} revisions, {attachments} attachments read)"
        )
        .map_err(Failure::stdout)?;
        if report.damaged_indexes > 0 {
            let note = damaged_indexes(&database, &report, args.repair).await?;
            writeln!(stdout, "{name}: {note}").map_err(Failure::stdout)?;
        }
        if report.unnamed_attachments > 0 {
            let note = unnamed(&database, &report, args.repair).await?;
            writeln!(stdout, "{name}: {note}").map_err(Failure::stdout)?;
        }
    }
    store.close().await?;
    if problems > 0 { Err(Failure::Reported) } else { Ok(()) }
}

/// What is said of indexes that do not agree with the documents, and done about them.
async fn damaged_indexes(
    database: &Database,
    report: &CheckReport,
    repair: bool,
) -> Result<String, Failure> {
    let count = report.damaged_indexes;
    if !repair {
        return Ok(format!("{count} damaged indexes; --repair removes them, to be built anew"));
    }
    database.rebuild_indexes().await?;
    Ok(format!("{count} damaged indexes removed; queries build them anew"))
}

/// What is said of attachments that no revision names, and done about them.
async fn unnamed(
    database: &Database,
    report: &CheckReport,
    repair: bool,
) -> Result<String, Failure> {
    let count = report.unnamed_attachments;
    if !repair {
        return Ok(format!("{count} attachments that no revision names; --repair removes them"));
    }
    // A revision that cannot be read may name them.
    if !report.problems.is_empty() {
        return Ok(format!("{count} attachments that no revision names stay, since it is damaged"));
    }
    let swept = database.sweep_attachments(CompactOptions::ALONE).await?;
    let (removed, bytes) = (swept.blobs, swept.bytes);
    Ok(format!("{removed} attachments of {bytes} bytes that no revision names removed"))
}
