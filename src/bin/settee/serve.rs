//! `settee serve`: the gateway.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use settee::server::{ServerError, ServerRequest};
use settee::{AccessRequest, Gateway, Store};
use tokio::net::{TcpListener, lookup_host};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::failure::Failure;
use crate::token::{Tokens, everything, everything_of_server};

const LISTEN_DEFAULT: &str = "127.0.0.1:5984";
const DATA_DEFAULT: &str = "data";

/// Once it takes connections it prints one line to standard output: `listening on http://ADDR`.
/// Logs go to standard error; the environment variable SETTEE_LOG filters them (`debug`,
/// `settee=trace`). SIGINT and SIGTERM stop it gracefully, a second one at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:5984]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where databases are stored; made if it is not there [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A TOML file with the keys listen, data, tokens, open, static_dir, allowed_origins, legacy
    /// and the tables limits and compaction. Flags override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lets whoever shows it open, make and destroy any database; may be repeated
    #[arg(long = "token", value_name = "TOKEN", env = "SETTEE_TOKEN", hide_env_values = true)]
    tokens: Vec<String>,
    /// Lets everybody do so, on a loopback address only
    #[arg(long)]
    open: bool,
    /// Serves the files of this directory
    #[arg(long = "static", value_name = "DIR")]
    static_dir: Option<PathBuf>,
    /// Lets pages of this origin (https://app.example) connect; may be repeated
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    allowed_origins: Vec<String>,
    /// Refuses clients of the npm package pouch-websocket-sync, which are served otherwise
    #[arg(long)]
    no_legacy: bool,
}

impl Args {
    /// The file's settings, overridden by the flags. A list of flags takes the place of the file's.
    fn settings(self) -> Result<Config, Failure> {
        let file = self.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
        let either = |flags: Vec<String>, file| if flags.is_empty() { file } else { flags };
        Ok(Config {
            listen: self.listen.or(file.listen),
            data: self.data.or(file.data),
            tokens: either(self.tokens, file.tokens),
            open: self.open || file.open,
            static_dir: self.static_dir.or(file.static_dir),
            allowed_origins: either(self.allowed_origins, file.allowed_origins),
            legacy: if self.no_legacy { Some(false) } else { file.legacy },
            limits: file.limits,
            compaction: file.compaction,
        })
    }
}

/// Everything is checked before the data directory is touched.
fn check(settings: &Config) -> Result<(), Failure> {
    settings.limits.validate()?;
    if let Some(policy) = settings.compaction.policy() {
        policy.validate().map_err(ServerError::from)?;
    }
    if settings.tokens.iter().any(String::is_empty) {
        return Err(Failure::EmptyToken);
    }
    match (settings.open, settings.tokens.is_empty()) {
        (false, true) => return Err(Failure::NoTokens),
        (true, false) => return Err(Failure::OpenWithTokens),
        _ => {}
    }
    match &settings.static_dir {
        Some(path) if !path.is_dir() => Err(Failure::NoStaticDir { path: path.clone() }),
        _ => Ok(()),
    }
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let settings = args.settings()?;
    check(&settings)?;
    let filter = EnvFilter::try_from_env("SETTEE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let listen = settings.listen.clone().unwrap_or_else(|| LISTEN_DEFAULT.into());
    let addresses = addresses(&listen, settings.open).await?;
    // Before the listener: what signals do must not depend on how far the start has come.
    let mut signals = Signals::new()?;
    let data = settings.data.clone().unwrap_or_else(|| DATA_DEFAULT.into());
    let store = Store::open_with(&data, settings.limits.clone())?;
    let gateway = gateway(store.clone(), settings)?;
    let listener = TcpListener::bind(&*addresses)
        .await
        .map_err(|source| Failure::Listen { listen: listen.clone(), source })?;
    let address = listener.local_addr().map_err(|source| Failure::Listen { listen, source })?;
    announce(address)?;
    info!(%address, data = %data.display(), "serving");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = gateway.serve(listener, async {
        // The sender is dropped or used: both mean stop.
        let _ = stopped.await;
    });
    let second_signal = async {
        signals.next().await;
        info!("stopping: no new connections; signal again to stop at once");
        drop(stop);
        signals.next().await;
    };
    tokio::select! {
        () = serving => info!("every connection has ended"),
        () = second_signal => info!("connections are cut"),
    }
    store.close().await?;
    info!("stopped");
    Ok(())
}

async fn addresses(listen: &str, open: bool) -> Result<Vec<SocketAddr>, Failure> {
    let refused = |source| Failure::Listen { listen: listen.to_owned(), source };
    let addresses: Vec<SocketAddr> = lookup_host(listen).await.map_err(refused)?.collect();
    if open && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(Failure::OpenToOthers { listen: listen.to_owned() });
    }
    Ok(addresses)
}

fn gateway(store: Store, settings: Config) -> Result<Gateway, Failure> {
    let mut builder = Gateway::builder(store)
        .limits(settings.limits)
        .compaction(settings.compaction.policy())
        .allowed_origins(settings.allowed_origins)
        .legacy(settings.legacy.unwrap_or(true));
    if let Some(directory) = settings.static_dir {
        builder = builder.static_dir(directory);
    }
    let builder = if settings.open {
        builder
            .authorizer(|request: AccessRequest| async move { Ok(everything(request)) })
            .server_authorizer(|request: ServerRequest| async move {
                Ok(everything_of_server(&request))
            })
            .loopback_hosts_only()
    } else {
        let tokens = Tokens::new(&settings.tokens);
        let server_tokens = tokens.clone();
        builder
            .authorizer(move |request: AccessRequest| {
                let answer = tokens.judge(request);
                async move { answer }
            })
            .server_authorizer(move |request: ServerRequest| {
                let answer = server_tokens.judge_server(&request);
                async move { answer }
            })
    };
    Ok(builder.build()?)
}

/// Tells the process that started this one.
fn announce(address: SocketAddr) -> Result<(), Failure> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on http://{address}")
        .and_then(|()| stdout.flush())
        .map_err(Failure::stdout)
}

/// What asks the process to stop.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub fn new() -> Result<Self, Failure> {
        let take = |kind| {
            signal(kind).map_err(|source| Failure::Io { doing: "take signals".into(), source })
        };
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
        })
    }

    /// The next signal to stop.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
