//! What the gateway's process takes, looked at each second, and whether that stays what it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, interval};

use super::Stage;

/// One look.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub at: Duration,
    /// Which of the gateway's processes this is.
    pub life: u64,
    pub resident_bytes: u64,
    pub descriptors: u64,
    pub threads: u64,
    pub disk_bytes: u64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, life, resident_bytes, descriptors, threads, disk_bytes } = self;
        let mib = |bytes: &u64| *bytes as f64 / MIB;
        let (process, resident, disk) = (life / 2, mib(resident_bytes), mib(disk_bytes));
        let at = at.as_secs();
        write!(f, "| {at} | {process} | {resident:.0} | {descriptors} | {threads} | {disk:.1} |")
    }
}

/// Something that must not grow.
pub struct Measure {
    pub name: &'static str,
    pub unit: &'static str,
    pub of: fn(&Sample) -> f64,
    /// Beside a tenth more, so much more in [`Measure::unit`] is no growth.
    pub allowance: f64,
    /// What it may never exceed: more than twice what good runs take, and of memory the store's cache
    /// (256 MiB) and half as much again.
    pub highest: f64,
}

const MIB: f64 = 1_048_576.0;

pub const MEASURES: [Measure; 4] = [
    Measure {
        name: "resident",
        unit: "MiB",
        of: |sample| sample.resident_bytes as f64 / MIB,
        allowance: 8.0,
        highest: 384.0,
    },
    Measure {
        name: "descriptors",
        unit: "",
        of: |sample| sample.descriptors as f64,
        allowance: 8.0,
        highest: 256.0,
    },
    // Those of blocking work come and go with how long the disk takes.
    Measure {
        name: "threads",
        unit: "",
        of: |sample| sample.threads as f64,
        allowance: 16.0,
        highest: 128.0,
    },
    Measure {
        name: "disk",
        unit: "MiB",
        of: |sample| sample.disk_bytes as f64 / MIB,
        allowance: 16.0,
        highest: 128.0,
    },
];

#[derive(Clone)]
pub struct Watch {
    pub began: Instant,
    data: PathBuf,
    pid: Arc<Mutex<u32>>,
    samples: Arc<Mutex<Vec<Sample>>>,
}

impl Watch {
    pub fn new(data: &Path, pid: u32) -> Self {
        let pid = Arc::new(Mutex::new(pid));
        Self { began: Instant::now(), data: data.to_owned(), pid, samples: Arc::default() }
    }

    /// The gateway is another process.
    pub fn follow(&self, pid: u32) {
        *self.pid.lock().expect("nobody panics with it") = pid;
    }

    /// Looks each second, for ever, and prints a line for each so many seconds.
    pub async fn look_on(&self, stage: &Stage, line_s: u64) {
        println!("| s | process | resident MiB | descriptors | threads | disk MiB |");
        let mut seconds = interval(Duration::from_secs(1));
        let mut next_line = Duration::ZERO;
        loop {
            seconds.tick().await;
            // Between two processes there is none to look at.
            let Some(sample) = self.look(stage.life()) else { continue };
            if sample.at >= next_line {
                println!("{sample}");
                next_line = sample.at + Duration::from_secs(line_s);
            }
            self.samples.lock().expect("nobody panics with it").push(sample);
        }
    }

    fn look(&self, life: u64) -> Option<Sample> {
        let process = format!("/proc/{}", self.pid.lock().expect("nobody panics with it"));
        let status = std::fs::read_to_string(format!("{process}/status")).ok()?;
        let figure = |name: &str| -> Option<u64> {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        Some(Sample {
            at: self.began.elapsed(),
            life,
            resident_bytes: figure("VmRSS:")? * 1024,
            descriptors: std::fs::read_dir(format!("{process}/fd")).ok()?.count() as u64,
            threads: figure("Threads:")?,
            disk_bytes: bytes_of(&self.data),
        })
    }

    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().expect("nobody panics with it").clone()
    }
}

/// Bytes of all files below a directory, some of which may go meanwhile.
fn bytes_of(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// What is shown of a measure over a time in which nothing was restarted.
pub struct Trend {
    /// Medians of the middle and of the last third.
    pub middle: f64,
    pub last: f64,
    /// Of all of the time.
    pub highest: f64,
    /// Of the least squares over both thirds, with its standard error.
    pub slope_per_hour: f64,
    pub error_per_hour: f64,
}

/// Parts of the time whose means the slope is taken from: one second much resembles the next.
const PARTS: usize = 24;

impl Trend {
    /// The first third is for getting warm.
    pub fn of(samples: &[Sample], measure: &Measure) -> Self {
        let warm = &samples[samples.len() / 3..];
        let (middle, last) = warm.split_at(warm.len() / 2);
        let median = |samples: &[Sample]| {
            let mut figures: Vec<f64> = samples.iter().map(measure.of).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        let mean = |part: &[Sample], of: &dyn Fn(&Sample) -> f64| {
            part.iter().map(of).sum::<f64>() / part.len() as f64
        };
        let hours = |sample: &Sample| sample.at.as_secs_f64() / 3_600.0;
        let parts = warm.chunks(warm.len().div_ceil(PARTS));
        let points: Vec<(f64, f64)> =
            parts.map(|part| (mean(part, &hours), mean(part, &measure.of))).collect();
        let (slope_per_hour, error_per_hour) = slope(&points);
        let highest = samples.iter().map(measure.of).fold(0.0, f64::max);
        Self { middle: median(middle), last: median(last), highest, slope_per_hour, error_per_hour }
    }

    pub fn is_flat(&self, measure: &Measure) -> bool {
        self.last <= self.middle * 1.1 + measure.allowance
    }
}

/// The slope of the line with the least squares, and its standard error.
fn slope(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let (x_mean, y_mean) =
        points.iter().fold((0.0, 0.0), |(xs, ys), (x, y)| (xs + x / count, ys + y / count));
    let spread: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    let slope = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum::<f64>() / spread;
    let left = |(x, y): &(f64, f64)| (y - y_mean - slope * (x - x_mean)).powi(2);
    let variance = points.iter().map(left).sum::<f64>() / (count - 2.0).max(1.0);
    (slope, (variance / spread).sqrt())
}
