//! `settee dump`: every leaf of every document as a line of JSON.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use settee::store::{BulkGetOptions, OpenRev, OpenRevs};
use settee::{Database, Selector, StoreError};

use crate::failure::Failure;
use crate::place::{PlaceArgs, open_database, open_store, selector};

/// Ids read at a time.
const PAGE_IDS: usize = 1_000;

/// Write every revision of a database as lines of JSON
///
/// Writes a database as lines of JSON, one for each leaf revision, deleted ones too, with its
/// history (`_revisions`) and its attachments in base64. Documents come in the order of their ids,
/// the leaves of each with the winning one first. Local documents are left out, since they belong
/// to this copy alone. `settee load` makes an equal database of it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only leaves that this selector lets pass
    #[arg(long, value_name = "JSON", value_parser = selector)]
    selector: Option<Selector>,
    /// Where to write; standard output if left out or `-`
    file: Option<PathBuf>,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let place = args.place.place()?;
    let store = open_store(&place.dir)?;
    let database = open_database(&store, &place.dir, &place.name).await?;
    let selectors: Vec<Selector> = args.selector.into_iter().collect();
    match args.file.filter(|file| file != Path::new("-")) {
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            dump(&database, &selectors, &mut out, Failure::stdout).await?;
        }
        Some(path) => {
            let file = File::create(&path).map_err(Failure::file("write", &path))?;
            let mut out = BufWriter::new(file);
            dump(&database, &selectors, &mut out, |error| Failure::file("write", &path)(error))
                .await?;
            out.get_ref().sync_all().map_err(Failure::file("write", &path))?;
        }
    }
    store.close().await?;
    Ok(())
}

async fn dump(
    database: &Database,
    selectors: &[Selector],
    out: &mut impl Write,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let options = BulkGetOptions { revs: true, attachments: true, ..BulkGetOptions::default() };
    let mut ids = database.ids(None, PAGE_IDS).await?;
    while let Some(last) = ids.last().cloned() {
        for id in &ids {
            for leaf in database.open_revs(id, &OpenRevs::All, options).await? {
                let OpenRev::Found(document) = leaf else {
                    let what = format!("document {id} lacks the body of a leaf; see settee check");
                    return Err(StoreError::Damaged { what }.into());
                };
                if !database.admits(selectors, &document).await? {
                    continue;
                }
                writeln!(out, "{}", document.to_json()).map_err(&failed)?;
            }
        }
        ids = database.ids(Some(&last), PAGE_IDS).await?;
    }
    out.flush().map_err(&failed)
}
