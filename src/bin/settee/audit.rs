//! The audit trail as a file of lines of JSON.
//!
//! A thread of its own writes, so that no request waits for the disk. The queue to it is bounded:
//! what does not fit is dropped, counted, and said in the file where it is missing.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use settee::server::{Audit, AuditEvent};
use tracing::warn;

use crate::failure::Failure;

/// Events that wait for the disk.
const WAITING_MAX: usize = 16 * 1024;

/// What the thread is told.
enum Told {
    Event(AuditEvent),
    /// To go on in a new file: events before it belong to the old one.
    Reopen,
    /// Nothing more will come.
    End,
}

#[derive(Default)]
struct Flags {
    /// A new file is asked for, and the queue had no room to say so.
    reopen: AtomicBool,
    lost: AtomicU64,
}

/// The sending end, for the gateway and for signals; clones share it.
#[derive(Clone)]
pub struct Trail {
    queue: SyncSender<Told>,
    flags: Arc<Flags>,
}

/// The thread that writes.
pub struct Writing {
    queue: SyncSender<Told>,
    thread: JoinHandle<()>,
}

impl Writing {
    /// Waits until everything that was recorded is written.
    pub fn end(self) {
        // A thread that panicked has said so.
        let _ = self.queue.send(Told::End);
        let _ = self.thread.join();
    }
}

impl Trail {
    /// Opens a file to append to.
    pub fn open(path: &Path) -> Result<(Self, Writing), Failure> {
        let file = append(path).map_err(Failure::file("open the audit trail", path))?;
        let (queue, told) = sync_channel(WAITING_MAX);
        let flags = Arc::new(Flags::default());
        let writer = Writer { path: path.to_owned(), file, flags: Arc::clone(&flags), said: 0 };
        let thread = std::thread::Builder::new().name("settee-audit".into());
        let thread = thread.spawn(move || writer.run(&told));
        let doing = || "start the thread of the audit trail".into();
        let thread = thread.map_err(|source| Failure::Io { doing: doing(), source })?;
        Ok((Self { queue: queue.clone(), flags }, Writing { queue, thread }))
    }

    /// Goes on in a new file of the same name: whoever rotates has moved the old one away.
    pub fn reopen(&self) {
        if self.queue.try_send(Told::Reopen).is_err() {
            // With a full queue the thread is awake, and sees the flag with the next event.
            self.flags.reopen.store(true, Ordering::SeqCst);
        }
    }
}

impl Audit for Trail {
    fn record(&self, event: AuditEvent) {
        match self.queue.try_send(Told::Event(event)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.flags.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn lost(&self) -> u64 {
        self.flags.lost.load(Ordering::Relaxed)
    }
}

fn append(path: &Path) -> std::io::Result<BufWriter<File>> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(BufWriter::new(file))
}

struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    flags: Arc<Flags>,
    /// How many of the lost events the file tells of.
    said: u64,
}

impl Writer {
    fn run(mut self, told: &Receiver<Told>) {
        let mut ended = false;
        while !ended && let Ok(first) = told.recv() {
            ended = matches!(first, Told::End);
            let mut written = self.take(first);
            // What has gathered is written together.
            while let Ok(next) = told.try_recv() {
                ended |= matches!(next, Told::End);
                written = written.and(self.take(next));
            }
            if let Err(error) = written.and_then(|()| self.file.flush()) {
                self.flags.lost.fetch_add(1, Ordering::Relaxed);
                warn!(%error, path = %self.path.display(), "the audit trail cannot be written");
            }
        }
    }

    fn take(&mut self, told: Told) -> std::io::Result<()> {
        if self.flags.reopen.swap(false, Ordering::SeqCst) {
            self.reopen()?;
        }
        let lost = self.flags.lost.load(Ordering::Relaxed);
        if lost > self.said {
            let count = lost - self.said;
            warn!(count, "audit events were lost");
            writeln!(self.file, "{{\"event\":\"lost\",\"count\":{count}}}")?;
            self.said = lost;
        }
        match told {
            Told::Event(event) => writeln!(self.file, "{}", event.to_json()),
            Told::Reopen => self.reopen(),
            Told::End => Ok(()),
        }
    }

    fn reopen(&mut self) -> std::io::Result<()> {
        self.file.flush()?;
        self.file = append(&self.path)?;
        Ok(())
    }
}
