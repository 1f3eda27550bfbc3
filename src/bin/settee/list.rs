//! `settee list`: the databases of a data directory.

use std::io::Write as _;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::place::{databases, open_store};

/// List the databases of a data directory
///
/// Prints the names of the databases, one a line, in byte order.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A data directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let store = open_store(&args.dir)?;
    let mut stdout = std::io::stdout();
    for database in databases(&store, &args.dir, None).await? {
        writeln!(stdout, "{}", database.name()).map_err(Failure::stdout)?;
    }
    store.close().await?;
    Ok(())
}
