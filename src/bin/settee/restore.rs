//! `settee restore`: a data directory of a backup.

use std::io::Write as _;
use std::path::PathBuf;

use settee::store::RestoreOptions;
use settee::{DbName, Store};

use crate::backup::open;
use crate::failure::Failure;
use crate::place::db_name;

/// Make a data directory of a backup
///
/// Makes a data directory of a backup and of those with the changes since, in the order they were
/// made. It can be opened only when everything was restored. Databases count as new ones, and
/// checkpoints stay behind, so that every client compares what it has.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory, which must not be there, or be empty
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// A whole backup, then those made with --since
    #[arg(value_name = "FILE", required = true)]
    archives: Vec<PathBuf>,
    /// Only this database; may be repeated
    #[arg(long = "db", value_name = "NAME")]
    databases: Vec<String>,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let only: Vec<DbName> =
        args.databases.iter().map(|name| db_name(name)).collect::<Result<_, _>>()?;
    let mut archives = Vec::with_capacity(args.archives.len());
    for path in &args.archives {
        archives.push(open(path).map_err(Failure::file("read", path))?);
    }
    let restored = Store::restore(&args.dir, archives, RestoreOptions { only }).await?;
    let mut stdout = std::io::stdout();
    for (name, reached) in &restored.databases {
        writeln!(stdout, "{name}: as it was at seq {}", reached.seq).map_err(Failure::stdout)?;
    }
    let (docs, checkpoints) = (restored.docs, restored.checkpoints);
    writeln!(stdout, "{docs} documents restored, {checkpoints} checkpoints left out")
        .map_err(Failure::stdout)
}
