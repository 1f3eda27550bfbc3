//! `settee info`: what a data directory or a database holds.

use std::io::Write as _;

use serde_json::{Value, json};
use settee::Database;
use settee::store::DatabaseInfo;

use crate::failure::Failure;
use crate::place::{DirOrPlaceArgs, databases, open_store};

/// Tell what a data directory or a database holds
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
        infos.push(Info::of(&database).await?);
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

struct Info {
    info: DatabaseInfo,
    revs_limit: u32,
}

impl Info {
    async fn of(database: &Database) -> Result<Self, Failure> {
        Ok(Self { info: database.info().await?, revs_limit: database.revs_limit() })
    }
}

fn as_json(Info { info, revs_limit }: &Info) -> Value {
    json!({
        "name": info.name.as_str(),
        "doc_count": info.doc_count,
        "deleted_count": info.deleted_count,
        "update_seq": info.update_seq.to_string(),
        "body_bytes": info.body_bytes,
        "leaf_bytes": info.leaf_bytes,
        "purge_seq": info.purge_seq,
        "revs_limit": revs_limit,
        "incarnation": info.incarnation.to_string(),
    })
}

fn list(infos: &[Info]) -> String {
    if infos.is_empty() {
        return "no databases".into();
    }
    let lengths = infos.iter().map(|info| info.info.name.as_str().len());
    let widest = lengths.max().unwrap_or_default();
    let line = |info: &Info| {
        let DatabaseInfo { name, doc_count, deleted_count, .. } = &info.info;
        format!("{:widest$}  {doc_count} documents, {deleted_count} deleted", name.as_str())
    };
    infos.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn details(Info { info, revs_limit }: &Info) -> String {
    let lines = [
        ("name", info.name.to_string()),
        ("documents", info.doc_count.to_string()),
        ("deleted", info.deleted_count.to_string()),
        ("update seq", info.update_seq.to_string()),
        ("purge seq", info.purge_seq.to_string()),
        ("body bytes", info.body_bytes.to_string()),
        ("leaf bytes", info.leaf_bytes.to_string()),
        ("revs limit", revs_limit.to_string()),
        ("incarnation", info.incarnation.to_string()),
    ];
    lines.map(|(name, value)| format!("{name:<13}{value}")).join("\n")
}
