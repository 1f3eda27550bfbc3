//! `settee purge`: revisions go as if they had never been there.

use std::io::Write as _;

use settee::{DocId, Limits, Rev};

use crate::failure::Failure;
use crate::place::{PlaceArgs, open_database, open_store};

/// Takes leaf revisions of a document away as if they had never been there, with the ancestors that
/// no other leaf has; a document goes with its last leaf. Nobody is told: a replica that has them
/// may send them again, so purge there too. Prints what was purged, a line for each revision, and
/// fails if one of them is no leaf. Attachments go with `settee compact`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// The document
    #[arg(value_name = "ID")]
    id: String,
    /// Leaves of it
    #[arg(value_name = "REV", required = true)]
    revs: Vec<String>,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let place = args.place.place()?;
    let id = DocId::parse(&args.id, Limits::default().doc_id_bytes_max).map_err(|source| {
        Failure::Malformed { text: args.id, what: "the id of a document", source }
    })?;
    let revs = args.revs.into_iter().map(|text| {
        let parsed = Rev::parse(&text);
        parsed.map_err(|source| Failure::Malformed { text, what: "a revision", source })
    });
    let revs = revs.collect::<Result<Vec<Rev>, _>>()?;
    let store = open_store(&place.dir)?;
    let database = open_database(&store, &place.dir, &place.name).await?;
    let purged = database.purge(&[(id.clone(), revs.clone())]).await?;
    store.close().await?;
    let gone: Vec<Rev> = purged.into_iter().flat_map(|purged| purged.revs).collect();
    let mut stdout = std::io::stdout();
    for rev in &gone {
        writeln!(stdout, "purged {rev} of {id}").map_err(Failure::stdout)?;
    }
    let others: Vec<String> =
        revs.iter().filter(|rev| !gone.contains(rev)).map(ToString::to_string).collect();
    if others.is_empty() { Ok(()) } else { Err(Failure::NoLeaf { id, revs: others.join(", ") }) }
}
