//! What the gateway's process takes, looked at each second, and whether that stays what it is.

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

/// Something that must not grow.
pub struct Measure {
    pub name: &'static str,
    pub unit: &'static str,
    pub of: fn(&Sample) -> f64,
    /// Beside a tenth more, so much more in [`Measure::unit`] is no growth.
    pub allowance: f64,
}

const MIB: f64 = 1_048_576.0;

pub const MEASURES: [Measure; 4] = [
    Measure {
        name: "resident",
        unit: "MiB",
        of: |sample| sample.resident_bytes as f64 / MIB,
        allowance: 8.0,
    },
    Measure {
        name: "descriptors",
        unit: "",
        of: |sample| sample.descriptors as f64,
        allowance: 8.0,
    },
    Measure { name: "threads", unit: "", of: |sample| sample.threads as f64, allowance: 4.0 },
    Measure {
        name: "disk",
        unit: "MiB",
        of: |sample| sample.disk_bytes as f64 / MIB,
        allowance: 16.0,
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

    /// Looks each second, for ever.
    pub async fn look_on(&self, stage: &Stage) {
        let mut seconds = interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            // Between two processes there is none to look at.
            if let Some(sample) = self.look(stage.life()) {
                self.samples.lock().expect("nobody panics with it").push(sample);
            }
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
    /// Of the least squares over both thirds.
    pub slope_per_hour: f64,
}

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
        let points: Vec<(f64, f64)> =
            warm.iter().map(|sample| (sample.at.as_secs_f64(), (measure.of)(sample))).collect();
        Self {
            middle: median(middle),
            last: median(last),
            slope_per_hour: slope(&points) * 3_600.0,
        }
    }

    pub fn is_flat(&self, measure: &Measure) -> bool {
        self.last <= self.middle * 1.1 + measure.allowance
    }
}

/// The slope of the line with the least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x_mean, y_mean) =
        points.iter().fold((0.0, 0.0), |(xs, ys), (x, y)| (xs + x / count, ys + y / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), (x, y)| {
        (above + (x - x_mean) * (y - y_mean), below + (x - x_mean).powi(2))
    });
    above / below
}

/// A line for each so many seconds.
pub fn table(samples: &[Sample], every_s: u64) -> String {
    let mut lines =
        vec!["| s | process | resident MiB | descriptors | threads | disk MiB |".to_owned()];
    let mut next = 0;
    for sample in samples {
        if sample.at.as_secs() < next {
            continue;
        }
        next = (sample.at.as_secs() / every_s + 1) * every_s;
        lines.push(format!(
            "| {} | {} | {:.0} | {} | {} | {:.1} |",
            sample.at.as_secs(),
            sample.life / 2,
            sample.resident_bytes as f64 / MIB,
            sample.descriptors,
            sample.threads,
            sample.disk_bytes as f64 / MIB,
        ));
    }
    lines.join("\n")
}
