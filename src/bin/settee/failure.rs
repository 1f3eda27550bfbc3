//! Why a command failed: one line for its user, with what to do.

use std::io;
use std::path::{Path, PathBuf};

use settee::client::ClientError;
use settee::http_peer::RemoteError;
use settee::replicate::SyncError;
use settee::server::ServerError;
use settee::{DocId, LimitsError, ParseError, StoreError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command has said what was wrong.
    #[error("failed")]
    Reported,
    #[error("{} is not DIR/DB, a data directory and the name of a database in it; or use --db NAME", path.display())]
    Place { path: PathBuf },
    #[error("{name:?} cannot be a database: {source}")]
    DbName { name: String, source: ParseError },
    #[error("{} is not a data directory; `settee load` and `settee serve` make one", path.display())]
    NoDataDir { path: PathBuf },
    #[error("there is no database {name} in {}; `settee info {}` lists those there are", dir.display(), dir.display())]
    NoDatabase { name: String, dir: PathBuf },
    #[error(
        "not purged, since it is no leaf of {id}: {revs}; `settee dump` shows the leaves there are"
    )]
    NoLeaf { id: DocId, revs: String },
    #[error("{text:?} cannot be {what}: {source}")]
    Malformed { text: String, what: &'static str, source: ParseError },
    #[error(
        "{url:?} is not ws://HOST:PORT/DB (or http://, https://), a server and the name of a database behind it"
    )]
    Url { url: String },
    #[error("{}: {problem}", path.display())]
    Config { path: PathBuf, problem: String },
    #[error(
        "nobody could be let in: give --token TOKEN (or tokens in a --config FILE), or --open to let in everybody on this machine"
    )]
    NoTokens,
    #[error("a token must not be empty")]
    EmptyToken,
    #[error("--open lets in everybody, --token only who shows it: give one of them")]
    OpenWithTokens,
    #[error(
        "--open serves this machine only, and {listen} can be reached from others; use --token"
    )]
    OpenToOthers { listen: String },
    #[error("there is no directory {} to serve files from", path.display())]
    NoStaticDir { path: PathBuf },
    #[error("cannot listen on {listen}: {source}")]
    Listen { listen: String, source: io::Error },
    #[error("cancelled before both sides were equal; run it again to go on")]
    Cancelled,
    #[error(
        "this looks like one JSON object over many lines; name the member that holds the documents with --array NAME"
    )]
    OneObject,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Limits(#[from] LimitsError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Sync(#[from] SyncError),
    #[error("cannot {doing}: {source}")]
    Io { doing: String, source: io::Error },
}

impl Failure {
    /// For `map_err`: what the command was doing with a file.
    pub fn file(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |source| Self::Io { doing, source }
    }

    /// For `map_err`: writing to standard output.
    pub fn stdout(source: io::Error) -> Self {
        Self::Io { doing: "write to standard output".into(), source }
    }
}
