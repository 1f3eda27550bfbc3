//! Finds documents by their fields, with an index that gives them an order, page by page.

use serde_json::{Value, json};
use settee::store::{FindRequest, NewIndex, SortField};
use settee::{DbName, Document, Selector, Store};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let books = Store::memory().create(&DbName::parse("books")?).await?;
    for (id, year, lent) in [
        ("emma", 1815, false),
        ("dracula", 1897, true),
        ("ulysses", 1922, false),
        ("1984", 1949, false),
    ] {
        books.put(Document::new(id, &json!({"year": year, "lent": lent}))?).await?;
    }

    // The definition is a design document, so it is replicated as documents are. The first query
    // builds the index; later ones bring it up to date.
    books.create_index(&NewIndex::on(&["year"])?).await?;

    let in_stock = json!({"year": {"$gte": 1800}, "lent": false});
    let mut request = FindRequest {
        sort: SortField::ascending(&["year"])?,
        limit: 2,
        ..FindRequest::new(Selector::from_value(&in_stock)?)
    };
    loop {
        let page = books.find(request.clone()).await?;
        if page.docs.is_empty() {
            break;
        }
        for document in &page.docs {
            println!("{}: {}", document.id, document.to::<Value>()?["year"]);
        }
        println!("{} looked at", page.execution.docs_examined);
        request.bookmark = page.bookmark;
    }

    // A sort needs an index on its fields.
    request.sort = SortField::ascending(&["lent"])?;
    if let Err(error) = books.find(request).await {
        println!("{error}");
    }
    Ok(())
}
