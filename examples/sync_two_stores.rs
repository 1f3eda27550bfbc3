//! Two databases of one process, on disk and in memory, made equal and kept so.

use serde_json::json;
use settee::replicate::{Lifetime, ReplicationOptions, replicate};
use settee::store::{ChangesOptions, Since};
use settee::{DbName, Document, Store};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let (disk, memory) = (Store::open(directory.path())?, Store::memory());
    let name = DbName::parse("notes")?;
    let (a, b) = (disk.create(&name).await?, memory.create(&name).await?);
    for n in 0..1_000 {
        a.put(Document::new(&format!("note-{n}"), &json!({"n": n}))?).await?;
    }
    b.put(Document::new("from-b", &json!({}))?).await?;

    let summary = replicate(&a, &b, ReplicationOptions::default()).finished().await?;
    let written = |way: Option<settee::replicate::DirectionSummary>| way.map(|w| w.docs_written);
    println!("pushed {:?}, pulled {:?}", written(summary.push), written(summary.pull));

    // A second run has nothing to do: it goes on at the checkpoint.
    let again = replicate(&a, &b, ReplicationOptions::default()).finished().await?;
    println!("again: pushed {:?}, pulled {:?}", written(again.push), written(again.pull));

    // Live, a change arrives by itself.
    let options = ReplicationOptions { lifetime: Lifetime::Live, ..Default::default() };
    let mut sync = replicate(&a, &b, options);
    let changes = ChangesOptions { since: Since::Now, ..ChangesOptions::default() };
    let mut feed = b.feed(changes).await?;
    a.put(Document::new("live", &json!({}))?).await?;
    let arrived = loop {
        // The feed may first tell that it is at its end.
        let page = feed.next_page(10, 1024 * 1024).await?;
        if let Some(change) = page.rows.into_iter().next() {
            break change;
        }
    };
    println!("arrived: {}", arrived.id);
    sync.cancel().await;
    println!("equal: {}", a.info().await?.doc_count == b.info().await?.doc_count);
    disk.close().await?;
    Ok(())
}
