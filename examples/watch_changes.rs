//! Follows the changes feed of a database until a document says that it is over.

use futures::StreamExt as _;
use serde_json::{Value, json};
use settee::store::{ChangeDocs, ChangesOptions};
use settee::{Database, DbName, Document, Store};

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn edit(todos: Database) -> Result<(), Failure> {
    let milk = todos.put(Document::new("milk", &json!({"done": false}))?).await?;
    let bread = todos.put(Document::new("bread", &json!({"done": false}))?).await?;
    todos.put(Document::new("milk", &json!({"done": true}))?.with_rev(milk.rev)).await?;
    todos.delete(&bread.id, bread.rev).await?;
    todos.put(Document::new("over", &json!({}))?).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let todos = Store::memory().create(&DbName::parse("todos")?).await?;
    let options = ChangesOptions { docs: ChangeDocs::Winner, ..ChangesOptions::default() };
    let mut changes = todos.feed(options).await?.into_stream().boxed();
    let editing = tokio::spawn(edit(todos));

    // Each document comes at its last change: of edits in quick succession only the last is seen.
    while let Some(change) = changes.next().await {
        let change = change?;
        if change.deleted() {
            println!("{}: deleted", change.id);
        } else if let Some(document) = change.docs.first() {
            println!("{}: {}", change.id, document.to::<Value>()?);
        }
        if change.id.as_str() == "over" {
            break;
        }
    }
    editing.await?
}
