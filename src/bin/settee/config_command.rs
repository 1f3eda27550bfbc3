//! `settee config`: looks at configuration files.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;

use crate::config::Config;
use crate::failure::Failure;

/// Check configuration files
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration file as `serve` would, and the files that it names
    ///
    /// Environment variables that override keys count too. The exit code is 0 if the file can be
    /// used, else 1, and one line says what is wrong and where.
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let Command::Check { file } = &args.command;
    let in_file = |error: Failure| match error {
        named @ (Failure::Config { .. } | Failure::Io { .. } | Failure::Variable { .. }) => named,
        other => Failure::Config { path: file.clone(), problem: other.to_string() },
    };
    Config::load(Some(file)).and_then(|config| config.check()).map_err(in_file)?;
    writeln!(std::io::stdout(), "{} can be used", file.display()).map_err(Failure::stdout)
}
