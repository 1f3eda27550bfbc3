//! `settee check`: everything is read and compared.

use std::io::Write as _;

use crate::failure::Failure;
use crate::place::{DirOrPlaceArgs, databases, open_store};

/// Reads everything a data directory or a database holds and prints what does not fit together, a
/// line for each problem. The exit code is 0 if there is none, else 1.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: DirOrPlaceArgs,
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
    }
    store.close().await?;
    if problems > 0 { Err(Failure::Reported) } else { Ok(()) }
}
