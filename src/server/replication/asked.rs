//! The body of `_replicate`: what is to be replicated, or which replication is to end.

use std::fmt;

use serde_json::{Value, json};

use crate::doc::{BlobHasher, DbName, DocId, Selector};
use crate::http_peer::Remote;
use crate::limits::Limits;
use crate::proto::message::WireError;
use crate::server::auth::Credentials;
use crate::server::error::{HttpRefusal, ToWire as _, bad_request};
use crate::store::{StoreError, Uuid};

/// Why a filter is not applied.
const NO_FILTERS: &str = "this server runs no JavaScript: the filter must be _doc_ids, _selector or \
    _design";

const NO_WINNERS_ONLY: &str = "winning_revs_only is not offered: all leaves are replicated";

const NO_PROXY: &str = "replications through a proxy are not offered";

/// One end of a replication.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    Local(DbName),
    Remote(Remote),
}

impl End {
    /// The end as it is shown, without secrets.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Local(name) => name.to_string(),
            Self::Remote(remote) => remote.to_string(),
        }
    }

    fn read(member: &str, value: &Value) -> Result<Self, WireError> {
        let bad = |problem: &str| bad_request(format!("`{member}` {problem}"));
        let text = value.as_str().or(value["url"].as_str());
        let text = text.ok_or_else(|| bad("must be a name, a URL, or an object with a `url`"))?;
        if !text.contains("://") {
            let name = DbName::parse(text).map_err(|error| error.to_wire())?;
            return Ok(Self::Local(name));
        }
        let mut remote: Remote = text.parse().map_err(|error| bad(&format!("{error}")))?;
        let headers = value["headers"].as_object().into_iter().flatten();
        for (name, content) in headers {
            let content = content.as_str().ok_or_else(|| bad("has a header that is no text"))?;
            remote = remote.header(name, content).map_err(|error| bad(&error.to_string()))?;
        }
        match &value["auth"] {
            Value::Null => {}
            Value::Object(ways) => {
                let basic = &value["auth"]["basic"];
                let pair = basic["username"].as_str().zip(basic["password"].as_str());
                let (user, password) = pair
                    .filter(|_| ways.len() == 1)
                    .ok_or_else(|| bad("must have `auth` as {\"basic\": {username, password}}"))?;
                remote = remote.basic(user, password).map_err(|error| bad(&error.to_string()))?;
            }
            _ => return Err(bad("must have an object as `auth`")),
        }
        Ok(Self::Remote(remote))
    }
}

/// A replication that is asked for.
#[derive(Clone)]
pub(crate) struct Replication {
    /// As it came, secrets included: what is kept of a continuous one.
    pub body: Value,
    pub source: End,
    pub target: End,
    pub continuous: bool,
    pub create_target: bool,
    pub doc_ids: Option<Vec<DocId>>,
    pub selector: Option<Selector>,
    pub since: Option<String>,
    pub checkpoints: bool,
}

impl fmt::Debug for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replication")
            .field("source", &self.source)
            .field("target", &self.target)
            .field("continuous", &self.continuous)
            .finish_non_exhaustive()
    }
}

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    Start(Replication),
    /// The end of the replication that the same body would start.
    Cancel(Replication),
    CancelId(String),
}

impl Asked {
    pub(crate) fn read(body: Value, limits: &Limits) -> Result<Self, WireError> {
        let cancel = flag(&body, "cancel")?;
        let id = ["replication_id", "_local_id", "id"].iter().find_map(|name| body[*name].as_str());
        match (cancel, id) {
            (true, Some(id)) => Ok(Self::CancelId(id.to_owned())),
            (true, None) => Ok(Self::Cancel(Replication::read(body, limits)?)),
            (false, _) => Ok(Self::Start(Replication::read(body, limits)?)),
        }
    }
}

impl Replication {
    pub(super) fn read(body: Value, limits: &Limits) -> Result<Self, WireError> {
        for (name, reason) in [("winning_revs_only", NO_WINNERS_ONLY)] {
            if flag(&body, name)? {
                return Err(HttpRefusal::NotImplemented { reason }.to_wire());
            }
        }
        if ["proxy", "source_proxy", "target_proxy"].iter().any(|name| !body[*name].is_null()) {
            return Err(HttpRefusal::NotImplemented { reason: NO_PROXY }.to_wire());
        }
        let end = |member: &str| End::read(member, &body[member]);
        let (source, target) = (end("source")?, end("target")?);
        let (doc_ids, selector) = narrowing(&body, limits)?;
        let since = match &body["since_seq"] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        let checkpoints = body["use_checkpoints"].is_null() || flag(&body, "use_checkpoints")?;
        Ok(Self {
            continuous: flag(&body, "continuous")?,
            create_target: flag(&body, "create_target")?,
            source,
            target,
            doc_ids,
            selector,
            since,
            checkpoints,
            body,
        })
    }

    pub(crate) fn has_remote(&self) -> bool {
        [&self.source, &self.target].iter().any(|end| matches!(end, End::Remote(_)))
    }

    /// Names the job. The same asked for by the same user is the same job; who has no name is known
    /// by the credentials.
    pub(crate) fn id(&self, store: Uuid, user: Option<&str>, credentials: &Credentials) -> String {
        let mut doc_ids: Vec<&str> = self.doc_ids.iter().flatten().map(DocId::as_str).collect();
        doc_ids.sort_unstable();
        let parts = json!([
            store.to_string(),
            self.source.shown(),
            self.target.shown(),
            self.doc_ids.as_ref().map(|_| doc_ids),
            self.selector.as_ref().map(Selector::as_str),
            user,
            user.is_none().then(|| credentials.value()),
        ]);
        let mut id = BlobHasher::of(parts.to_string().as_bytes()).key.to_string();
        id.truncate(32);
        for (part, asked) in
            [("+continuous", self.continuous), ("+create_target", self.create_target)]
        {
            id.push_str(if asked { part } else { "" });
        }
        id
    }
}

fn flag(body: &Value, name: &str) -> Result<bool, WireError> {
    match &body[name] {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(*flag),
        _ => Err(bad_request(format!("`{name}` must be a boolean"))),
    }
}

type Narrowing = (Option<Vec<DocId>>, Option<Selector>);

/// Which documents are meant.
fn narrowing(body: &Value, limits: &Limits) -> Result<Narrowing, WireError> {
    let doc_ids = match &body["doc_ids"] {
        Value::Null => None,
        Value::Array(ids) => Some(ids_of(ids, limits)?),
        _ => return Err(bad_request("`doc_ids` must be an array")),
    };
    let design = json!({"_id": {"$regex": "^_design/"}});
    let selector = match (&body["filter"], &body["selector"]) {
        (Value::Null, Value::Null) => None,
        (Value::Null, selector) => Some(selector),
        (Value::String(name), selector) => match name.as_str() {
            "_doc_ids" if doc_ids.is_some() && selector.is_null() => None,
            "_doc_ids" => return Err(bad_request("the filter _doc_ids needs `doc_ids` alone")),
            "_selector" if !selector.is_null() => Some(selector),
            "_selector" => return Err(bad_request("the filter _selector needs a `selector`")),
            "_design" if selector.is_null() => Some(&design),
            "_design" => return Err(bad_request("`filter` and `selector` cannot be combined")),
            _ => return Err(HttpRefusal::NotImplemented { reason: NO_FILTERS }.to_wire()),
        },
        _ => return Err(bad_request("`filter` must be a text")),
    };
    if doc_ids.is_some() && selector.is_some() {
        return Err(bad_request("`doc_ids`, `filter` and `selector` cannot be combined"));
    }
    let parsed = selector.map(|selector| Selector::parse(&selector.to_string(), limits));
    let selector = parsed.transpose().map_err(|error| error.to_wire())?;
    Ok((doc_ids, selector))
}

fn ids_of(ids: &[Value], limits: &Limits) -> Result<Vec<DocId>, WireError> {
    if ids.len() > limits.bulk_rows_max {
        let (count, max) = (ids.len() as u64, limits.bulk_rows_max as u64);
        return Err(StoreError::TooLarge { what: "doc_ids", count, max }.to_wire());
    }
    let texts = ids.iter().map(|id| id.as_str());
    let texts: Option<Vec<&str>> = texts.collect();
    let texts = texts.ok_or_else(|| bad_request("`doc_ids` must be an array of texts"))?;
    let id = |text: &str| DocId::parse(text, limits.doc_id_bytes_max);
    texts.into_iter().map(|text| id(text).map_err(|error| error.to_wire())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<Asked, WireError> {
        Asked::read(body, &Limits::default())
    }

    fn started(body: Value) -> Replication {
        match read(body) {
            Ok(Asked::Start(asked)) => asked,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ends_are_names_and_addresses() {
        let asked = started(json!({
            "source": {"url": "http://h/a", "auth": {"basic": {"username": "u", "password": "pw"}}},
            "target": "b",
        }));
        assert_eq!((asked.source.shown(), asked.target.shown()), ("http://h/a".into(), "b".into()));
        assert!(asked.has_remote() && asked.checkpoints && !asked.continuous);
        assert!(!format!("{asked:?}").contains("pw"));
        assert!(!started(json!({"source": "a", "target": "b"})).has_remote());
    }

    #[test]
    fn the_same_asked_for_is_the_same_job() {
        let shown = |token: &str| Credentials::new(json!({ "token": token }));
        let id = |body: Value, user| started(body).id(Uuid([1; 16]), user, &shown("one"));
        let plain = id(json!({"source": "a", "target": "b"}), None);
        assert_eq!(plain, id(json!({"target": "b", "source": "a", "cancel": false}), None));
        for other in [
            id(json!({"source": "a", "target": "b"}), Some("anna")),
            id(json!({"source": "b", "target": "a"}), None),
            id(json!({"source": "a", "target": "b", "doc_ids": []}), None),
            id(json!({"source": "a", "target": "b", "filter": "_design"}), None),
            id(json!({"source": "a", "target": "b", "continuous": true}), None),
        ] {
            assert_ne!(plain, other);
        }
        let by = |user, token| {
            started(json!({"source": "a", "target": "b"})).id(Uuid([1; 16]), user, &shown(token))
        };
        assert_ne!(plain, by(None, "two"), "another owner without a name");
        assert_eq!(by(Some("anna"), "one"), by(Some("anna"), "two"));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let check = |body: Value, status: u16| {
            assert_eq!(read(body.clone()).expect_err(&body.to_string()).status, status, "{body}");
        };
        let with = |name: &str, value: Value| {
            let mut body = json!({"source": "a", "target": "b"});
            body[name] = value;
            body
        };
        check(json!({}), 400);
        check(json!([]), 400);
        check(json!({"source": "a"}), 400);
        check(json!({"source": "A", "target": "b"}), 400);
        check(json!({"source": "ftp://h/a", "target": "b"}), 400);
        check(json!({"source": {"url": "http://h/a", "auth": {"x": 1}}, "target": "b"}), 400);
        check(
            json!({"source": {"url": "http://h/a", "headers": {"Host": "x"}}, "target": "b"}),
            400,
        );
        check(with("continuous", json!("yes")), 400);
        check(with("doc_ids", json!([1])), 400);
        check(with("doc_ids", json!("x")), 400);
        check(with("filter", json!("_doc_ids")), 400);
        check(with("filter", json!("_selector")), 400);
        check(with("filter", json!("app/mine")), 501);
        check(with("winning_revs_only", json!(true)), 501);
        check(with("proxy", json!("http://p")), 501);
        check(with("selector", json!([])), 400);
        check(json!({"cancel": true}), 400);
    }
}
