//! `settee serve`: the gateway.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use settee::server::{Endpoint, ServerError, ServerGrant, ServerRequest};
use settee::{AccessRequest, Gateway, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::certificates::Certificates;
use crate::config::{Checked, Config, Listen, Tls};
use crate::failure::Failure;
use crate::token::{Tokens, everything};

const LISTEN_DEFAULT: &str = "127.0.0.1:5984";
const DATA_DEFAULT: &str = "data";

/// Once it takes connections it prints to standard output where: `listening on http://ADDR`, a line
/// for each place.
/// Logs go to standard error; the environment variable SETTEE_LOG filters them (`debug`,
/// `settee=trace`). Certificates are read again when they change, and on SIGHUP. SIGINT and SIGTERM
/// stop it gracefully, a second one at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen, HOST:PORT or unix:PATH; port 0 takes a free one; may be repeated [default:
    /// 127.0.0.1:5984]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Vec<String>,
    /// Speaks TLS there: a certificate in PEM, with those that vouch for it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Where databases are stored; made if it is not there [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A TOML file with the keys listen, data, tokens, open, static_dir, allowed_origins, legacy,
    /// trusted_proxies, forwarded_header and the tables limits and compaction. Flags override it
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
        let tls = self.tls_cert.zip(self.tls_key).map(|(cert, key)| Tls { cert, key });
        let listen = match (self.listen, tls) {
            (addresses, tls) if !addresses.is_empty() => Some(Listen::of_flags(addresses, tls)),
            (_, Some(tls)) => Some(Listen::of_flags(vec![LISTEN_DEFAULT.into()], Some(tls))),
            (_, None) => file.listen,
        };
        Ok(Config {
            listen,
            data: self.data.or(file.data),
            tokens: either(self.tokens, file.tokens),
            open: self.open || file.open,
            static_dir: self.static_dir.or(file.static_dir),
            allowed_origins: either(self.allowed_origins, file.allowed_origins),
            legacy: if self.no_legacy { Some(false) } else { file.legacy },
            trusted_proxies: file.trusted_proxies,
            forwarded_header: file.forwarded_header,
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
    let listen = || Listen::of_flags(vec![LISTEN_DEFAULT.into()], None);
    let places = places(settings.listen.clone().unwrap_or_else(listen), &settings).await?;
    let _certificates = Certificates::keep(places.iter().filter_map(Checked::tls))?;
    // Before the listener: what signals do must not depend on how far the start has come.
    let mut signals = Signals::new()?;
    let data = settings.data.clone().unwrap_or_else(|| DATA_DEFAULT.into());
    let store = Store::open_with(&data, settings.limits.clone())?;
    let gateway = gateway(store.clone(), settings)?;
    let mut endpoints = Vec::new();
    for place in places {
        endpoints.push(place.bind().await?);
    }
    announce(&endpoints)?;
    info!(data = %data.display(), "serving");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = gateway.serve_endpoints(endpoints, async {
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

/// Checks everything about the places before one of them is listened at.
async fn places(listen: Listen, settings: &Config) -> Result<Vec<Checked>, Failure> {
    let mut places = Vec::new();
    for table in listen.tables() {
        places.push(table.check().await?);
    }
    if places.is_empty() {
        return Err(Failure::NoListener);
    }
    for place in &places {
        let listen = || place.address().to_owned();
        if settings.open && place.is_reached_by_others() {
            return Err(Failure::OpenToOthers { listen: listen() });
        }
        if place.proxy_protocol() && settings.trusted_proxies.is_empty() {
            return Err(Failure::NoTrustedProxies { listen: listen() });
        }
    }
    Ok(places)
}

fn gateway(store: Store, settings: Config) -> Result<Gateway, Failure> {
    let mut builder = Gateway::builder(store)
        .limits(settings.limits)
        .compaction(settings.compaction.policy())
        .allowed_origins(settings.allowed_origins)
        .trusted_proxies(settings.trusted_proxies)
        .forwarded_header(settings.forwarded_header.header())
        .legacy(settings.legacy.unwrap_or(true));
    if let Some(directory) = settings.static_dir {
        builder = builder.static_dir(directory);
    }
    let builder = if settings.open {
        builder
            .authorizer(|request: AccessRequest| async move { Ok(everything(request)) })
            .server_authorizer(|_| async { Ok(ServerGrant::known().listing()) })
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
fn announce(endpoints: &[Endpoint]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout();
    for endpoint in endpoints {
        info!(%endpoint, "listening");
        writeln!(stdout, "listening on {endpoint}").map_err(Failure::stdout)?;
    }
    stdout.flush().map_err(Failure::stdout)
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
