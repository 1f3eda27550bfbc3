//! Why a command failed: one line for its user, with what to do.

use std::io;
use std::path::{Path, PathBuf};

use settee::access::AccessError;
use settee::client::ClientError;
use settee::doc::SelectorError;
use settee::http_peer::RemoteError;
use settee::replicate::SyncError;
use settee::server::{ServerError, TlsError};
use settee::store::BackupError;
use settee::validate::ValidateError;
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
        "{url:?} is not ws://HOST:PORT/DB (or wss://, http://, https://), a server and the name of a database behind it"
    )]
    Url { url: String },
    #[error("{}: {source}", path.display())]
    Archive { path: PathBuf, source: BackupError },
    #[error("{url}: {problem}")]
    Gateway { url: String, problem: String },
    #[error("{}: {problem}", path.display())]
    Config { path: PathBuf, problem: String },
    #[error("environment variable {name}: {problem}")]
    Variable { name: String, problem: String },
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("{reason}")]
    Password { reason: &'static str },
    #[error("`open` cannot change while the gateway runs")]
    OpenChanged,
    #[error(
        "nobody could be let in: give --token TOKEN (or tokens or the table access in a --config FILE), or --open to let in everybody on this machine"
    )]
    NoTokens,
    #[error("a token must not be empty")]
    EmptyToken,
    #[error(
        "--open lets in everybody, --token and the table access only who is known: give one of them"
    )]
    OpenWithTokens,
    #[error(
        "--open serves this machine only, and {listen} can be reached from others; use --token"
    )]
    OpenToOthers { listen: String },
    #[error("{level:?} is no level of the log: use error, warn, info, debug or trace")]
    LogLevel { level: String },
    #[error("there is no directory {} to serve files from", path.display())]
    NoStaticDir { path: PathBuf },
    #[error("there is nowhere to listen: the list is empty")]
    NoListener,
    #[error("{mode:?} is no mode of a Unix socket: three octal digits like 660")]
    Mode { mode: String },
    #[error("{listen} has a mode, which only a unix:PATH may have")]
    ModeOfTcp { listen: String },
    #[error("{listen} wants PROXY headers, and no proxy is in trusted_proxies to send them")]
    NoTrustedProxies { listen: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot listen on {listen}: {source}")]
    Listen { listen: String, source: io::Error },
    #[error("cancelled before both sides were equal; run it again to go on")]
    Cancelled,
    #[error(
        "this looks like one JSON object over many lines; name the member that holds the documents with --array NAME"
    )]
    OneObject,
    #[error(transparent)]
    Store(StoreError),
    #[error("{0}; restore a backup, or see what `settee salvage DIR NEW_DIR` can still read")]
    Damaged(StoreError),
    #[error("nothing is salvaged: {0}")]
    NotSalvaged(StoreError),
    #[error(transparent)]
    Limits(#[from] LimitsError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("validate: {0}")]
    Validate(#[from] ValidateError),
    #[error("validate: {0}")]
    Selector(#[from] SelectorError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Sync(#[from] SyncError),
    #[error("cannot {doing}: {source}")]
    Io { doing: String, source: io::Error },
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged { .. } | StoreError::BlobMissing { .. } => Self::Damaged(error),
            error => Self::Store(error),
        }
    }
}

impl Failure {
    /// For `map_err`: what the command was doing with a file.
    pub fn file(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |source| Self::Io { doing, source }
    }

    /// For `map_err`: where the gateway was to listen.
    pub fn listen(listen: &str) -> impl FnOnce(io::Error) -> Self {
        let listen = listen.to_owned();
        move |source| Self::Listen { listen, source }
    }

    /// For `map_err`: writing to standard output.
    pub fn stdout(source: io::Error) -> Self {
        Self::Io { doing: "write to standard output".into(), source }
    }
}
