//! Handlers change, refuse and hide what clients write and read; the server writes by itself; counters
//! of two devices are merged.

use async_trait::async_trait;
use futures::StreamExt as _;
use serde_json::{Value, json};
use settee::doc::{Body, Merge, MergePolicy, Operations};
use settee::server::{Fetch, FetchHandler, Handled, ProposedWrite, WriteHandler};
use settee::store::GetOptions;
use settee::transport::memory;
use settee::validate::DbPattern;
use settee::{AccessRequest, Client, Database, DbName, Denied, Document, Gateway, Grant, Store};
use settee::{DocId, SyncOptions};

type Failure = Box<dyn std::error::Error>;

struct Posts;

#[async_trait]
impl WriteHandler for Posts {
    async fn on_create(&self, write: &ProposedWrite<'_>) -> Result<Handled, Denied> {
        let mut post: Value = write.document.to().unwrap_or_default();
        let title = post["title"].as_str().ok_or_else(|| Denied::forbidden("it has no title"))?;
        post["slug"] = json!(title.to_lowercase().replace(' ', "-"));
        let body = Body::from_value(&post).map_err(|error| Denied::forbidden(error.to_string()))?;
        Ok(Handled::as_it_is().with_body(body))
    }
}

#[async_trait]
impl FetchHandler for Posts {
    async fn on_fetch(&self, fetch: &Fetch<'_>) -> Result<Option<Body>, Denied> {
        let draft = fetch.document.id.as_str().starts_with("draft:");
        if draft { Err(Denied::forbidden("a draft")) } else { Ok(None) }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (store, name, hello) =
        (Store::memory(), DbName::parse("posts")?, DocId::parse("hello", 9)?);
    let posts = || "posts*".parse::<DbPattern>();
    let gateway = Gateway::builder(store.clone())
        .authorizer(|asked: AccessRequest| async {
            Ok::<_, Denied>(Grant::database(asked.database))
        })
        .write_handler(posts()?, Posts)
        .fetch_handler(posts()?, Posts)
        .merge_policy(posts()?, MergePolicy::new().field("likes", Merge::Counter))
        .build()?;
    let (listener, connector) = memory();
    tokio::spawn(async move { gateway.serve(listener, std::future::pending()).await });
    let served = store.create(&name).await?;
    served.put(Document::new("draft:1", &json!({"by": "the server"}))?).await?;
    let client = Client::builder("ws://gateway").connector(connector).connect()?;
    let sync = async |db: &Database| -> Result<_, Failure> {
        let mut sync = client.sync(db, SyncOptions::one_shot("posts"));
        while sync.next().await.is_some() {}
        Ok(sync.denied())
    };
    let (phone, laptop) =
        (Store::memory().create(&name).await?, Store::memory().create(&name).await?);
    phone.put(Document::new("hello", &json!({"title": "Hello World"}))?).await?;
    phone.put(Document::new("nothing", &json!({}))?).await?;
    for denied in sync(&phone).await? {
        println!("{}: {}", denied.id, denied.error.reason);
    }
    // What the handler made of the phone's post comes back to it.
    sync(&phone).await?;
    sync(&laptop).await?;
    phone.operate(&hello, &Operations::parse(r#"{"inc": {"likes": 2}}"#)?, "phone").await?;
    laptop.operate(&hello, &Operations::parse(r#"{"inc": {"likes": 1}}"#)?, "laptop").await?;
    for db in [&phone, &laptop, &laptop] {
        sync(db).await?;
    }
    println!("{}", laptop.get(&hello, &GetOptions::default()).await?.body.as_str());
    println!("{} document on the laptop", laptop.info().await?.doc_count);
    Ok(())
}
