//! How far a sync has come: a bar on a terminal, else a line now and then.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use settee::replicate::{ChangeEvent, Direction};

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// A number of documents each way.
#[derive(Debug, Default, Clone, Copy)]
struct Moved {
    pushed: u64,
    pulled: u64,
}

/// Shows counts, rate and the time left.
pub struct Progress {
    moved: Moved,
    /// Changes still to come, as far as each direction has told.
    left: Moved,
    started: Instant,
    output: Output,
}

enum Output {
    Bar(ProgressBar),
    Lines { last: Option<Instant> },
}

impl Progress {
    pub fn new() -> Self {
        let output = if std::io::stderr().is_terminal() {
            Output::Bar(bar())
        } else {
            Output::Lines { last: None }
        };
        Self { moved: Moved::default(), left: Moved::default(), started: Instant::now(), output }
    }

    /// Documents were exchanged.
    pub fn change(&mut self, change: &ChangeEvent) {
        match change.direction {
            Direction::Push => {
                self.moved.pushed += change.docs_written;
                self.left.pushed = change.pending;
            }
            Direction::Pull => {
                self.moved.pulled += change.docs_written;
                self.left.pulled = change.pending;
            }
        }
        let left = self.left.pushed + self.left.pulled;
        let done = self.moved.pushed + self.moved.pulled;
        let counts = self.counts();
        match &mut self.output {
            Output::Bar(bar) => {
                bar.set_length(done + left);
                bar.set_position(done);
                bar.set_message(counts);
            }
            Output::Lines { last } => {
                if last.is_some_and(|last| last.elapsed() < LINE_INTERVAL) {
                    return;
                }
                *last = Some(Instant::now());
                eprintln!("{counts}, {}", rate_and_rest(done, left, self.started.elapsed()));
            }
        }
    }

    /// There is nothing to do at present. The counts are told whole, since lines of progress may
    /// have been left out.
    pub fn up_to_date(&self) {
        self.note(&format!("up to date: {}", self.counts()));
    }

    fn counts(&self) -> String {
        format!("{} pushed, {} pulled", self.moved.pushed, self.moved.pulled)
    }

    /// Something worth a line of its own.
    pub fn note(&self, text: &str) {
        match &self.output {
            Output::Bar(bar) => bar.println(text),
            Output::Lines { .. } => eprintln!("{text}"),
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Output::Bar(bar) = &self.output {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let template = "{elapsed_precise} {wide_bar} {pos}/{len} {rate}/s, {eta} left; {msg}";
    let style = ProgressStyle::with_template(template)
        .expect("the template is well-formed")
        // indicatif's own rate has four digits after the point.
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // What cannot be shown is not missed.
            let _ = write!(out, "{:.0}", state.per_sec());
        });
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
        .with_style(style)
        .with_message("0 pushed, 0 pulled")
}

fn rate_and_rest(done: u64, left: u64, elapsed: Duration) -> String {
    #[allow(clippy::cast_precision_loss, reason = "a rate is shown in whole documents")]
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    #[allow(clippy::cast_precision_loss, reason = "a time is shown in whole seconds")]
    let seconds = left as f64 / rate.max(0.001);
    format!("{rate:.0} documents/s, {left} to go, about {seconds:.0} s left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_rate_and_time_left() {
        let text = rate_and_rest(1_000, 500, Duration::from_secs(2));
        assert_eq!(text, "500 documents/s, 500 to go, about 1 s left");
    }
}
