//! Two replicas edit one document while apart; the conflict is found, shown and resolved.

use serde_json::{Value, json};
use settee::replicate::{ReplicationOptions, replicate};
use settee::store::{EditMode, GetOptions};
use settee::{Database, DbName, Document, Store};

type Failure = Box<dyn std::error::Error>;

async fn sync(a: &Database, b: &Database) -> Result<(), Failure> {
    replicate(a, b, ReplicationOptions::default()).finished().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let name = DbName::parse("shopping")?;
    let (phone, laptop) =
        (Store::memory().create(&name).await?, Store::memory().create(&name).await?);
    let list = phone.put(Document::new("list", &json!({"items": ["milk"]}))?).await?;
    sync(&phone, &laptop).await?;

    // Offline, both add something.
    let edit = |items: Value| Document::new("list", &json!({"items": items}));
    phone.put(edit(json!(["milk", "bread"]))?.with_rev(list.rev.clone())).await?;
    laptop.put(edit(json!(["milk", "salt"]))?.with_rev(list.rev)).await?;
    sync(&phone, &laptop).await?;

    // Both show the same winner and the same conflict.
    let with_conflicts = GetOptions { conflicts: true, ..GetOptions::default() };
    let winner = laptop.get(&list.id, &with_conflicts).await?;
    println!("same winner: {}", winner == phone.get(&list.id, &with_conflicts).await?);

    // The application merges; here: everything that stands on either list.
    let mut items: Vec<String> = Vec::new();
    let mut losers = Vec::new();
    for rev in winner.rev.iter().chain(&winner.extra.conflicts) {
        let at = GetOptions { rev: Some(rev.clone()), ..GetOptions::default() };
        let body: Value = laptop.get(&list.id, &at).await?.to()?;
        items.extend(body["items"].as_array().into_iter().flatten().map(Value::to_string));
        losers.push(Document::tombstone(list.id.clone(), rev.clone()));
    }
    items.sort_unstable();
    items.dedup();
    let items: Vec<Value> = items.iter().map(|item| item.parse()).collect::<Result<_, _>>()?;

    // The merged list follows the winner; the other branches end in tombstones.
    let rev = winner.rev.ok_or("a read tells its revision")?;
    losers.retain(|loser| loser.rev.as_ref() != Some(&rev));
    losers.push(edit(Value::from(items))?.with_rev(rev));
    for outcome in laptop.bulk_docs(losers, EditMode::Edit).await? {
        outcome.map_err(|refused| refused.error)?;
    }
    sync(&laptop, &phone).await?;
    let resolved = phone.get(&list.id, &with_conflicts).await?;
    println!("{} conflicts left: {}", resolved.extra.conflicts.len(), resolved.body.as_str());
    Ok(())
}
