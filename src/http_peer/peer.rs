//! A database behind CouchDB's HTTP API as one end of a replication.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::StreamExt as _;
use http::Method;
use serde_json::{Map, Value, json};

use crate::doc::{
    Attachment, AttachmentData, Body, DocId, Document, LocalId, ParseError, Rev, RevsDiff,
};
use crate::limits::Limits;
use crate::proto::call::RevsDiffReply;
use crate::proto::message::WireError;
use crate::replicate::local_peer::FETCH_BYTES_TARGET;
use crate::replicate::peer::{
    AttachmentBytes, ChangeStream, ChangesRequest, Fetched, RefusedDoc, WriteAnswer,
};
use crate::replicate::{Peer, PeerError};
use crate::store::StoreError;

use super::answers::{Branch, BulkGet, Info, Row, Welcome};
use super::changes::{self, path_of};
use super::exchange::{Ask, Exchange, Failure, broke, disconnected};
use super::remote::{Remote, encoded};
use super::sync::HttpOptions;
use super::upload::{self, STAGED_MAX, Staged, measured};

/// Text of documents in one `_bulk_docs`.
const WRITE_BYTES_TARGET: usize = 1024 * 1024;

/// Revisions in one `_revs_diff`.
const DIFF_REVS_MAX: usize = 5_000;

/// Writes of a checkpoint that somebody else writes at the same time.
const LOCAL_TRIES_MAX: u32 = 10;

/// A database behind CouchDB's HTTP API.
pub(crate) struct HttpPeer {
    exchange: Arc<Exchange>,
    identity: String,
    view: Option<String>,
    /// Whether the server has turned out to have no `_bulk_get`.
    one_by_one: AtomicBool,
    /// Whether documents were written and no commit was asked for since.
    is_uncommitted: AtomicBool,
    staged: Staged,
}

impl HttpPeer {
    /// Looks the database up, and makes it if it is not there and `options` ask for that. It must be
    /// there at the first look: whoever calls this knows best whether to try again.
    pub(crate) async fn connect(
        remote: Remote,
        options: &HttpOptions,
        limits: Limits,
    ) -> Result<Self, PeerError> {
        let at_once = HttpOptions { request_retries: 0, ..options.clone() };
        let first = Exchange::new(remote.clone(), &at_once, limits.clone())?;
        let look = Ask::get(first.remote.url().to_owned());
        let info: Info = match first.json(&look).await.map_err(PeerError::from) {
            Err(PeerError::Refused(error)) if error.status == 404 && options.create => {
                let make = first.request(Method::PUT, first.remote.url());
                match first.finish(make, &Default::default()).await.map_err(PeerError::from) {
                    // Somebody else was faster.
                    Err(PeerError::Refused(error)) if error.status == 412 => {}
                    made => drop(made?),
                }
                first.json(&look).await?
            }
            Err(PeerError::Protocol { .. }) => return Err(broke("there is no CouchDB database")),
            found => found?,
        };
        let identity = identity(&first, &info).await?;
        Ok(Self {
            exchange: Arc::new(Exchange::new(remote, options, limits)?),
            identity,
            view: info.view,
            one_by_one: AtomicBool::new(false),
            is_uncommitted: AtomicBool::new(false),
            staged: Staged::default(),
        })
    }

    async fn bulk_get(&self, wanted: &[(DocId, Rev)]) -> Result<Fetched, Failure> {
        let item = |(id, rev): &(DocId, Rev)| json!({"id": id.as_str(), "rev": rev.to_string()});
        let items: Vec<Value> = wanted.iter().map(item).collect();
        let body = json!({ "docs": items }).to_string();
        let url = self.exchange.url("_bulk_get?revs=true&attachments=false");
        let answer: BulkGet = self.exchange.json(&Ask::post(url, body)).await?;
        let mut taken = Taken::new(wanted);
        for result in answer.results {
            for branch in result.docs {
                taken.take(&result.id, branch, &self.exchange.limits)?;
            }
        }
        Ok(taken.all()?)
    }

    /// What a server without `_bulk_get` is asked instead.
    async fn open_revs(&self, wanted: &[(DocId, Rev)]) -> Result<Fetched, Failure> {
        let (mut found, mut bytes) = (Fetched::default(), 0);
        for (index, one) in wanted.iter().enumerate() {
            let revs = encoded(&json!([one.1.to_string()]).to_string());
            let path = path_of(&one.0);
            let url = self.exchange.url(&format!("{path}?revs=true&open_revs={revs}"));
            let mut taken = Taken::new(std::slice::from_ref(one));
            match self.exchange.json::<Vec<Branch>>(&Ask::get(url)).await {
                Ok(branches) => {
                    for branch in branches {
                        bytes += branch.bytes();
                        taken.take(one.0.as_str(), branch, &self.exchange.limits)?;
                    }
                }
                Err(Failure::TooLarge) => taken.refuse(&one.0, &one.1, too_large()),
                Err(other) => return Err(other),
            }
            let part = taken.all()?;
            found.docs.extend(part.docs);
            found.refused.extend(part.refused);
            if bytes >= FETCH_BYTES_TARGET {
                found.rest = wanted[index + 1..].to_vec();
                break;
            }
        }
        Ok(found)
    }

    /// Reads revisions, fewer at a time where the answer would be too large.
    async fn fetch_part(&self, wanted: &[(DocId, Rev)]) -> Result<Fetched, Failure> {
        if !self.one_by_one.load(Ordering::Relaxed) {
            match self.bulk_get(wanted).await {
                Err(Failure::Other { error: PeerError::Refused(error), .. })
                    if matches!(error.status, 404 | 405 | 501) =>
                {
                    self.one_by_one.store(true, Ordering::Relaxed);
                }
                found => return found,
            }
        }
        self.open_revs(wanted).await
    }

    async fn diff_part(
        &self,
        asked: &BTreeMap<String, Vec<String>>,
        found: &mut Vec<(DocId, RevsDiff)>,
    ) -> Result<(), PeerError> {
        let body = json!(asked).to_string();
        let ask = Ask::post(self.exchange.url("_revs_diff"), body);
        let reply: RevsDiffReply = self.exchange.json(&ask).await?;
        let revs = |texts: Vec<String>| {
            texts.iter().map(|text| Rev::parse(text)).collect::<Result<Vec<Rev>, ParseError>>()
        };
        for (id, row) in reply {
            if !asked.contains_key(&id) {
                return Err(broke("_revs_diff tells of a document that it was not asked for"));
            }
            let id = DocId::parse(&id, self.exchange.limits.doc_id_bytes_max)?;
            let diff = RevsDiff {
                missing: revs(row.missing)?,
                // Nothing is sent as a difference, and what a server shows here may be cut.
                possible_ancestors: Vec::new(),
            };
            found.push((id, diff));
        }
        Ok(())
    }

    /// Writes documents that fit one request, fewer at a time where the server finds them too much.
    async fn bulk_docs(
        &self,
        docs: Vec<(Document, String)>,
        answer: &mut WriteAnswer,
    ) -> Result<(), PeerError> {
        let mut todo = vec![docs];
        while let Some(mut docs) = todo.pop() {
            let texts: Vec<&str> = docs.iter().map(|(_, text)| text.as_str()).collect();
            let body = format!("{{\"new_edits\":false,\"docs\":[{}]}}", texts.join(","));
            let ask = Ask::post(self.exchange.url("_bulk_docs"), body);
            let written = self.exchange.json::<Vec<Row>>(&ask).await.map_err(PeerError::from);
            match written {
                Ok(rows) => {
                    for row in rows {
                        refuse_row(&row, &docs, answer)?;
                    }
                }
                Err(error) => {
                    // What `_bulk_docs` does not find is the database.
                    let told = error.about_document().filter(|told| told.status != 404);
                    let Some(told) = told else { return Err(error) };
                    if let [(document, _)] = &*docs {
                        refuse(document, told, answer);
                        continue;
                    }
                    todo.push(docs.split_off(docs.len() / 2));
                    todo.push(docs);
                }
            }
        }
        Ok(())
    }

    async fn write_all(&self, docs: Vec<Document>) -> Result<WriteAnswer, PeerError> {
        let mut answer = WriteAnswer::default();
        let (mut part, mut bytes) = (Vec::new(), 0);
        for document in docs {
            // A stub that the server lacks fails the request that it is in: it gets one of its own.
            let is_stub = |a: &Attachment| matches!(a.data, AttachmentData::Stub { .. });
            if document.attachments.values().any(is_stub) {
                match upload::put(&self.exchange, &self.staged, &document).await {
                    Ok(()) => {}
                    Err(error) => match error.about_document() {
                        Some(told) => refuse(&document, told, &mut answer),
                        None => return Err(error),
                    },
                }
                continue;
            }
            let text = document.to_json();
            if bytes > 0 && bytes + text.len() > WRITE_BYTES_TARGET {
                self.bulk_docs(std::mem::take(&mut part), &mut answer).await?;
                bytes = 0;
            }
            bytes += text.len();
            part.push((document, text));
        }
        if !part.is_empty() {
            self.bulk_docs(part, &mut answer).await?;
        }
        Ok(answer)
    }

    async fn local_with_rev(&self, id: &LocalId) -> Result<Option<Map<String, Value>>, PeerError> {
        let ask = Ask::get(self.local_url(id));
        match self.exchange.json::<Map<String, Value>>(&ask).await.map_err(PeerError::from) {
            Err(PeerError::Refused(error)) if error.status == 404 => Ok(None),
            found => Ok(Some(found?)),
        }
    }

    /// Has the server write to disk what it has taken: CouchDB 1 may answer before, and a checkpoint
    /// must not outlive the documents that it stands for.
    async fn commit(&self) -> Result<(), PeerError> {
        if !self.is_uncommitted.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        let ask = Ask::post(self.exchange.url("_ensure_full_commit"), "{}".into());
        match self.exchange.json::<Value>(&ask).await.map_err(PeerError::from) {
            Err(PeerError::Refused(error)) if matches!(error.status, 404 | 405 | 501) => Ok(()),
            done => done.map(drop),
        }
    }

    fn local_url(&self, id: &LocalId) -> String {
        self.exchange.url(&format!("_local/{}", encoded(id.as_str())))
    }
}

/// Names the database: by itself where the server tells, else by its server, else by its address.
async fn identity(exchange: &Exchange, info: &Info) -> Result<String, PeerError> {
    if let Some(incarnation) = info.incarnation() {
        return Ok(incarnation.to_owned());
    }
    let (server, name) = exchange.remote.server_and_name();
    match exchange.json::<Welcome>(&Ask::get(format!("{server}/"))).await.map_err(PeerError::from) {
        Ok(Welcome { uuid: Some(uuid) }) if !uuid.is_empty() => {
            let made_at = info.made_at().map(|seconds| format!("/{seconds}"));
            Ok(format!("{uuid}/{}{}", info.db_name, made_at.unwrap_or_default()))
        }
        // What is at another moment would be another replication.
        Err(error) if error.is_transient() => Err(error),
        _ => Ok(format!("{server}/{name}")),
    }
}

fn too_large() -> WireError {
    let reason = "the document is larger than an answer may be".into();
    WireError { status: 413, error: "too_large".into(), reason }
}

fn refuse(document: &Document, error: WireError, answer: &mut WriteAnswer) {
    let (id, rev) = (document.id.clone(), document.rev.clone());
    answer.refused.push(RefusedDoc { id, rev, error });
}

/// Takes a row of `_bulk_docs`: every revision that it may mean counts as refused.
fn refuse_row(
    row: &Row,
    docs: &[(Document, String)],
    answer: &mut WriteAnswer,
) -> Result<(), PeerError> {
    let Some(error) = row.refusal() else { return Ok(()) };
    if error.status >= 500 {
        return Err(PeerError::Refused(error));
    }
    let rev = row.rev.as_deref().and_then(|text| Rev::parse(text).ok());
    let of_row = |document: &&Document| {
        Some(document.id.as_str()) == row.id.as_deref() && (rev.is_none() || document.rev == rev)
    };
    let mut meant = docs.iter().map(|(document, _)| document).filter(of_row).peekable();
    if meant.peek().is_none() {
        return Err(broke("_bulk_docs refuses a document that was not sent"));
    }
    meant.for_each(|document| refuse(document, error.clone(), answer));
    Ok(())
}

/// Revisions that were asked for, and what came of them.
struct Taken {
    left: HashSet<(DocId, Rev)>,
    found: Fetched,
}

impl Taken {
    fn new(wanted: &[(DocId, Rev)]) -> Self {
        Self { left: wanted.iter().cloned().collect(), found: Fetched::default() }
    }

    fn refuse(&mut self, id: &DocId, rev: &Rev, error: WireError) {
        if self.left.remove(&(id.clone(), rev.clone())) {
            self.found.refused.push(RefusedDoc { id: id.clone(), rev: Some(rev.clone()), error });
        }
    }

    fn take(&mut self, id: &str, branch: Branch, limits: &Limits) -> Result<(), PeerError> {
        match branch {
            Branch::Ok(text) => match Document::parse(text.get(), limits) {
                Ok(document) => self.found(document),
                Err(problem) => self.unreadable(id, text.get(), &problem),
            },
            Branch::Missing(rev) => {
                self.left.retain(|(known, r)| known.as_str() != id || r.to_string() != rev);
                Ok(())
            }
            Branch::Error(row) => self.error(id, &row),
        }
    }

    fn found(&mut self, document: Document) -> Result<(), PeerError> {
        let rev = document.rev.clone().ok_or_else(|| broke("a document came without _rev"))?;
        if document.revisions.is_none() {
            return Err(broke("a document came without _revisions"));
        }
        if self.left.remove(&(document.id.clone(), rev)) {
            self.found.docs.push(document);
        }
        Ok(())
    }

    /// A document that is over a bound of this side, or that no document can be.
    fn unreadable(&mut self, id: &str, text: &str, problem: &ParseError) -> Result<(), PeerError> {
        #[derive(serde::Deserialize)]
        struct Named {
            #[serde(rename = "_rev")]
            rev: String,
        }
        let named: Named = serde_json::from_str(text)
            .map_err(|_| broke(format!("a document cannot be read: {problem}")))?;
        let error = match problem {
            ParseError::TooLarge { .. } => "too_large",
            _ => "bad_request",
        };
        let status = if error == "too_large" { 413 } else { 400 };
        let error = WireError { status, error: error.into(), reason: problem.to_string() };
        let asked =
            |(known, rev): &&(DocId, Rev)| known.as_str() == id && rev.to_string() == named.rev;
        if let Some((id, rev)) = self.left.iter().find(asked).cloned() {
            self.refuse(&id, &rev, error);
        }
        Ok(())
    }

    /// A row without a document: gone, refused, or the server's trouble.
    fn error(&mut self, id: &str, row: &Row) -> Result<(), PeerError> {
        let error = row.refusal().ok_or_else(|| broke("a row has neither document nor error"))?;
        let rev = row.rev.as_deref().and_then(|text| Rev::parse(text).ok());
        let meant = |(known, r): &&(DocId, Rev)| {
            known.as_str() == id && rev.as_ref().is_none_or(|rev| rev == r)
        };
        let meant: Vec<(DocId, Rev)> = self.left.iter().filter(meant).cloned().collect();
        for (id, rev) in meant {
            match error.status {
                404 => drop(self.left.remove(&(id, rev))),
                401 | 403 => self.refuse(&id, &rev, error.clone()),
                _ => return Err(PeerError::Refused(error)),
            }
        }
        Ok(())
    }

    /// Everything, if nothing was passed over: what is not answered may still be there.
    fn all(self) -> Result<Fetched, PeerError> {
        match self.left.iter().next() {
            None => Ok(self.found),
            Some((id, rev)) => {
                let id = crate::doc::printable(id.as_str());
                Err(broke(format!("{rev} of {id} was asked for and not answered")))
            }
        }
    }
}

#[async_trait]
impl Peer for HttpPeer {
    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn view(&self) -> Option<String> {
        self.view.clone()
    }

    fn staged_max(&self) -> usize {
        STAGED_MAX
    }

    async fn changes(&self, request: ChangesRequest) -> Result<ChangeStream, PeerError> {
        Ok(changes::open(Arc::clone(&self.exchange), request))
    }

    async fn revs_diff(
        &self,
        wanted: Vec<(DocId, Vec<Rev>)>,
    ) -> Result<Vec<(DocId, RevsDiff)>, PeerError> {
        let mut found = Vec::new();
        let (mut part, mut revs_in_part) = (BTreeMap::new(), 0);
        for (id, revs) in wanted {
            if revs_in_part > 0 && revs_in_part + revs.len() > DIFF_REVS_MAX {
                self.diff_part(&std::mem::take(&mut part), &mut found).await?;
                revs_in_part = 0;
            }
            revs_in_part += revs.len();
            part.insert(id.to_string(), revs.iter().map(ToString::to_string).collect());
        }
        if !part.is_empty() {
            self.diff_part(&part, &mut found).await?;
        }
        Ok(found)
    }

    async fn fetch(&self, wanted: Vec<(DocId, Rev)>) -> Result<Fetched, PeerError> {
        let mut found = Fetched::default();
        let mut todo = vec![&wanted[..]];
        while let Some(part) = todo.pop() {
            match (self.fetch_part(part).await, part) {
                (Ok(fetched), _) => {
                    found.docs = fetched.docs;
                    found.refused.extend(fetched.refused);
                    // As many bytes as one answer may have are enough at a time.
                    let left = todo.into_iter().rev().flatten().cloned();
                    found.rest = fetched.rest.into_iter().chain(left).collect();
                    break;
                }
                (Err(Failure::TooLarge), [(id, rev)]) => {
                    let (id, rev, error) = (id.clone(), Some(rev.clone()), too_large());
                    found.refused.push(RefusedDoc { id, rev, error });
                }
                (Err(Failure::TooLarge), part) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    todo.extend([second, first]);
                }
                (Err(failure), _) => return Err(failure.into()),
            }
        }
        Ok(found)
    }

    async fn write(&self, docs: Vec<Document>) -> Result<WriteAnswer, PeerError> {
        // What failed may have been written in part.
        let answer = self.write_all(docs).await;
        self.is_uncommitted.store(true, Ordering::SeqCst);
        answer
    }

    async fn attachment(
        &self,
        document: &Document,
        name: &str,
        attachment: &Attachment,
    ) -> Result<AttachmentBytes, PeerError> {
        let rev = document.rev.as_ref().map(ToString::to_string).unwrap_or_default();
        let name: Vec<String> = name.split('/').map(encoded).collect();
        let path = format!("{}/{}?rev={}", path_of(&document.id), name.join("/"), encoded(&rev));
        let ask = Ask::get(self.exchange.url(&path));
        // Opened when it is read: many may wait for the document that they belong to.
        let state = (Arc::clone(&self.exchange), None::<reqwest::Response>);
        let pieces = futures::stream::try_unfold(state, move |(exchange, response)| {
            let ask = Ask { method: ask.method.clone(), url: ask.url.clone(), body: None };
            async move {
                let mut response = match response {
                    Some(response) => response,
                    None => exchange.stream(&ask).await?,
                };
                let piece = exchange.piece(&mut response).await?;
                Ok(piece.map(|piece| (piece, (exchange, Some(response)))))
            }
        });
        // Its digest proves nothing here: CouchDB's is of the bytes as it has compressed them.
        Ok(match attachment.length() {
            Some(length) => {
                measured(pieces.boxed(), length, || disconnected("an attachment was cut")).boxed()
            }
            None => pieces.boxed(),
        })
    }

    async fn stage(
        &self,
        attachment: &Attachment,
        bytes: AttachmentBytes,
    ) -> Result<AttachmentData, PeerError> {
        self.staged.stage(attachment, bytes).await
    }

    async fn local(&self, id: &LocalId) -> Result<Option<Body>, PeerError> {
        let Some(mut members) = self.local_with_rev(id).await? else { return Ok(None) };
        members.retain(|name, _| !name.starts_with('_'));
        Ok(Some(Body::from_value(&members)?))
    }

    async fn set_local(&self, id: &LocalId, body: Body) -> Result<(), PeerError> {
        self.commit().await?;
        let mut tries = 0;
        loop {
            let there = self.local_with_rev(id).await?;
            let rev = there.and_then(|mut members| members.remove("_rev"));
            let mut members: Map<String, Value> =
                body.to().map_err(|_| broke("a checkpoint is no object"))?;
            members.extend(rev.map(|rev| ("_rev".to_owned(), rev)));
            let ask = Ask::put(self.local_url(id), Value::Object(members).to_string());
            tries += 1;
            match self.exchange.json::<Value>(&ask).await.map_err(PeerError::from) {
                // Another run of the same replication was faster.
                Err(PeerError::Refused(error))
                    if error.status == 409 && tries < LOCAL_TRIES_MAX => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            }
        }
    }
}

impl From<ParseError> for Failure {
    fn from(error: ParseError) -> Self {
        PeerError::Store(StoreError::Malformed(error)).into()
    }
}
