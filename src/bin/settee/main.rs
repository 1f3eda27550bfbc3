//! The `settee` command: a gateway, and tools for the databases of a data directory.

mod audit;
mod backup;
mod certificates;
mod check;
mod compact;
mod config;
mod config_command;
mod destroy;
mod dump;
mod failure;
mod hangup;
mod hash_password;
mod info;
mod input;
mod list;
mod load;
mod logs;
mod place;
mod progress;
mod purge;
mod restore;
mod salvage;
mod serve;
mod sync;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

use failure::Failure;

/// Much of what the store costs is allocating pages in one thread and freeing them in another, at
/// which this one is faster than the system's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A document database replication gateway.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Sync(sync::Args),
    Load(load::Args),
    Dump(dump::Args),
    Info(info::Args),
    List(list::Args),
    Check(check::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Salvage(salvage::Args),
    Compact(compact::Args),
    Purge(purge::Args),
    Destroy(destroy::Args),
    Config(config_command::Args),
    HashPassword(hash_password::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Reported) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("settee: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::Io { doing: "start the runtime".into(), source })?;
    let result = runtime.block_on(async {
        match command {
            Command::Serve(args) => serve::run(args).await,
            Command::Sync(args) => sync::run(args).await,
            Command::Load(args) => load::run(args).await,
            Command::Dump(args) => dump::run(args).await,
            Command::Info(args) => info::run(args).await,
            Command::List(args) => list::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::Backup(args) => backup::run(args).await,
            Command::Restore(args) => restore::run(args).await,
            Command::Salvage(args) => salvage::run(args).await,
            Command::Compact(args) => compact::run(args).await,
            Command::Purge(args) => purge::run(args).await,
            Command::Destroy(args) => destroy::run(args).await,
            Command::Config(args) => config_command::run(&args),
            Command::HashPassword(_) => hash_password::run(),
        }
    });
    // A thread that waits for standard input cannot be told to stop.
    runtime.shutdown_background();
    result
}
