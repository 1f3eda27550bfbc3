//! Writes documents that mean something only together, and replicates them together.

use serde_json::{Value, json};
use settee::replicate::{ReplicationOptions, replicate};
use settee::store::{ChangesOptions, EditMode, GetOptions};
use settee::{Database, DbName, DocId, Document, Store};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An account's document, with its balance changed.
async fn booked(db: &Database, account: &str, amount: i64) -> Result<Document, Failure> {
    let found = db.get(&DocId::parse(account, 100)?, &GetOptions::default()).await?;
    let balance = found.to::<Value>()?["balance"].as_i64().unwrap_or(0);
    let rev = found.rev.ok_or("a read tells its revision")?;
    Ok(Document::new(account, &json!({"balance": balance + amount}))?.with_rev(rev))
}

/// Moves money: the two balances and the record of it, or nothing.
async fn transfer(db: &Database, id: &str, amount: i64) -> Result<bool, Failure> {
    let group = vec![
        booked(db, "ada", -amount).await?,
        booked(db, "ben", amount).await?,
        Document::new(id, &json!({"from": "ada", "to": "ben", "amount": amount}))?,
    ];
    let outcomes = db.write_group(group, EditMode::Edit).await?;
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        println!("{}: {}", refused.id, refused.error);
    }
    Ok(outcomes.iter().all(Result::is_ok))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let name = DbName::parse("accounts")?;
    let (bank, branch) =
        (Store::memory().create(&name).await?, Store::memory().create(&name).await?);
    for account in ["ada", "ben"] {
        bank.put(Document::new(account, &json!({"balance": 100}))?).await?;
    }
    println!("first: {}", transfer(&bank, "transfer-1", 30).await?);
    // There is a transfer of this name, so nobody's balance changes.
    println!("again: {}", transfer(&bank, "transfer-1", 30).await?);
    println!("second: {}", transfer(&bank, "transfer-2", 5).await?);

    // At no moment does the branch have a transfer without its balances.
    replicate(&bank, &branch, ReplicationOptions::default()).finished().await?;
    let options = ChangesOptions { groups: true, ..ChangesOptions::default() };
    for row in branch.changes(&options).await?.rows {
        let rev = row.leaves.first().map_or(0, |(rev, _)| rev.generation());
        println!("{} {}, group {:?}", row.id, rev, row.group);
    }
    Ok(())
}
