//! `settee purge`: revisions go as if they had never been there.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use settee::store::{TombstonePolicy, TombstoneReport};
use settee::{DocId, Limits, Rev};

use crate::failure::Failure;
use crate::place::{Place, PlaceArgs, open_database, open_store};

/// Take revisions away as if they had never been there
///
/// Takes leaf revisions of a document away as if they had never been there, with the ancestors that
/// no other leaf has; a document goes with its last leaf. Nobody is told: a replica that has them
/// may send them again, so purge there too. Prints what was purged, a line for each revision, and
/// fails if one of them is no leaf. Attachments go with `settee compact`.
///
/// With --tombstones-older-than, takes away all documents that were deleted so long ago, as far as
/// every replica that has a checkpoint knows.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// The document
    #[arg(value_name = "ID", required_unless_present = "tombstones_older_than")]
    id: Option<String>,
    /// Leaves of it
    #[arg(value_name = "REV", required_unless_present = "tombstones_older_than")]
    revs: Vec<String>,
    /// Purge deleted documents instead; since when documents are deleted is known from the first
    /// time on that this, or a gateway with [tombstones], has looked
    #[arg(long, value_name = "DAYSd", value_parser = days, conflicts_with_all = ["id", "revs"])]
    tombstones_older_than: Option<Duration>,
    /// Forget replicas that have lacked a change for so long; what they lack is purged all the same
    /// [default: as old as the tombstones]
    #[arg(long, value_name = "DAYSd", value_parser = days, requires = "tombstones_older_than")]
    clients_older_than: Option<Duration>,
}

/// Reads `90d`.
fn days(text: &str) -> Result<Duration, &'static str> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let days = days.ok_or("give days, as in 90d")?;
    Ok(Duration::from_secs(u64::from(days) * 24 * 3600))
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let place = args.place.place()?;
    if let Some(age) = args.tombstones_older_than {
        let client_age = args.clients_older_than.unwrap_or(age);
        return tombstones(&place, TombstonePolicy { age, client_age, ..Default::default() }).await;
    }
    revisions(&place, args.id.unwrap_or_default(), args.revs).await
}

async fn tombstones(place: &Place, policy: TombstonePolicy) -> Result<(), Failure> {
    let store = open_store(&place.dir)?;
    let database = open_database(&store, &place.dir, &place.name).await?;
    let report = database.purge_tombstones(policy, SystemTime::now()).await?;
    store.close().await?;
    let TombstoneReport { purged, checkpoints_removed, holding } = report;
    writeln!(
        std::io::stdout(),
        "purged {purged} deleted documents; {checkpoints_removed} replicas forgotten, {holding} \
         hold up others"
    )
    .map_err(Failure::stdout)
}

async fn revisions(place: &Place, id: String, revs: Vec<String>) -> Result<(), Failure> {
    let id = DocId::parse(&id, Limits::default().doc_id_bytes_max)
        .map_err(|source| Failure::Malformed { text: id, what: "the id of a document", source })?;
    let revs = revs.into_iter().map(|text| {
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
