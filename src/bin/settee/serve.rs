//! `settee serve`: the gateway.

use std::io::Write as _;
use std::path::PathBuf;

use settee::access::{Access, Identity, Policy, Roles, Secret};
use settee::server::{Endpoint, ServerRequest};
use settee::{AccessRequest, Gateway, Grant, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use crate::audit::Trail;
use crate::certificates::Certificates;
use crate::config::{Checked, Config, Listen, Tls, Validators};
use crate::failure::Failure;
use crate::hangup::{Hangup, Reread};
use crate::logs::Logs;

const LISTEN_DEFAULT: &str = "127.0.0.1:5984";
const DATA_DEFAULT: &str = "data";

/// Serve the databases of a data directory to clients
///
/// Once it takes connections it prints to standard output where: `listening on http://ADDR`, a line
/// for each place.
/// Logs go to standard error; the environment variable SETTEE_LOG filters them (`debug`,
/// `settee=trace`), above the table log of the file. SIGINT and SIGTERM stop it gracefully, a second
/// one at once. SIGHUP reads the rules of access, the log's level and the certificates again and
/// reopens the audit trail; certificates are also read when they change.
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
    /// A TOML file; settee.example.toml has every key. Environment variables override it
    /// (`SETTEE_LIMITS__CONNECTIONS_MAX=7`), and flags both
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
    /// The settings of the file and the environment, overridden by the flags. A list of flags takes
    /// the place of the file's.
    fn settings(&self) -> Result<Config, Failure> {
        let file = Config::load(self.config.as_deref())?;
        let tokens = self.tokens.iter().map(Secret::new).collect::<Vec<_>>();
        let origins = self.allowed_origins.clone();
        let tls = self.tls_cert.clone().zip(self.tls_key.clone());
        let tls = tls.map(|(cert, key)| Tls { cert, key });
        let listen = match (self.listen.clone(), tls) {
            (addresses, tls) if !addresses.is_empty() => Some(Listen::of_flags(addresses, tls)),
            (_, Some(tls)) => Some(Listen::of_flags(vec![LISTEN_DEFAULT.into()], Some(tls))),
            (_, None) => file.listen,
        };
        Ok(Config {
            listen,
            data: self.data.clone().or(file.data),
            tokens: if tokens.is_empty() { file.tokens } else { tokens },
            open: self.open || file.open,
            static_dir: self.static_dir.clone().or(file.static_dir),
            allowed_origins: if origins.is_empty() { file.allowed_origins } else { origins },
            legacy: if self.no_legacy { Some(false) } else { file.legacy },
            ..file
        })
    }

    /// What SIGHUP may change, as it is in the file at this moment.
    fn read_again(&self, open: bool) -> Result<Reread, Failure> {
        let settings = self.settings()?;
        if settings.open != open {
            return Err(Failure::OpenChanged);
        }
        let (chain, _) = settings.check()?;
        Ok(Reread { log: settings.log, chain })
    }
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let settings = args.settings()?;
    let (chain, validators) = settings.check()?;
    let access = Access::new(chain);
    let open = settings.open;
    let logs = Logs::begin(&settings.log)?;
    let (trail, writing) = settings.audit.path.as_deref().map(Trail::open).transpose()?.unzip();
    let listen = || Listen::of_flags(vec![LISTEN_DEFAULT.into()], None);
    let places = places(settings.listen.clone().unwrap_or_else(listen), &settings).await?;
    let _certificates = Certificates::keep(places.iter().filter_map(Checked::tls))?;
    // Before the listener: what signals do must not depend on how far the start has come.
    let mut signals = Signals::new()?;
    let hangup = Hangup::new(logs, trail.clone(), access.clone())?;
    let data = settings.data.clone().unwrap_or_else(|| DATA_DEFAULT.into());
    let store = Store::open_with(&data, settings.limits.clone())?;
    let given = Given { access, validators, trail };
    let gateway = gateway(store.clone(), settings, given)?;
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
        () = hangup.run(&gateway, || args.read_again(open)) => {}
    }
    store.close().await?;
    drop(gateway);
    if let Some(writing) = writing {
        writing.end();
    }
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

/// What a gateway is given beside its settings.
struct Given {
    access: Access,
    validators: Validators,
    trail: Option<Trail>,
}

fn gateway(store: Store, settings: Config, given: Given) -> Result<Gateway, Failure> {
    let Given { access, validators, trail } = given;
    let mut builder = Gateway::builder(store)
        .metrics(settings.metrics.access())
        .limits(settings.limits)
        .compaction(settings.compaction.policy())
        .tombstones(settings.tombstones.policy())
        .quotas(settings.quotas.into_iter().map(Into::into).collect())
        .backup_bytes_per_second_max(settings.backup.bytes_per_second_max())
        .allowed_origins(settings.allowed_origins)
        .ephemeral(settings.ephemeral_databases)
        .trusted_proxies(settings.trusted_proxies)
        .forwarded_header(settings.forwarded_header.header())
        .legacy(settings.legacy.unwrap_or(true));
    builder = validators.add_to(builder);
    if let Some(directory) = settings.static_dir {
        builder = builder.static_dir(directory);
    }
    if let Some(trail) = trail {
        builder = builder.audit(trail);
    }
    let builder = if settings.open {
        builder
            .authorizer(|request: AccessRequest| async move {
                Ok(Grant::database(request.database).creating().destroying().administering())
            })
            .server_authorizer(|request: ServerRequest| async move {
                let claimed = request.credentials["name"].as_str().map(str::to_owned);
                let anybody = Identity { claimed, ..Identity::default() };
                Ok(Roles::default().server_grant(&anybody, &Policy::everything()))
            })
            .loopback_hosts_only()
    } else {
        builder.authorizer(access.clone()).server_authorizer(access)
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
        Ok(Self {
            interrupt: taken(SignalKind::interrupt())?,
            terminate: taken(SignalKind::terminate())?,
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

fn taken(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|source| Failure::Io { doing: "take signals".into(), source })
}
