//! Keeps values of the program's own types in a database, finds them and follows their changes.

use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use settee::store::Since;
use settee::{DbName, Shape, Store};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Serialize, Deserialize)]
struct Book {
    title: String,
    year: u32,
    #[serde(default)]
    lent: u32,
}

impl Shape for Book {
    const TYPE: &'static str = "book";
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let database = Store::memory().create(&DbName::parse("library")?).await?;
    let books = database
        .collection::<Book>()
        .with_schema(&json!({"properties": {"year": {"type": "integer", "minimum": 1450}}}))?;
    for (id, title, year) in [("emma", "Emma", 1815), ("dracula", "Dracula", 1897)] {
        books.put(id, &Book { title: title.into(), year, lent: 0 }).await?;
    }
    let too_old = Book { title: "Beowulf".into(), year: 1000, lent: 0 };
    if let Err(error) = books.put("beowulf", &too_old).await {
        println!("{error}");
    }

    // Whoever was faster is taken in: the closure is called again with what is there.
    let (one, other) = tokio::join!(
        books.update("emma", |book| book.lent += 1),
        books.update("emma", |book| book.lent += 1),
    );
    println!("lent {} times", one?.value.lent.max(other?.value.lent));

    books.create_index().await?;
    let old: Vec<_> = books.find(&json!({"year": {"$lt": 1850}})).await?.try_collect().await?;
    for entry in &old {
        println!("{}: {:?}", entry.id(), entry.value);
    }

    books.delete(&old[0]).await?;
    let mut changes = Box::pin(books.changes(Since::Start).await?.take(2));
    while let Some(change) = changes.try_next().await? {
        match change.entry {
            Some(entry) => println!("{} is {}", change.id, entry.value.title),
            None => println!("{} is gone", change.id),
        }
    }
    Ok(())
}
