//! `settee info`: what a data directory or a database holds.

use std::io::Write as _;

use serde_json::{Value, json};
use settee::store::DatabaseInfo;

use crate::failure::Failure;
use crate::place::{DirOrPlaceArgs, databases, open_store};

/// Tells what a data directory or a database holds.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: DirOrPlaceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let (dir, name) = args.place.resolve()?;
    let store = open_store(&dir)?;
    let mut infos = Vec::new();
    for database in databases(&store, &dir, name.as_ref()).await? {
        infos.push(database.info().await?);
    }
    let text = match (args.json, name) {
        (true, None) => {
            let infos: Vec<Value> = infos.iter().map(as_json).collect();
            json!({"uuid": store.uuid().to_string(), "databases": infos}).to_string()
        }
        (true, Some(_)) => infos.iter().map(as_json).map(|info| info.to_string()).collect(),
        (false, None) => list(&infos),
        (false, Some(_)) => infos.iter().map(details).collect(),
    };
    store.close().await?;
    writeln!(std::io::stdout(), "{text}").map_err(Failure::stdout)
}

fn as_json(info: &DatabaseInfo) -> Value {
    json!({
        "name": info.name.as_str(),
        "doc_count": info.doc_count,
        "deleted_count": info.deleted_count,
        "update_seq": info.update_seq.to_string(),
        "body_bytes": info.body_bytes,
        "incarnation": info.incarnation.to_string(),
    })
}

fn list(infos: &[DatabaseInfo]) -> String {
    if infos.is_empty() {
        return "no databases".into();
    }
    let widest = infos.iter().map(|info| info.name.as_str().len()).max().unwrap_or_default();
    let line = |info: &DatabaseInfo| {
        let DatabaseInfo { name, doc_count, deleted_count, .. } = info;
        format!("{:widest$}  {doc_count} documents, {deleted_count} deleted", name.as_str())
    };
    infos.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn details(info: &DatabaseInfo) -> String {
    format!(
        "name         {}\ndocuments    {}\ndeleted      {}\nupdate seq   {}\nbody bytes   {}\nincarnation  {}",
        info.name,
        info.doc_count,
        info.deleted_count,
        info.update_seq,
        info.body_bytes,
        info.incarnation
    )
}
