//! Rules that documents are held to before they are stored.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/wire.rs"]
mod wire;

use http::{Api, docs, token_gateway};
use serde_json::{Value, json};
use settee::server::{Denied, GatewayBuilder, ProposedWrite, Validator};
use settee::validate::{Rule, ValidateError};
use settee::{Selector, Store};

fn rule(databases: &str) -> Rule {
    Rule::new(databases.parse().expect("a pattern"))
}

fn selector(value: Value) -> Selector {
    Selector::from_value(&value).expect("a selector")
}

async fn api(validators: Vec<Rule>) -> Api {
    let builder =
        validators.into_iter().fold(token_gateway(Store::memory()), GatewayBuilder::validator);
    let api = Api::served(builder);
    api.database("todos").await;
    api
}

fn todo_schema() -> Value {
    json!({
        "type": "object",
        "required": ["title"],
        "properties": {
            "title": {"type": "string", "maxLength": 5},
            "tags": {"type": "array", "items": {"enum": ["red", "blue"]}},
        },
        "additionalProperties": false,
    })
}

#[tokio::test]
async fn a_schema_names_what_does_not_hold_and_shows_no_value() {
    let api = api(vec![rule("todos").schema(&todo_schema()).unwrap()]).await;
    for (body, reason) in [
        (json!({}), "the document: lacks the member title"),
        (json!({"title": 1}), "the field /title: its value is not of type \"string\""),
        (json!({"title": "secret"}), "the field /title: its value is longer than 5 characters"),
        (
            json!({"title": "a", "tags": ["red", "green"]}),
            "the field /tags/1: its value is not one",
        ),
        (json!({"title": "a", "more": 1}), "members that the schema does not know: more"),
    ] {
        let answer = api.json("PUT", "/todos/a", body.clone()).await;
        answer.assert_error(&body.to_string(), 403, "forbidden", reason);
        assert!(!answer.text().contains("secret") && !answer.text().contains("green"));
    }
    let rev = api.put("/todos/a", json!({"title": "a", "tags": ["red"]})).await;
    let deleted = api.ask("DELETE", &format!("/todos/a?rev={rev}"), &[], b"").await;
    assert_eq!(deleted.status, 200, "a deletion has no content to judge");
    api.put("/todos/_design/app", json!({"filters": {}})).await;
    api.database("notes").await;
    api.put("/notes/a", json!({"other": 1})).await;
}

#[tokio::test]
async fn the_others_of_a_batch_are_stored() {
    let matching = rule("to*").selector(selector(json!({"type": "todo"}))).reason("todos only");
    let api = api(vec![matching]).await;
    for new_edits in [true, false] {
        let batch: Vec<Value> = (0..6)
            .map(|n| {
                let kind = if n % 2 == 0 { "todo" } else { "note" };
                let id = format!("{new_edits}{n}");
                if new_edits {
                    json!({"_id": id, "type": kind})
                } else {
                    json!({"_id": id, "_rev": "1-abc", "type": kind})
                }
            })
            .collect();
        let body = json!({"docs": batch, "new_edits": new_edits});
        let answer = api.json("POST", "/todos/_bulk_docs", body).await.json();
        let refused: Vec<&Value> =
            answer.as_array().unwrap().iter().filter(|row| row["error"] == "forbidden").collect();
        assert_eq!(refused.len(), 3, "{answer}");
        assert!(refused.iter().all(|row| row["reason"] == "todos only"), "{answer}");
    }
    assert_eq!(api.get("/todos").await.json()["doc_count"], 6);
}

#[tokio::test]
async fn an_immutable_field_keeps_its_value() {
    let api = api(vec![rule("*").immutable(["owner", "meta.made"]).unwrap()]).await;
    let put = async |path: &str, body: Value| api.json("PUT", path, body).await;
    let first = json!({"owner": "anna", "meta": {"made": 12.0, "seen": 1}});
    let rev = api.put("/todos/a", first).await;
    let rev = api
        .put("/todos/a", json!({"_rev": rev, "owner": "anna", "meta": {"made": 12.0, "seen": 2}}))
        .await;
    for body in [
        json!({"_rev": rev, "owner": "bert", "meta": {"made": 12.0}}),
        json!({"_rev": rev, "meta": {"made": 12.0}}),
        json!({"_rev": rev, "owner": "anna", "meta": 1}),
        json!({"_rev": rev, "owner": "anna", "meta": {"made": 13}}),
    ] {
        let answer = put("/todos/a", body.clone()).await;
        answer.assert_error(&body.to_string(), 403, "forbidden", "may not change");
    }
    // A replicator's branch that shares nothing with what is stored, and one that does.
    for (revs, owner, expected) in [
        (json!({"start": 9, "ids": ["f9", "f8"]}), "bert", "forbidden"),
        (json!({"start": 9, "ids": ["f7"]}), "anna", "null"),
    ] {
        let doc = json!({"_id": "a", "_rev": format!("9-{}", revs["ids"][0].as_str().unwrap()),
            "_revisions": revs, "owner": owner, "meta": {"made": 12.0}});
        let body = json!({"docs": [doc], "new_edits": false});
        let answer = api.json("POST", "/todos/_bulk_docs", body).await.json();
        let told = answer.get(0).and_then(|row| row["error"].as_str()).unwrap_or("null");
        assert_eq!(told, expected, "{answer}");
    }
}

#[tokio::test]
async fn one_call_cannot_bring_two_owners_of_a_new_document() {
    let api = api(vec![rule("*").immutable(["owner"]).unwrap()]).await;
    let docs = json!([
        {"_id": "a", "_rev": "1-a", "owner": "anna"},
        {"_id": "a", "_rev": "1-b", "owner": "bert"},
    ]);
    let body = json!({"docs": docs, "new_edits": false});
    let answer = api.json("POST", "/todos/_bulk_docs", body).await.json();
    assert_eq!(answer.as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(answer[0]["error"], "forbidden");
    let read = api.get("/todos/a?conflicts=true").await.json();
    assert_eq!((&read["owner"], read.get("_conflicts")), (&json!("anna"), None));
}

#[tokio::test]
async fn a_document_written_after_its_deletion_may_choose_again() {
    let api = api(vec![rule("*").immutable(["owner"]).unwrap()]).await;
    let rev = api.put("/todos/a", json!({"owner": "anna"})).await;
    let deleted = api.ask("DELETE", &format!("/todos/a?rev={rev}"), &[], b"").await;
    assert_eq!(deleted.status, 200);
    api.put("/todos/a", json!({"owner": "bert"})).await;
}

/// Is asked once for a whole call, and does not know what to say about a document named `later`.
#[derive(Default)]
struct Asked(std::sync::Arc<std::sync::Mutex<Vec<usize>>>);

#[async_trait::async_trait]
impl Validator for Asked {
    async fn validate(&self, write: &ProposedWrite<'_>) -> Result<(), Denied> {
        match write.document.id.as_str() {
            "later" => Err(Denied::unavailable("ask me later")),
            "bad" => Err(Denied::forbidden(format!("not for {}", write.user.unwrap_or("nobody")))),
            _ => Ok(()),
        }
    }

    async fn validate_all(&self, writes: &[ProposedWrite<'_>]) -> Vec<Result<(), Denied>> {
        tokio::task::yield_now().await;
        self.0.lock().expect("no panic").push(writes.len());
        let mut verdicts = Vec::new();
        for write in writes {
            verdicts.push(self.validate(write).await);
        }
        verdicts
    }
}

#[tokio::test]
async fn a_validator_of_ones_own_sees_a_call_at_once_and_only_what_passed_before() {
    let asked = Asked::default();
    let calls = asked.0.clone();
    let builder = token_gateway(Store::memory())
        .validator(rule("*").selector(selector(json!({"n": {"$lt": 3}}))))
        .validator(asked);
    let api = Api::served(builder);
    api.database("db").await;
    let batch: Vec<Value> = (0..5).map(|n| json!({"_id": format!("d{n}"), "n": n})).collect();
    let mut batch = docs(&batch);
    batch["docs"].as_array_mut().unwrap().push(json!({"_id": "bad", "n": 0}));
    let answer = api.json("POST", "/db/_bulk_docs", batch).await.json();
    let told: Vec<&str> = answer
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["reason"].as_str().unwrap_or("stored"))
        .collect();
    assert_eq!(&told[..3], ["stored"; 3]);
    assert!(told[3].contains("selector") && told[4].contains("selector"), "{told:?}");
    assert_eq!(told[5], "not for root");
    assert_eq!(*calls.lock().unwrap(), [4]);
    // No verdict for one is none for the call, and nothing of it is stored.
    let batch = docs(&[json!({"_id": "x", "n": 1}), json!({"_id": "later", "n": 1})]);
    let answer = api.json("POST", "/db/_bulk_docs", batch).await;
    answer.assert_error("later", 503, "service_unavailable", "ask me later");
    assert_eq!(api.get("/db/x").await.status, 404);
}

#[test]
fn a_rule_that_cannot_be_kept_is_refused() {
    let schema = |schema: Value| rule("*").schema(&schema).expect_err("refused").to_string();
    let told = schema(json!({"type": "strng"}));
    assert!(told.contains("/type") && told.contains("strng"), "{told}");
    let told = schema(json!({"$ref": "http://127.0.0.1:9/schema.json"}));
    assert!(told.contains("127.0.0.1:9"), "{told}");
    for field in ["", "_id", "a..b", "."] {
        let refused = rule("*").immutable([field]).expect_err(field);
        assert!(matches!(refused, ValidateError::Field { .. }), "{field}: {refused}");
    }
}
