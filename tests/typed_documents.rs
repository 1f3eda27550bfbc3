//! Documents of one type: read, written, updated together with others, found and followed.

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use settee::doc::Attachment;
use settee::store::{GetOptions, Since};
use settee::typed::TypedError;
use settee::{Collection, Database, DbName, Document, Shape, Store};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Todo {
    title: String,
    #[serde(default)]
    count: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Shape for Todo {
    const TYPE: &'static str = "todo";
}

#[derive(Debug, Serialize, Deserialize)]
struct Person {
    name: String,
}

impl Shape for Person {
    const TYPE: &'static str = "person.v1";
    const FIELD: &'static str = "doc.kind";
}

fn todo(title: &str) -> Todo {
    Todo { title: title.into(), count: 0, note: None }
}

async fn database() -> Database {
    Store::memory().create(&DbName::parse("mixed").unwrap()).await.unwrap()
}

async fn body(database: &Database, id: &str) -> Value {
    let id = settee::DocId::parse(id, 100).unwrap();
    database.get(&id, &GetOptions::default()).await.unwrap().to().unwrap()
}

async fn titles(todos: &Collection<Todo>, selector: Value) -> Vec<String> {
    let found = todos.find(&selector).await.unwrap();
    found.map(|entry| entry.unwrap().value.title).collect().await
}

#[tokio::test]
async fn a_value_is_written_read_replaced_and_deleted() {
    let database = database().await;
    let todos = database.collection::<Todo>();
    assert!(todos.get("milk").await.unwrap().is_none());
    let first = todos.put("milk", &todo("Buy milk")).await.unwrap();
    assert_eq!(
        body(&database, "milk").await,
        json!({"title": "Buy milk", "count": 0, "type": "todo"})
    );
    let again = todos.put("milk", &todo("Buy more")).await.expect_err("it is there");
    assert!(again.is_conflict(), "{again}");
    let mut read = todos.get("milk").await.unwrap().unwrap();
    assert_eq!((read.id(), read.rev(), &read.value), ("milk", first.rev(), &todo("Buy milk")));
    read.value.count = 3;
    let second = todos.replace(&read).await.unwrap();
    assert_eq!(todos.get("milk").await.unwrap().unwrap().value.count, 3);
    assert!(todos.replace(&read).await.expect_err("it changed since").is_conflict());
    assert!(todos.delete(&first).await.expect_err("it changed since").is_conflict());
    todos.delete(&second).await.unwrap();
    assert!(todos.get("milk").await.unwrap().is_none());
    let third = todos.put("milk", &todo("Buy milk again")).await.unwrap();
    assert_eq!(third.rev().generation(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_of_many_writers_all_count() {
    let todos = database().await.collection::<Todo>();
    todos.put("milk", &todo("Buy milk")).await.unwrap();
    let writers = (0..8).map(|_| {
        let todos = todos.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                todos.update("milk", |todo| todo.count += 1).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let milk = todos.get("milk").await.unwrap().unwrap();
    assert_eq!((milk.value.count, milk.rev().generation()), (80, 81));
    let same = todos.update("milk", |_| ()).await.unwrap();
    assert_eq!(same.rev(), milk.rev());
    let missing = todos.update("bread", |_| ()).await.expect_err("there is none");
    assert!(missing.to_string().contains("missing"), "{missing}");
}

#[tokio::test]
async fn what_the_type_does_not_know_stays() {
    let database = database().await;
    let text = r#"{"type":"todo","title":"a","note":"n","big":123456789012345678901234567890.10}"#;
    let body = settee::doc::Body::parse(text, database.limits()).unwrap();
    let id = settee::DocId::parse("a", 100).unwrap();
    let attached = Attachment::inline("text/plain", &b"bytes"[..]);
    database
        .put(Document::with_body(id.clone(), body).with_attachment("file", attached))
        .await
        .unwrap();
    let todos = database.collection::<Todo>();
    todos.update("a", |todo| (todo.note, todo.count) = (None, 1)).await.unwrap();
    let stored = database.get(&id, &GetOptions::default()).await.unwrap();
    assert!(
        stored.body.as_str().contains("123456789012345678901234567890.10"),
        "{:?}",
        stored.body
    );
    let value: Value = stored.to().unwrap();
    assert_eq!((&value["count"], value.get("note")), (&json!(1), None));
    assert_eq!(stored.attachments["file"].length(), Some(5));
}

#[tokio::test]
async fn types_share_a_database_and_do_not_see_each_other() {
    let database = database().await;
    let (todos, people) = (database.collection::<Todo>(), database.collection::<Person>());
    people.put("ada", &Person { name: "Ada".into() }).await.unwrap();
    todos.put("bread", &todo("Bake bread")).await.unwrap();
    todos.put("milk", &todo("Buy milk")).await.unwrap();
    database.put(Document::new("odd", &json!({"type": "todo"})).unwrap()).await.unwrap();
    database.put(Document::new("plain", &json!({"type": 1})).unwrap()).await.unwrap();
    for indexed in [false, true] {
        if indexed {
            todos.create_index().await.unwrap();
        }
        let all: Vec<_> = todos.all().await.unwrap().collect().await;
        let read = |one: &Result<settee::typed::Entry<Todo>, TypedError>| match one {
            Ok(entry) => entry.id().to_owned(),
            Err(TypedError::Shape { id, .. }) => format!("not {id}"),
            Err(error) => panic!("{error}"),
        };
        let mut all: Vec<String> = all.iter().map(read).collect();
        all.sort();
        assert_eq!(all, ["bread", "milk", "not odd"], "indexed: {indexed}");
    }
    assert_eq!(titles(&todos, json!({"title": {"$regex": "^Buy"}})).await, ["Buy milk"]);
    let names: Vec<String> =
        people.all().await.unwrap().map(|one| one.unwrap().value.name).collect().await;
    assert_eq!(names, ["Ada"]);
    for id in ["ada", "plain"] {
        let other = todos.get(id).await.expect_err("it is another type");
        assert!(matches!(other, TypedError::OtherType { wanted: "todo", .. }), "{other}");
    }
    let taken = todos.put("ada", &todo("x")).await.expect_err("the id is taken");
    assert!(taken.is_conflict(), "{taken}");
}

#[tokio::test]
async fn changes_of_the_type_are_followed_with_deletions() {
    let database = database().await;
    let (todos, people) = (database.collection::<Todo>(), database.collection::<Person>());
    let milk = todos.put("milk", &todo("Buy milk")).await.unwrap();
    let mut changes = Box::pin(todos.changes(Since::Start).await.unwrap());
    let first = changes.next().await.unwrap().unwrap();
    assert_eq!((first.id.as_str(), first.entry.unwrap().value), ("milk", todo("Buy milk")));
    people.put("ada", &Person { name: "Ada".into() }).await.unwrap();
    todos.delete(&milk).await.unwrap();
    let second = changes.next().await.unwrap().unwrap();
    assert_eq!(second.id, "milk");
    assert!(second.entry.is_none() && second.seq != first.seq);
    todos.put("bread", &todo("Bake bread")).await.unwrap();
    let mut later = Box::pin(todos.changes(Since::After(second.seq)).await.unwrap());
    for changes in [&mut changes, &mut later] {
        let third = changes.next().await.unwrap().unwrap();
        assert_eq!(third.entry.unwrap().id(), "bread");
    }
}

#[cfg(feature = "schema")]
#[tokio::test]
async fn a_schema_refuses_what_is_written_and_not_what_is_read() {
    let todos = database().await.collection::<Todo>();
    todos.put("long", &todo("a long title")).await.unwrap();
    let schema = json!({"properties": {"title": {"maxLength": 4}}, "required": ["type"]});
    let strict = todos.clone().with_schema(&schema).unwrap();
    strict.put("ok", &todo("ok")).await.unwrap();
    let refused = strict.put("b", &todo("too long")).await.expect_err("the title is too long");
    assert!(matches!(&refused, TypedError::Invalid { id, .. } if id.as_str() == "b"), "{refused}");
    assert!(refused.to_string().contains("/title"), "{refused}");
    assert!(todos.get("b").await.unwrap().is_none());
    let long = strict.get("long").await.unwrap().unwrap();
    assert!(strict.update("long", |todo| todo.count = 1).await.is_err());
    assert_eq!(todos.get("long").await.unwrap().unwrap().rev(), long.rev());
    let broken = todos.with_schema(&json!({"type": 5})).expect_err("no schema");
    assert!(matches!(broken, TypedError::Schema { .. }), "{broken}");
}
