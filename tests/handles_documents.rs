//! Handlers of the application change, refuse and hide documents.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/syncing.rs"]
mod syncing;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::FutureExt as _;
use http::{Api, docs};
use serde_json::{Value, json};
use settee::doc::Body;
use settee::server::{
    Denied, Fetch, FetchHandler, GatewayBuilder, Handled, ProposedWrite, WriteHandler,
};
use settee::store::{ChangesOptions, EditMode, MemoryBackend, WriteOptions};
use settee::validate::DbPattern;
use settee::{Database, Document, Limits, Store};
use syncing::{TestGateway, Watched, id, live, local, name, one_shot};

/// Notes down which handler was asked about what, sets a member, refuses `bad` and is quiet about
/// what asks for it.
#[derive(Clone, Default)]
struct Stamps {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stamps {
    fn handle(&self, what: &str, write: &ProposedWrite<'_>) -> Result<Handled, Denied> {
        let document = write.document;
        self.asked.lock().unwrap().push(format!("{what} {}", document.id));
        let mut body: Value = document.to().expect("an object");
        if body["bad"] == true {
            return Err(Denied::forbidden("that is bad"));
        }
        assert_ne!(body["panic"], true, "the handler fails");
        body["stamp"] = json!(what);
        let body = Body::from_value(&body).expect("an object");
        let handled = Handled::as_it_is().with_body(body);
        let quiet = document.id.as_str().starts_with("quiet");
        Ok(if quiet { handled.quietly() } else { handled })
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[async_trait]
impl WriteHandler for Stamps {
    async fn on_create(&self, write: &ProposedWrite<'_>) -> Result<Handled, Denied> {
        self.handle("create", write)
    }

    async fn on_update(&self, write: &ProposedWrite<'_>) -> Result<Handled, Denied> {
        self.handle("update", write)
    }

    async fn on_destroy(&self, write: &ProposedWrite<'_>) -> Result<Handled, Denied> {
        self.handle("destroy", write)
    }
}

/// Refuses documents with a `refused`, takes the `secret` out of others.
struct Censor;

#[async_trait]
impl FetchHandler for Censor {
    async fn on_fetch(&self, fetch: &Fetch<'_>) -> Result<Option<Body>, Denied> {
        let mut body: Value = fetch.document.to().expect("an object");
        if body.get("refused").is_some() {
            return Err(Denied::forbidden("not for your eyes"));
        }
        if body.get("later").is_some() {
            return Err(Denied::unavailable("ask again"));
        }
        let secret = body.as_object_mut().and_then(|members| members.remove("secret"));
        Ok(secret.map(|_| Body::from_value(&body).expect("an object")))
    }
}

fn pattern(text: &str) -> DbPattern {
    text.parse().expect("a pattern")
}

fn stamping(store: &Store) -> (GatewayBuilder, Stamps) {
    let stamps = Stamps::default();
    let builder = http::token_gateway(store.clone());
    (builder.write_handler(pattern("to*"), stamps.clone()), stamps)
}

async fn stamped() -> (Api, Stamps) {
    let (builder, stamps) = stamping(&Store::memory());
    let api = Api::served(builder);
    api.database("todos").await;
    (api, stamps)
}

#[tokio::test]
async fn each_kind_of_write_has_its_handler_and_is_stored_as_it_says() {
    let (api, stamps) = stamped().await;
    let rev = api.put("/todos/a", json!({"n": 1})).await;
    let read = api.get("/todos/a").await.json();
    assert_eq!(read, json!({"_id": "a", "_rev": rev, "n": 1, "stamp": "create"}));
    let rev = api.put("/todos/a", json!({"_rev": rev, "n": 2})).await;
    assert_eq!(api.get("/todos/a").await.json()["stamp"], "update");
    let gone = api.ask("DELETE", &format!("/todos/a?rev={rev}"), &[], b"").await;
    let rev = gone.json()["rev"].as_str().unwrap().to_owned();
    let tombstone = api.get(&format!("/todos/a?rev={rev}")).await.json();
    assert_eq!((&tombstone["stamp"], &tombstone["_deleted"]), (&json!("destroy"), &json!(true)));
    api.put("/todos/a", json!({})).await;
    assert_eq!(api.get("/todos/a").await.json()["stamp"], "create", "it is made anew");
    assert_eq!(stamps.asked(), ["create a", "update a", "destroy a", "create a"]);
}

#[tokio::test]
async fn other_databases_and_design_and_local_documents_pass_no_handler() {
    let (api, stamps) = stamped().await;
    api.database("notes").await;
    for path in ["/notes/a", "/todos/_design/a", "/todos/_local/a"] {
        api.put(path, json!({"n": 1})).await;
        assert_eq!(api.get(path).await.json().get("stamp"), None, "{path}");
    }
    assert_eq!(stamps.asked(), [""; 0]);
}

#[tokio::test]
async fn what_a_handler_refuses_is_a_row_and_the_others_are_stored() {
    let (api, _) = stamped().await;
    let batch = docs(&[json!({"_id": "a"}), json!({"_id": "b", "bad": true}), json!({"_id": "c"})]);
    let rows = api.json("POST", "/todos/_bulk_docs", batch).await.json();
    assert_eq!((&rows[0]["ok"], &rows[2]["ok"]), (&json!(true), &json!(true)), "{rows}");
    let row = (&rows[1]["id"], &rows[1]["error"], &rows[1]["reason"]);
    assert_eq!(row, (&json!("b"), &json!("forbidden"), &json!("that is bad")));
    assert_eq!(api.get("/todos/b").await.status, 404);
}

#[tokio::test]
async fn a_handler_that_panics_fails_its_call_and_no_other() {
    let (builder, _) = stamping(&Store::memory());
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let api = Api::served(builder.on_ignored_error(move |error| {
        tell.lock().unwrap().send(error.to_string()).unwrap();
    }));
    api.database("todos").await;
    let failed = api.json("PUT", "/todos/a", json!({"panic": true})).await;
    assert_eq!(failed.status, 500, "{}", failed.text());
    let told = told.try_recv().expect("the program is told of it");
    assert!(told.starts_with("Handler of todos: it panicked"), "{told}");
    assert_eq!(api.get("/todos/a").await.status, 404);
    api.put("/todos/a", json!({"panic": false})).await;
}

/// A validator that lets pass what a handler stamped.
fn must_be_stamped(write: &ProposedWrite<'_>) -> Result<(), Denied> {
    let body: Value = write.document.to().unwrap();
    let stamped = body.get("stamp").is_some();
    if stamped { Ok(()) } else { Err(Denied::forbidden("no stamp")) }
}

#[tokio::test]
async fn validators_judge_what_a_handler_made() {
    let (builder, _) = stamping(&Store::memory());
    let api = Api::served(builder.validator(must_be_stamped));
    api.database("todos").await;
    api.database("notes").await;
    api.put("/todos/a", json!({})).await;
    let refused = api.json("PUT", "/notes/a", json!({})).await;
    refused.assert_error("without a handler", 403, "forbidden", "no stamp");
}

#[tokio::test]
async fn a_replicated_revision_stays_and_the_change_follows_it_in_the_same_commit() {
    let (api, stamps) = stamped().await;
    let brought = json!({"new_edits": false, "docs": [
        {"_id": "a", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "n": 1,
         "_attachments": {"f": {"content_type": "text/plain", "data": "aGk="}}},
    ]});
    let push = async || api.json("POST", "/todos/_bulk_docs", brought.clone()).await.json();
    assert_eq!(push().await, json!([]));
    let read = api.get("/todos/a?revs=true&conflicts=true").await.json();
    assert_eq!((&read["n"], &read["stamp"]), (&json!(1), &json!("create")), "{read}");
    let ids = read["_revisions"]["ids"].as_array().unwrap();
    assert_eq!((ids.len(), &ids[1], read.get("_conflicts")), (3, &json!("b"), None));
    let changes = api.get("/todos/_changes").await.json();
    assert_eq!(changes["results"].as_array().unwrap().len(), 1);
    assert!(changes["last_seq"].as_str().unwrap().starts_with("1-"), "one commit: {changes}");
    assert_eq!(api.get("/todos/a/f").await.text(), "hi");
    // A client that lost the answer brings it again.
    assert_eq!(push().await, json!([]));
    assert_eq!(stamps.asked(), ["create a"]);
    assert_eq!(api.get("/todos/a").await.json()["_rev"], read["_rev"]);
}

#[tokio::test]
async fn of_revisions_that_follow_each_other_only_the_last_is_handled() {
    let (api, stamps) = stamped().await;
    let brought = json!({"new_edits": false, "docs": [
        {"_id": "a", "_rev": "1-a", "n": 1},
        {"_id": "a", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "n": 2},
    ]});
    api.json("POST", "/todos/_bulk_docs", brought).await;
    let read = api.get("/todos/a?conflicts=true").await.json();
    assert_eq!((&read["n"], read.get("_conflicts")), (&json!(2), None), "{read}");
    assert_eq!(stamps.asked().len(), 1);
}

#[tokio::test]
async fn no_revision_passes_by_its_handler_behind_one_that_is_refused() {
    let (api, stamps) = stamped().await;
    let lost =
        json!({"a.txt": {"stub": true, "digest": "md5-AAAAAAAAAAAAAAAAAAAAAA==", "length": 1}});
    for (id, refused) in [("a", json!({"bad": true})), ("b", json!({"_attachments": lost}))] {
        let mut second =
            json!({"_id": id, "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}});
        second.as_object_mut().unwrap().extend(refused.as_object().unwrap().clone());
        let first = json!({"_id": id, "_rev": "1-a", "bad": true});
        let brought = json!({"new_edits": false, "docs": [first, second]});
        let refused = api.json("POST", "/todos/_bulk_docs", brought).await.json();
        assert_eq!(refused.as_array().unwrap().len(), 2, "{refused}");
        assert_eq!(api.get(&format!("/todos/{id}")).await.status, 404);
    }
    assert_eq!(stamps.asked().len(), 4);
}

#[tokio::test]
async fn as_many_revisions_are_brought_as_a_batch_may_have_although_each_brings_another() {
    let limits = Limits { bulk_rows_max: 4, ..Limits::default() };
    let store = Store::with_backend(Arc::new(MemoryBackend::new()), limits);
    let api = Api::served(stamping(&store).0);
    api.database("todos").await;
    let docs: Vec<Value> = (0..4).map(|n| json!({"_id": format!("d{n}"), "_rev": "1-a"})).collect();
    let brought = json!({"new_edits": false, "docs": docs});
    assert_eq!(api.json("POST", "/todos/_bulk_docs", brought).await.json(), json!([]));
    for n in 0..4 {
        assert_eq!(api.get(&format!("/todos/d{n}")).await.json()["stamp"], "create");
    }
}

#[tokio::test]
async fn an_edit_that_its_handler_makes_the_same_as_before_is_left_out_if_asked_so() {
    let (api, _) = stamped().await;
    let rev = api.put("/todos/a", json!({"n": 1})).await;
    let rev = api.put("/todos/a", json!({"_rev": rev, "n": 1})).await;
    let again = api.put("/todos/a?if_changed=true", json!({"_rev": rev, "n": 1})).await;
    assert_eq!(again, rev);
    let other = api.put("/todos/a?if_changed=true", json!({"_rev": rev, "n": 2})).await;
    assert!(other.starts_with("3-"), "{other}");
}

#[tokio::test]
async fn a_revision_is_brought_although_it_says_the_same_and_its_handler_changes_it() {
    let (api, _) = stamped().await;
    api.put("/todos/a", json!({"n": 1})).await;
    let same = json!({"_id": "a", "_rev": "7-abc", "n": 1, "stamp": "create"});
    let brought = json!({"new_edits": false, "if_changed": true, "docs": [same]});
    assert_eq!(api.json("POST", "/todos/_bulk_docs", brought).await.json(), json!([]));
    assert_eq!(api.get("/todos/a?rev=7-abc").await.status, 200);
}

#[tokio::test]
async fn validators_judge_what_a_handler_makes_of_a_replicated_revision() {
    let (builder, _) = stamping(&Store::memory());
    let api = Api::served(builder.validator(must_be_stamped));
    api.database("todos").await;
    let brought = json!({"new_edits": false, "docs": [{"_id": "a", "_rev": "1-a"}]});
    let refused = api.json("POST", "/todos/_bulk_docs", brought).await.json();
    assert_eq!(refused, json!([]));
    assert_eq!(api.get("/todos/a").await.json()["stamp"], "create");
}

#[tokio::test]
async fn a_client_gets_what_the_handler_made_of_its_document() {
    let store = Store::memory();
    let stamps = Stamps::default();
    let builder = syncing::token_gateway(store.clone());
    let gateway = TestGateway::with(builder.write_handler(pattern("todos"), stamps.clone()));
    let (phone, client) = (local().await, gateway.client());
    phone.put(Document::new("a", &json!({"n": 1})).unwrap()).await.unwrap();
    phone.put(Document::new("b", &json!({"bad": true})).unwrap()).await.unwrap();
    let pushed = Watched::new(client.sync(&phone, one_shot("todos"))).ended().await;
    pushed.summary();
    Watched::new(client.sync(&phone, one_shot("todos"))).ended().await.summary();
    let read: Value = phone.get(&id("a"), &Default::default()).await.unwrap().to().unwrap();
    assert_eq!(read, json!({"n": 1, "stamp": "create"}));
    let stored = store.database(&name("todos")).await.unwrap();
    assert!(stored.get(&id("b"), &Default::default()).await.is_err(), "it was denied");
    assert_eq!(stamps.asked().iter().filter(|asked| *asked == "create a").count(), 1);
}

async fn write(db: &Database, text: &str, quiet: bool) {
    let quiet = if quiet { [id(text)].into() } else { Default::default() };
    let options = WriteOptions { quiet, ..WriteOptions::default() };
    let document = Document::new(text, &json!({})).unwrap();
    let written = db.bulk_docs_with(vec![document], options).await.unwrap();
    assert!(written[0].is_ok());
}

#[tokio::test]
async fn a_quiet_change_wakes_no_feed_and_comes_with_the_next() {
    let db = local().await;
    let open = async || {
        let mut feed = db.feed(Default::default()).await.unwrap();
        feed.next_page(10, usize::MAX).await.unwrap();
        feed
    };
    let rows = |page: settee::store::FeedPage| {
        page.rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>()
    };
    let mut control = open().await;
    let mut feed = open().await;
    write(&db, "quiet1", true).await;
    write(&db, "quiet2", true).await;
    assert!(feed.next_page(10, usize::MAX).now_or_never().is_none(), "it waits on");
    write(&db, "loud", false).await;
    let page = feed.next_page(10, usize::MAX).now_or_never().expect("it is there at once");
    assert_eq!(rows(page.unwrap()), ["quiet1", "quiet2", "loud"]);
    let page = control.next_page(10, usize::MAX).await.unwrap();
    assert_eq!(rows(page), ["quiet1", "quiet2", "loud"]);
    write(&db, "quiet3", true).await;
    assert!(feed.next_page(10, usize::MAX).now_or_never().is_none(), "it waits on");
    let mut late = db.feed(Default::default()).await.unwrap();
    let page = late.next_page(10, usize::MAX).await.unwrap();
    assert_eq!(rows(page), ["quiet1", "quiet2", "loud", "quiet3"], "a new reader finds it");
}

#[tokio::test]
async fn a_quiet_document_of_a_handler_is_lost_to_nobody() {
    let (api, _) = stamped().await;
    api.put("/todos/a", json!({})).await;
    let mut live = api.stream("GET", "/todos/_changes?feed=continuous", &[], b"").await;
    assert_eq!(live.row().await.unwrap()["id"], "a");
    let since = api.get("/todos/_changes").await.json()["last_seq"].as_str().unwrap().to_owned();
    api.put("/todos/quiet", json!({})).await;
    let poll = format!("/todos/_changes?feed=longpoll&since={since}");
    assert_eq!(api.get(&poll).await.json()["results"][0]["id"], "quiet", "who asks is told");
    api.put("/todos/loud", json!({})).await;
    assert_eq!(live.row().await.unwrap()["id"], "quiet");
    assert_eq!(live.row().await.unwrap()["id"], "loud");
}

#[tokio::test]
async fn a_quiet_row_of_a_batch_goes_out_with_the_others() {
    let (api, _) = stamped().await;
    let mut live = api.stream("GET", "/todos/_changes?feed=continuous", &[], b"").await;
    let batch = docs(&[json!({"_id": "quiet"}), json!({"_id": "loud"})]);
    api.json("POST", "/todos/_bulk_docs", batch).await;
    let rows = [live.row().await.unwrap(), live.row().await.unwrap()];
    assert_eq!([&rows[0]["id"], &rows[1]["id"]], [&json!("quiet"), &json!("loud")]);
}

async fn censored() -> (Api, Store) {
    let store = Store::memory();
    let builder = http::token_gateway(store.clone());
    let api = Api::served(builder.fetch_handler(pattern("todos"), Censor));
    api.database("todos").await;
    let all = [
        json!({"_id": "open", "n": 1}),
        json!({"_id": "refused", "refused": 1}),
        json!({"_id": "secret", "n": 1, "secret": 7}),
    ];
    api.json("POST", "/todos/_bulk_docs", docs(&all)).await;
    (api, store)
}

#[tokio::test]
async fn reads_show_what_the_fetch_handler_leaves() {
    let (api, _) = censored().await;
    let one = api.get("/todos/secret").await.json();
    assert_eq!((&one["n"], one.get("secret")), (&json!(1), None));
    let refused = api.get("/todos/refused").await;
    refused.assert_error("one document", 403, "forbidden", "not for your eyes");
    let found = api.json("POST", "/todos/_find", json!({"selector": {}})).await;
    assert_eq!(found.json()["docs"].as_array().unwrap().len(), 2);
    for path in ["/todos/_all_docs?include_docs=true", "/todos/_changes?include_docs=true"] {
        let listed = api.get(path).await;
        let rows = listed.json();
        let rows = rows.get("rows").or(rows.get("results")).unwrap().as_array().unwrap().clone();
        assert_eq!(rows.len(), 3, "ids are told: {path}");
        let refused = rows.iter().find(|row| row["id"] == "refused").unwrap();
        assert!(refused["doc"].is_null(), "{path}: {refused}");
        let secret = rows.iter().find(|row| row["id"] == "secret").unwrap();
        assert_eq!(secret["doc"]["n"], 1, "{path}");
    }
    for path in [
        "/todos/secret",
        "/todos/secret?conflicts=true",
        "/todos/_all_docs?include_docs=true",
        "/todos/_changes?include_docs=true&conflicts=true",
    ] {
        assert!(!api.get(path).await.text().contains("secret\":7"), "{path}");
    }
}

#[tokio::test]
async fn a_selector_cannot_find_out_what_the_fetch_handler_hides() {
    let (api, _) = censored().await;
    for selector in [json!({"secret": {"$gt": 5}}), json!({"$nor": [{"secret": {"$gt": 5}}]})] {
        let path = "/todos/_changes?filter=_selector";
        let refused = api.json("POST", path, json!({"selector": selector})).await;
        refused.assert_error("a guess", 403, "forbidden", "not with a selector");
    }
    let named = json!({"doc_ids": ["secret"]});
    let named = api.json("POST", "/todos/_changes?filter=_doc_ids", named).await;
    assert_eq!(named.json()["results"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn replicas_get_exact_revisions_or_none() {
    let (api, store) = censored().await;
    let all = json!({"docs": [{"id": "open"}, {"id": "refused"}, {"id": "secret"}]});
    let got = api.json("POST", "/todos/_bulk_get?revs=true", all).await;
    assert!(!got.text().contains("\"secret\":7"), "{}", got.text());
    let results = got.json()["results"].clone();
    assert!(results[0]["docs"][0].get("ok").is_some(), "{results}");
    assert!(results[1]["docs"][0].get("error").is_some(), "{results}");
    assert!(results[2]["docs"][0].get("error").is_some(), "{results}");
    let exact = api.get("/todos/secret?revs=true").await;
    exact.assert_error("with its history", 403, "forbidden", "not replicated");

    let builder = syncing::token_gateway(store.clone()).fetch_handler(pattern("todos"), Censor);
    let gateway = TestGateway::with(builder);
    let (phone, client) = (local().await, gateway.client());
    let mut sync = Watched::new(client.sync(&phone, live("todos")));
    sync.up_to_date().await.unwrap();
    assert!(phone.get(&id("open"), &Default::default()).await.is_ok());
    assert_eq!(phone.info().await.unwrap().doc_count, 1);
    let served = store.database(&name("todos")).await.unwrap();
    served.put(Document::new("more", &json!({})).unwrap()).await.unwrap();
    syncing::until_count(&phone, 2).await;
    sync.stop().await.summary();
}

#[tokio::test]
async fn a_document_that_cannot_be_judged_yet_holds_a_replica_up() {
    let store = Store::memory();
    let served = store.create(&name("todos")).await.unwrap();
    served.put(Document::new("a", &json!({"later": true})).unwrap()).await.unwrap();
    let builder = http::token_gateway(store).fetch_handler(pattern("todos"), Censor);
    let api = Api::served(builder);
    let refused = api.get("/todos/a").await;
    refused.assert_error("for now", 503, "service_unavailable", "ask again");
    let feed = api.get("/todos/_changes?include_docs=true").await;
    assert!(!feed.text().contains("last_seq"), "no place after it: {}", feed.text());
}

#[tokio::test]
async fn the_servers_own_writes_and_reads_pass_no_handler() {
    let store = Store::memory();
    let (builder, stamps) = stamping(&store);
    let api = Api::served(builder.fetch_handler(pattern("todos"), Censor));
    api.database("todos").await;
    let todos = store.database(&name("todos")).await.unwrap();
    let saved = todos.put(Document::new("a", &json!({"secret": 7})).unwrap()).await.unwrap();
    let fetched: Value = todos.get(&id("a"), &Default::default()).await.unwrap().to().unwrap();
    assert_eq!(fetched, json!({"secret": 7}));
    assert_eq!(api.get("/todos/a").await.json().get("secret"), None);
    todos.delete(&id("a"), saved.rev).await.unwrap();
    assert_eq!(api.get("/todos/a").await.status, 404);
    assert_eq!(stamps.asked(), [""; 0]);
}

#[tokio::test]
async fn what_a_fetch_handler_may_hold_back_comes_in_no_group() {
    let (_, store) = censored().await;
    let served = store.database(&name("todos")).await.unwrap();
    let new = |id, body| Document::new(id, &body).unwrap();
    let group = [("fine", json!({})), ("good", json!({})), ("hidden", json!({"refused": 1}))];
    let group = group.map(|(id, body)| new(id, body)).to_vec();
    let outcomes = served.write_group(group, EditMode::Edit).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok));

    let builder = syncing::token_gateway(store.clone()).fetch_handler(pattern("todos"), Censor);
    let gateway = TestGateway::with(builder);
    let (phone, client) = (local().await, gateway.client());
    let ended = Watched::new(client.sync(&phone, one_shot("todos"))).ended().await;
    assert!(ended.denied.is_empty(), "{:?}", ended.denied);
    let options = ChangesOptions { groups: true, ..ChangesOptions::default() };
    let rows = phone.changes(&options).await.unwrap().rows;
    let told: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.group)).collect();
    assert_eq!(told, [("open", None), ("fine", None), ("good", None)]);
}
