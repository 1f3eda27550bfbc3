//! One document: read in all its ways, written, deleted, copied.

use http::header::{CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH};
use http::{Method, StatusCode};
use serde_json::json;
use warp::reply::Reply as _;

use crate::doc::json::{object_members, push_string};
use crate::doc::{AnyDocument, DocId, Document, Rev};
use crate::limits::Limits;
use crate::proto::call::WriteRow;
use crate::proto::message::WireError;
use crate::server::batch::{How, Unchanged};
use crate::server::error::{HttpRefusal, ToWire as _, bad_request};
use crate::store::{BulkGetOptions, EditMode, GetOptions, OpenRev, OpenRevs};

use super::answer::{Answer, JSON, Out, Stop, set};
use super::database::written_answer;
use super::db::{AsyncStream, Db, rev};
use super::multipart::{self, MIXED, RELATED, boundary};
use super::shown::{Bytes, write_document};
use super::{only, patch, reads};

/// The header that says where COPY copies to.
const DESTINATION: HeaderName = HeaderName::from_static("destination");

pub(super) async fn route(db: Db, id: DocId) -> Answer {
    match &db.request.method {
        method if reads(method) => read(db, id).await,
        &Method::PUT => put(db, id).await,
        &Method::DELETE => delete(db, id).await,
        &Method::PATCH => patch::patch(db, id).await,
        method if method.as_str() == "COPY" => copy(db, id).await,
        _ => only("COPY,DELETE,GET,HEAD,PATCH,PUT"),
    }
}

/// How a document is to be read.
struct Asked {
    get: GetOptions,
    bytes: Bytes,
    /// `atts_since`.
    known: Vec<Rev>,
    /// Whether the answer is the same for the same revision.
    tagged: bool,
}

fn asked(db: &Db) -> Result<Asked, WireError> {
    let query = &db.request.query;
    let meta = query.flag("meta")?;
    let known: Option<Vec<String>> = query.json("atts_since")?;
    let get = GetOptions {
        rev: query.text("rev").map(rev).transpose()?,
        latest: query.flag("latest")?,
        revs: query.flag("revs")?,
        revs_info: query.flag("revs_info")? || meta,
        conflicts: query.flag("conflicts")? || meta,
        deleted_conflicts: query.flag("deleted_conflicts")? || meta,
        local_seq: query.flag("local_seq")?,
        attachments: false,
    };
    query.flag("att_encoding_info")?;
    let bytes = Bytes::all_if(query.flag("attachments")? || known.is_some());
    let known = known.unwrap_or_default();
    let known = known.iter().map(|text| rev(text)).collect::<Result<_, _>>()?;
    let tagged = !(get.revs_info || get.conflicts || get.deleted_conflicts || get.local_seq);
    Ok(Asked { get, bytes, known, tagged })
}

async fn read(db: Db, id: DocId) -> Answer {
    db.check_read()?;
    let asked = asked(&db)?;
    if db.request.query.text("open_revs").is_some() {
        return open_revs(db, id, asked).await;
    }
    let mut bytes = asked.bytes;
    let mut get = asked.get.clone();
    get.revs |= !asked.known.is_empty();
    let document = db.granted.get(&id, &get).await.map_err(|error| error.to_wire())?;
    bytes = newer_than(bytes, &document, &asked.known);
    let tag = format!("\"{}\"", document.rev.as_ref().map(ToString::to_string).unwrap_or_default());
    if asked.tagged && matches(&db, &tag)? {
        return Ok(not_modified(&tag));
    }
    let mut document = document;
    if !asked.get.revs {
        document.revisions = None;
    }
    let follows = document.attachments.values().any(|attachment| bytes.includes(attachment));
    let accepts = &db.request;
    let wants_json = accepts.accepts_first(&[JSON], &[RELATED, "multipart/*"]);
    let takes_any = accepts.header(&http::header::ACCEPT)?.is_none()
        || accepts.accepts_first(&[RELATED, "multipart/*", "*/*"], &[JSON]);
    let mut response = if follows && takes_any && !wants_json {
        let boundary = boundary();
        let content_type = format!("{RELATED}; boundary=\"{boundary}\"");
        db.streamed(&content_type, Related { document, bytes, boundary })
    } else if follows {
        db.streamed(JSON, Whole { document, bytes })
    } else {
        super::answer::json_text(StatusCode::OK, document.to_json())
    };
    if asked.tagged {
        set(&mut response, ETAG, &tag);
    }
    Ok(response)
}

/// Leaves the bytes out that the reader has: those of the newest known revision and before it.
fn newer_than(bytes: Bytes, document: &Document, known: &[Rev]) -> Bytes {
    let path = document.revisions.as_ref();
    let newest = path.and_then(|path| path.revs().find(|rev| known.contains(rev)));
    match (bytes, newest) {
        (Bytes::After(_), Some(newest)) => Bytes::After(newest.generation()),
        (bytes, _) => bytes,
    }
}

/// Whether the client has what the tag names already.
pub(super) fn matches(db: &Db, tag: &str) -> Result<bool, WireError> {
    let known = db.request.header(&IF_NONE_MATCH)?;
    let same = |known: &str| known.trim().trim_start_matches("W/") == tag || known.trim() == "*";
    Ok(known.is_some_and(|known| known.split(',').any(same)))
}

pub(super) fn not_modified(tag: &str) -> warp::reply::Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    response.headers_mut().remove(CONTENT_TYPE);
    set(&mut response, ETAG, tag);
    response
}

struct Whole {
    document: Document,
    bytes: Bytes,
}

impl AsyncStream for Whole {
    async fn write(self, db: &Db, out: &mut Out) -> Result<(), Stop> {
        write_document(out, db.database(), self.document, self.bytes).await?;
        out.text("\n").await
    }
}

struct Related {
    document: Document,
    bytes: Bytes,
    boundary: String,
}

impl AsyncStream for Related {
    async fn write(self, db: &Db, out: &mut Out) -> Result<(), Stop> {
        let Self { document, bytes, boundary } = self;
        multipart::write_related(out, db.database(), document, bytes, &boundary).await
    }
}

async fn open_revs(db: Db, id: DocId, asked: Asked) -> Answer {
    let which = match db.request.query.text("open_revs") {
        None | Some("all" | "\"all\"") => OpenRevs::All,
        Some(list) => {
            let list: Result<Vec<String>, _> = serde_json::from_str(list);
            let list = list.map_err(|_| HttpRefusal::BadOpenRevs.to_wire())?;
            OpenRevs::Revs(list.iter().map(|text| rev(text)).collect::<Result<_, _>>()?)
        }
    };
    let revs = asked.get.revs || !asked.known.is_empty();
    let options = BulkGetOptions { revs, latest: asked.get.latest, attachments: false };
    let found = db.granted.open_revs(&id, &which, options).await;
    let mut found = found.map_err(|error| error.to_wire())?;
    // Those found come first.
    found.sort_by_key(|one| matches!(one, OpenRev::Missing(_)));
    let shown_revs = asked.get.revs;
    let branches = Branches { found, bytes: asked.bytes, known: asked.known, shown_revs };
    let request = &db.request;
    if request.accepts_first(&[JSON], &[MIXED, RELATED, "multipart/*", "*/*"]) {
        return Ok(db.streamed(JSON, branches));
    }
    let boundary = boundary();
    let content_type = format!("{MIXED}; boundary=\"{boundary}\"");
    Ok(db.streamed(&content_type, MixedBranches { branches, boundary }))
}

struct Branches {
    found: Vec<OpenRev>,
    bytes: Bytes,
    known: Vec<Rev>,
    shown_revs: bool,
}

impl Branches {
    fn shown(&self, mut document: Document) -> (Document, Bytes) {
        let bytes = newer_than(self.bytes, &document, &self.known);
        if !self.shown_revs {
            document.revisions = None;
        }
        (document, bytes)
    }
}

impl AsyncStream for Branches {
    async fn write(mut self, db: &Db, out: &mut Out) -> Result<(), Stop> {
        let any = !self.found.is_empty();
        for (index, one) in std::mem::take(&mut self.found).into_iter().enumerate() {
            out.text(if index == 0 { "[" } else { "," }).await?;
            match one {
                OpenRev::Found(document) => {
                    let (document, bytes) = self.shown(*document);
                    out.text("{\"ok\":").await?;
                    write_document(out, db.database(), document, bytes).await?;
                    out.text("}").await?;
                }
                OpenRev::Missing(rev) => {
                    out.text(&json!({"missing": rev.to_string()}).to_string()).await?;
                }
            }
        }
        out.text(if any { "]\n" } else { "[]\n" }).await
    }
}

struct MixedBranches {
    branches: Branches,
    boundary: String,
}

impl AsyncStream for MixedBranches {
    async fn write(mut self, db: &Db, out: &mut Out) -> Result<(), Stop> {
        let found = std::mem::take(&mut self.branches.found);
        for one in found {
            out.text(&format!("--{}\r\n", self.boundary)).await?;
            match one {
                OpenRev::Found(document) => {
                    let (document, bytes) = self.branches.shown(*document);
                    multipart::write_part(out, db.database(), document, bytes, None).await?;
                }
                OpenRev::Missing(rev) => {
                    let missing = json!({"missing": rev.to_string()});
                    multipart::write_error(out, &missing).await?;
                }
            }
            out.text("\r\n").await?;
        }
        out.text(&format!("--{}--", self.boundary)).await
    }
}

/// What became of a write of one document.
pub(super) struct Written {
    pub row: WriteRow,
    pub deleted: bool,
}

async fn put(mut db: Db, id: DocId) -> Answer {
    let media_type = db.request.media_type()?;
    let written = if media_type.as_deref() == Some(RELATED) {
        put_related(&mut db, &id).await?
    } else {
        let text = db.text_body().await?;
        let text = with_id_and_rev(&db, &text, id.as_str())?;
        write_one(&db, text).await?
    };
    let status = if written.deleted { StatusCode::OK } else { StatusCode::CREATED };
    written_answer(&db, &written, status)
}

async fn put_related(db: &mut Db, id: &DocId) -> Result<Written, WireError> {
    db.check_write()?;
    let mut parts = multipart::Parts::of(&mut db.request)?;
    let text = db.document_part(&mut parts).await?;
    let mut following = multipart::Following::find(&text, db.doc_limits())?;
    let text = with_id_and_rev(db, &text, id.as_str())?;
    let mut document = match AnyDocument::parse(&text, db.doc_limits()) {
        Ok(AnyDocument::Doc(document)) => document,
        Ok(_) => return Err(bad_request("only documents can have parts that follow")),
        Err(error) => return Err(error.to_wire()),
    };
    let reading = async {
        while let Some(part) = parts.next_part().await? {
            let name = following.take(&part)?;
            let data = parts.stage(db.database(), &part).await?;
            following.check(&name, &data)?;
            if let Some(attachment) = document.attachments.get_mut(&name) {
                attachment.data = data;
            }
        }
        following.check_none_left()
    };
    db.while_granted(reading).await?;
    write(db, AnyDocument::Doc(document)).await
}

/// Writes a document given as JSON.
pub(super) async fn write_one(db: &Db, text: String) -> Result<Written, WireError> {
    let document = AnyDocument::parse(&text, db.doc_limits()).map_err(|error| error.to_wire())?;
    write(db, document).await
}

pub(super) async fn write(db: &Db, document: AnyDocument) -> Result<Written, WireError> {
    let deleted = match &document {
        AnyDocument::Doc(document) => document.deleted,
        AnyDocument::Local(local) => local.deleted,
        AnyDocument::WithoutId(_) => false,
    };
    let mode = match db.request.query.flag_if_any("new_edits")? {
        Some(false) => EditMode::Replicated,
        _ => EditMode::Edit,
    };
    let unchanged = Unchanged::left_out_if(db.request.query.flag("if_changed")?);
    let how = How { unchanged, ..How::from(mode) };
    let rows = db.writable()?.write(vec![Ok(document)], how, |_| {}).await?;
    Ok(Written { row: rows.into_iter().next().unwrap_or_default(), deleted })
}

/// The document's text under the id of the address and the revision of the request.
pub(super) fn with_id_and_rev(db: &Db, text: &str, id: &str) -> Result<String, WireError> {
    let rev = db.request.rev()?;
    renamed(text, id, rev.as_deref(), db.doc_limits())
}

fn renamed(text: &str, id: &str, rev: Option<&str>, limits: &Limits) -> Result<String, WireError> {
    let members = object_members(text, limits).map_err(|error| error.to_wire())?;
    let mut named = String::with_capacity(text.len() + id.len() + 16);
    named.push_str("{\"_id\":");
    push_string(&mut named, id);
    if let Some(rev) = rev {
        let body_rev = members.iter().find(|member| member.key == "_rev");
        let body_rev = body_rev.and_then(|m| serde_json::from_str::<String>(&m.value).ok());
        if body_rev.is_some_and(|body_rev| body_rev != rev) {
            return Err(bad_request(
                "Document rev from request body and query string have different values",
            ));
        }
        named.push_str(",\"_rev\":");
        push_string(&mut named, rev);
    }
    for member in &members {
        if member.key == "_id" || (member.key == "_rev" && rev.is_some()) {
            continue;
        }
        named.push(',');
        push_string(&mut named, &member.key);
        named.push(':');
        named.push_str(&member.value);
    }
    named.push('}');
    Ok(named)
}

async fn delete(db: Db, id: DocId) -> Answer {
    db.check_write()?;
    let tombstone = match db.request.rev()? {
        Some(text) => Document::tombstone(id, rev(&text)?),
        None => {
            // Without a revision nothing can be deleted; what is not there is missing.
            let found = db.granted.get(&id, &GetOptions::default()).await;
            found.map_err(|error| error.to_wire())?;
            let conflict = crate::store::StoreError::from(crate::store::DocError::Conflict);
            return Err(conflict.to_wire());
        }
    };
    let written = write(&db, AnyDocument::Doc(tombstone)).await?;
    written_answer(&db, &written, StatusCode::OK)
}

async fn copy(db: Db, id: DocId) -> Answer {
    db.check_read()?;
    let destination = db.request.header(&DESTINATION)?.map(str::to_owned);
    let destination =
        destination.ok_or_else(|| bad_request("Destination header is mandatory for COPY."))?;
    if destination.contains("://") {
        return Err(bad_request("Destination URL must be relative."));
    }
    let (to, to_rev) = match destination.split_once("?rev=") {
        Some((to, to_rev)) => (to, Some(rev(to_rev)?)),
        None => (destination.as_str(), None),
    };
    let to = db.doc_id(&super::query::decode(to)?)?;
    let from = db.request.rev()?.map(|text| rev(&text)).transpose()?;
    let options = GetOptions { rev: from, ..GetOptions::default() };
    let source = db.granted.get(&id, &options).await.map_err(|error| error.to_wire())?;
    let target = Document { id: to, rev: to_rev, revisions: None, ..source };
    let written = write(&db, AnyDocument::Doc(target)).await?;
    written_answer(&db, &written, StatusCode::CREATED)
}
