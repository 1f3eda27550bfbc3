//! `settee backup`: everything as one archive.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::{Stream, StreamExt as _};
use serde_json::json;
use settee::store::{BackupOptions, Manifest};

use crate::failure::Failure;
use crate::place::open_store;

/// Back everything up, of a data directory or of a gateway that serves it
///
/// Backs up every database, as each was at one moment: with all documents, conflicts, tombstones,
/// histories, attachments and local documents, and without the bodies of old revisions. A gateway
/// goes on serving meanwhile. `settee restore` makes a data directory of it again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A data directory that nobody serves, or http://HOST:PORT of a gateway
    #[arg(value_name = "DIR|URL")]
    source: String,
    /// What the gateway wants to see
    #[arg(long, value_name = "TOKEN", env = "SETTEE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Back up only what changed since this archive was made; restoring needs both
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// Write to this file, which is there only when it is whole [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Compress
    #[arg(long)]
    gzip: bool,
    /// Read no faster
    #[arg(long, value_name = "N")]
    bytes_per_second: Option<u64>,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let since = args.since.as_deref().map(manifest).transpose()?;
    let options = BackupOptions { since, bytes_per_second_max: args.bytes_per_second };
    let source = &args.source;
    if source.starts_with("http://") || source.starts_with("https://") {
        let url = format!("{}/_settee/backup", source.trim_end_matches('/'));
        let pieces = of_gateway(&url, args.token.as_deref(), options).await?;
        let failed = |problem: reqwest::Error| gateway_failure(&url, &problem);
        return write(pieces.map(|piece| piece.map_err(failed)), &args).await;
    }
    let store = open_store(Path::new(source))?;
    let written = write(store.backup(options).map(|piece| Ok(piece?)), &args).await;
    store.close().await?;
    written
}

/// Opens an archive, compressed or not.
pub fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let mut file = BufReader::new(File::open(path)?);
    let gzip = io::BufRead::fill_buf(&mut file)?.starts_with(&GZIP);
    Ok(if gzip { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) })
}

/// Reads an archive to its end.
fn manifest(path: &Path) -> Result<Manifest, Failure> {
    let archive = open(path).map_err(Failure::file("read", path))?;
    let read = Manifest::read(archive);
    read.map_err(|source| Failure::Archive { path: path.to_owned(), source })
}

async fn of_gateway(
    url: &str,
    token: Option<&str>,
    options: BackupOptions,
) -> Result<impl Stream<Item = reqwest::Result<Bytes>>, Failure> {
    let asked = json!({
        "since": options.since,
        "bytes_per_second": options.bytes_per_second_max,
    });
    let mut request = reqwest::Client::new().post(url).json(&asked);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(|problem| gateway_failure(url, &problem))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer.bytes_stream());
    }
    let told = answer.json::<serde_json::Value>().await.unwrap_or_default();
    let reason = told["reason"].as_str().unwrap_or("no reason given");
    Err(Failure::Gateway { url: url.to_owned(), problem: format!("{status}: {reason}") })
}

fn gateway_failure(url: &str, problem: &reqwest::Error) -> Failure {
    let mut text = problem.to_string();
    let mut cause = std::error::Error::source(problem);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    Failure::Gateway { url: url.to_owned(), problem: text }
}

async fn write(
    pieces: impl Stream<Item = Result<Bytes, Failure>>,
    args: &Args,
) -> Result<(), Failure> {
    let Some(path) = &args.output else {
        let stdout = BufWriter::new(io::stdout().lock());
        return copy(pieces, stdout, args.gzip, Failure::stdout).await.map(drop);
    };
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let failed = |source| Failure::file("write", &part)(source);
    let file = File::create(&part).map_err(failed)?;
    let written = copy(pieces, BufWriter::new(file), args.gzip, failed).await;
    let finish = |file: BufWriter<File>| {
        let file = file.into_inner().map_err(io::IntoInnerError::into_error).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        // An answer that only looks like an archive must not take an archive's place.
        let manifest = manifest(&part)?;
        fs::rename(&part, path).and_then(|()| sync_directory_of(path)).map_err(failed)?;
        Ok(manifest)
    };
    let finished = written.and_then(finish);
    if finished.is_err() {
        // What failed is said already.
        let _ = fs::remove_file(&part);
    }
    let manifest = finished?;
    eprintln!("{} databases in {}", manifest.databases.len(), path.display());
    Ok(())
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Where an archive goes.
enum To<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
}

async fn copy<W: Write>(
    pieces: impl Stream<Item = Result<Bytes, Failure>>,
    to: W,
    gzip: bool,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<W, Failure> {
    let mut pieces = std::pin::pin!(pieces);
    let mut to =
        if gzip { To::Gzip(GzEncoder::new(to, Compression::default())) } else { To::Plain(to) };
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let written = match &mut to {
            To::Plain(to) => to.write_all(&piece),
            To::Gzip(to) => to.write_all(&piece),
        };
        written.map_err(&failed)?;
    }
    let mut to = match to {
        To::Plain(to) => to,
        To::Gzip(to) => to.finish().map_err(&failed)?,
    };
    to.flush().map_err(&failed)?;
    Ok(to)
}
