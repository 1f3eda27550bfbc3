//! The gateway's process, which is stopped and killed, and started again at the same address.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::access::KEY;
use super::super::binary::{Served, arg, command};
use super::{ADMIN, Stage};

/// A graceful stop gives connections this long, and some time to end.
const STOPS: Duration = Duration::from_secs(25);

pub struct Gateway {
    config: PathBuf,
    pub data: PathBuf,
    pub log: PathBuf,
    address: String,
    served: Option<Served>,
    /// Longest times to stop, and to be there again.
    pub stopped: Duration,
    pub started: Duration,
}

impl Gateway {
    /// Starts it for the first time, on a free port.
    pub fn start(dir: &Path) -> Self {
        let config = dir.join("settee.toml");
        std::fs::write(&config, settings()).expect("a directory of its own can be written");
        let mut gateway = Self {
            config,
            data: dir.join("data"),
            log: dir.join("log"),
            address: "127.0.0.1:0".to_owned(),
            served: None,
            stopped: Duration::ZERO,
            started: Duration::ZERO,
        };
        gateway.serve();
        gateway
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn pid(&self) -> u32 {
        self.served.as_ref().expect("it is up").pid()
    }

    fn serve(&mut self) {
        let began = Instant::now();
        let (config, data) = (arg(&self.config), arg(&self.data));
        let args = ["serve", "--config", config, "--data", data, "--listen", &self.address];
        let mut command = command(&args);
        let log: File =
            OpenOptions::new().create(true).append(true).open(&self.log).expect("a log");
        command.stderr(log);
        let served = Served::spawn_logged(command);
        self.address.clone_from(&served.address);
        self.served = Some(served);
        self.started = self.started.max(began.elapsed());
    }

    /// Stops it in good order, which it must end with success.
    pub fn stop(&mut self) {
        let began = Instant::now();
        let (status, _) = self.served.take().expect("it is up").stop("TERM");
        assert!(status.success(), "the gateway ended with {status}");
        self.stopped = self.stopped.max(began.elapsed());
        assert!(began.elapsed() < STOPS, "the gateway took {:?} to stop", began.elapsed());
    }

    /// Stops or kills it, and starts it again after a while.
    pub async fn restart(&mut self, stage: &Stage, kill: bool, pause: Duration) {
        stage.turns();
        tokio::task::block_in_place(|| {
            if kill { self.served.take().expect("it is up").kill() } else { self.stop() }
        });
        tokio::time::sleep(pause).await;
        tokio::task::block_in_place(|| self.serve());
        stage.turns();
        stage.count(if kill { "kills" } else { "graceful restarts" }, 1);
    }

    /// Lines of its log that tell of a failure of its own. A backup may fall behind.
    pub fn failures(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).expect("a log is text");
        let behind = "changes faster than its backup is read";
        let bad = |line: &&str| {
            line.contains("panicked") || line.contains("ERROR") && !line.contains(behind)
        };
        log.lines().filter(bad).map(str::to_owned).collect()
    }
}

/// The limits are those that are shipped, except that all clients are one address here, of which many
/// show tokens that have ended.
fn settings() -> String {
    format!(
        r#"tokens = ["{ADMIN}"]

[access.jwt]
leeway_s = 0
keys = [{{ algorithm = "HS256", secret = "{KEY}" }}]
rules = [{{ databases = "*", rights = ["read", "write", "create"] }}]

[limits]
failed_logins_per_minute_max = 0

[compaction]
old_mib_min = 2
old_part_min = 0.3
interval_s = 10
upload_age_s = 300

[log]
level = "warn"
"#
    )
}
