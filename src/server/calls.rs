//! The calls of a channel: which method does what, how it answers, how its stream is paced.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

use crate::doc::{AnyId, DocId, Rev};
use crate::limits::Limits;
use crate::proto::call::{
    GetParams, OpenRevsParam, RevsDiffAsked, RevsDiffReply, RevsDiffRow, method,
};
use crate::proto::message::{
    CallId, ChannelId, Piece, RowsNote, WireError, end_text, reply_text, rows_text,
};
use crate::store::{BulkGetOptions, GetOptions, OpenRev, OpenRevs, StoreError};

use super::channel::Channel;
use super::connection::UPLOAD_CREDIT;
use super::error::{ToWire as _, bad_params, unknown_method};
use super::granted::Granted;
use super::observe::Act;
use super::outbox::Outbox;
use super::socket::Socket;
use super::{streams, writes};

/// How a call ends.
pub(super) enum Answer {
    /// With one value, as JSON text.
    Reply(String),
    /// After a stream, with a last value, as JSON text.
    End(String),
    /// With an error.
    Fail(WireError),
}

impl Answer {
    /// The message to send.
    pub(super) fn encode(&self, channel: ChannelId, call: CallId) -> String {
        match self {
            Self::Reply(value) => reply_text(channel, call, value),
            Self::End(value) => end_text(channel, call, value),
            Self::Fail(error) => {
                let error = error.clone();
                crate::proto::message::ServerMessage::Fail { channel, call, error }.encode()
            }
        }
    }
}

/// Why a call has no answer of its own.
pub(super) enum Stop {
    /// It failed.
    Failed(WireError),
    /// The connection is gone, so it does not matter.
    Gone,
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_wire())
    }
}

impl From<crate::store::FindError> for Stop {
    fn from(error: crate::store::FindError) -> Self {
        Self::Failed(error.to_wire())
    }
}

impl From<super::outbox::Gone> for Stop {
    fn from(_: super::outbox::Gone) -> Self {
        Self::Gone
    }
}

/// What the connection keeps of a call in progress.
pub(super) struct CallHandle {
    pub credit: Credit,
    pub pieces: Option<mpsc::Sender<Piece>>,
    pub abort: AbortHandle,
}

/// A [`CallHandle`] before its task exists.
pub(super) struct CallControls {
    credit: Credit,
    pieces: Option<mpsc::Sender<Piece>>,
}

impl CallControls {
    pub(super) fn with_abort(self, abort: AbortHandle) -> CallHandle {
        CallHandle { credit: self.credit, pieces: self.pieces, abort }
    }
}

/// How many more messages a stream may send; bounded whatever the client says.
#[derive(Clone)]
pub(super) struct Credit {
    left: Arc<Semaphore>,
    max: usize,
}

impl Credit {
    fn new(max: u32) -> Self {
        Self { left: Arc::new(Semaphore::new(0)), max: max as usize }
    }

    pub(super) fn add(&self, credit: u32) {
        let room = self.max.saturating_sub(self.left.available_permits());
        self.left.add_permits(room.min(credit as usize));
    }
}

/// One call in progress, as its method sees it.
pub(super) struct Call {
    pub channel: Arc<Channel>,
    pub limits: Limits,
    pub id: CallId,
    outbox: Outbox,
    credit: Credit,
    pub pieces: Option<mpsc::Receiver<Piece>>,
}

impl Call {
    pub(super) fn new(
        socket: &Socket,
        channel: Arc<Channel>,
        id: CallId,
        method: &str,
    ) -> (Self, CallControls) {
        let limits = socket.shared.limits.clone();
        let credit = Credit::new(limits.stream_credit_max);
        let (sender, receiver) = if method == method::UPLOAD {
            // Room for all that has credit, so that only an overrun finds it full.
            let (sender, receiver) = mpsc::channel(UPLOAD_CREDIT as usize);
            (Some(sender), Some(receiver))
        } else {
            (None, None)
        };
        let controls = CallControls { credit: credit.clone(), pieces: sender };
        let outbox = socket.outbox.clone();
        (Self { channel, limits, id, outbox, credit, pieces: receiver }, controls)
    }

    /// Gives the stream its first credit.
    pub(super) fn begin_stream(&self, credit: u32) {
        self.credit.add(credit);
    }

    /// Waits until the client wants another message.
    pub(super) async fn wait_for_credit(&self) -> Result<(), Stop> {
        let permit = self.credit.left.acquire().await.map_err(|_| Stop::Gone)?;
        permit.forget();
        Ok(())
    }

    /// Sends rows, which are JSON texts joined by commas.
    pub(super) async fn send_rows(&self, rows: &str, note: Option<&RowsNote>) -> Result<(), Stop> {
        Ok(self.outbox.text(rows_text(self.channel.id, self.id, rows, note)).await?)
    }

    /// Sends a piece of an attachment.
    pub(super) async fn send_piece(&self, bytes: Bytes, last: bool) -> Result<(), Stop> {
        let piece = Piece { channel: self.channel.id, call: self.id, last, bytes };
        Ok(self.outbox.binary(piece.encode()).await?)
    }

    /// Lets an upload send more.
    pub(super) async fn give_credit(&self, credit: u32) -> Result<(), Stop> {
        let (channel, call) = (self.channel.id, self.id);
        let more = crate::proto::message::ServerMessage::More { channel, call, credit };
        Ok(self.outbox.text(more.encode()).await?)
    }

    pub(super) fn doc_id(&self, id: &str) -> Result<DocId, WireError> {
        DocId::parse(id, self.doc_limits().doc_id_bytes_max).map_err(|error| error.to_wire())
    }

    /// The bounds on documents are the store's.
    pub(super) fn doc_limits(&self) -> Limits {
        self.channel.granted().database.limits().clone()
    }
}

/// Whether a graceful stop waits for a call of this method: a changes stream may have no end.
pub(super) fn is_waited_for(method: &str) -> bool {
    method != method::CHANGES
}

/// Whether a method answers at once with as much as it finds, not as a stream, or holds documents of
/// any size meanwhile, as edits of their parts do.
pub(super) fn answers_at_any_size(method: &str) -> bool {
    matches!(method, method::GET | method::REVS_DIFF | method::PATCH | method::OPS)
}

/// Runs a call to its end.
pub(super) async fn run(mut call: Call, method: &str, params: &RawValue) -> Answer {
    let answer = match method {
        method::INFO => info(&call).await,
        method::GET => get(&call, params).await,
        method::PUT => writes::put(&call, params).await,
        method::PATCH => writes::patch(&call, params).await,
        method::OPS => writes::ops(&call, params).await,
        method::DELETE => writes::delete(&call, params).await,
        method::BULK_DOCS => writes::bulk_docs(&call, params).await,
        method::REVS_DIFF => revs_diff(&call, params).await,
        method::UPLOAD => writes::upload(&mut call, params).await,
        method::DESTROY => destroy(&call).await,
        method::BULK_GET => streams::bulk_get(&call, params).await,
        method::ALL_DOCS => streams::all_docs(&call, params).await,
        method::CHANGES => streams::changes(&call, params).await,
        method::ATTACHMENT => streams::attachment(&call, params).await,
        unknown => Err(unknown_method(unknown).into()),
    };
    match answer {
        Ok(answer) => answer,
        Err(Stop::Failed(error)) => Answer::Fail(error),
        Err(Stop::Gone) => Answer::End("null".into()),
    }
}

/// Reads a method's parameters.
pub(super) fn params<T: DeserializeOwned>(method: &str, params: &RawValue) -> Result<T, WireError> {
    serde_json::from_str(params.get()).map_err(|problem| bad_params(method, &problem))
}

pub(super) fn rev(text: &str) -> Result<Rev, WireError> {
    Rev::parse(text).map_err(|error| error.to_wire())
}

async fn info(call: &Call) -> Result<Answer, Stop> {
    let info = call.channel.granted().info().await?;
    Ok(Answer::Reply(json!(info).to_string()))
}

async fn destroy(call: &Call) -> Result<Answer, Stop> {
    let granted = call.channel.granted();
    granted.check_destroy()?;
    call.channel.store().destroy(granted.database.name()).await?;
    granted.link.did(&granted.grant, Act::Administered { what: "destroy" });
    Ok(Answer::Reply(json!({"ok": true}).to_string()))
}

async fn get(call: &Call, raw: &RawValue) -> Result<Answer, Stop> {
    let asked: GetParams = params(method::GET, raw)?;
    let granted = call.channel.granted();
    let id = AnyId::parse(&asked.id, call.doc_limits().doc_id_bytes_max);
    let id = match id.map_err(|error| error.to_wire())? {
        AnyId::Doc(id) => id,
        AnyId::Local(id) => {
            let found = granted.database.local(&id).await?;
            let found = found.ok_or(StoreError::LocalMissing { id })?;
            return Ok(Answer::Reply(found.to_json()));
        }
    };
    granted.check_read()?;
    if let Some(which) = &asked.open_revs {
        return open_revs(call, &id, which, &asked).await;
    }
    let options = GetOptions {
        rev: asked.rev.as_deref().map(rev).transpose()?,
        latest: asked.latest,
        revs: asked.revs,
        revs_info: asked.revs_info,
        conflicts: asked.conflicts,
        deleted_conflicts: asked.deleted_conflicts,
        local_seq: asked.local_seq,
        attachments: false,
    };
    let document = granted.get(&id, &options).await?;
    Ok(Answer::Reply(document.to_json()))
}

async fn open_revs(
    call: &Call,
    id: &DocId,
    which: &OpenRevsParam,
    asked: &GetParams,
) -> Result<Answer, Stop> {
    let which = which_revs(which)?;
    let options =
        BulkGetOptions { revs: asked.revs, latest: asked.latest, ..BulkGetOptions::default() };
    let found = call.channel.granted().open_revs(id, &which, options).await?;
    Ok(Answer::Reply(open_revs_text(&found)))
}

/// The revisions that `open_revs` names.
pub(super) fn which_revs(which: &OpenRevsParam) -> Result<OpenRevs, WireError> {
    Ok(match which {
        OpenRevsParam::Word(_) => OpenRevs::All,
        OpenRevsParam::Revs(revs) => {
            OpenRevs::Revs(revs.iter().map(|text| rev(text)).collect::<Result<_, _>>()?)
        }
    })
}

/// `[{"ok": DOC} or {"missing": REV}, ...]`
pub(super) fn open_revs_text(found: &[OpenRev]) -> String {
    let mut text = String::from("[");
    for (index, one) in found.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        match one {
            OpenRev::Found(document) => {
                text.push_str("{\"ok\":");
                text.push_str(&document.to_json());
                text.push('}');
            }
            OpenRev::Missing(rev) => {
                text.push_str(&json!({"missing": rev.to_string()}).to_string());
            }
        }
    }
    text.push(']');
    text
}

async fn revs_diff(call: &Call, raw: &RawValue) -> Result<Answer, Stop> {
    let asked: RevsDiffAsked = params(method::REVS_DIFF, raw)?;
    let reply = revs_missing(&call.channel.granted(), asked).await?;
    Ok(Answer::Reply(json!(reply).to_string()))
}

/// Which of a replica's revisions are not in a database.
pub(super) async fn revs_missing(
    granted: &Granted,
    RevsDiffAsked(asked): RevsDiffAsked,
) -> Result<RevsDiffReply, WireError> {
    let id_bytes_max = granted.database.limits().doc_id_bytes_max;
    let mut wanted = Vec::with_capacity(asked.len());
    for (id, revs) in asked {
        let revs = revs.iter().map(|text| rev(text)).collect::<Result<Vec<Rev>, _>>()?;
        let id = DocId::parse(&id, id_bytes_max).map_err(|error| error.to_wire())?;
        wanted.push((id, revs));
    }
    let found = granted.revs_diff(&wanted).await.map_err(|error| error.to_wire())?;
    let text = |revs: Vec<Rev>| revs.iter().map(ToString::to_string).collect();
    let row = |diff: crate::doc::RevsDiff| RevsDiffRow {
        missing: text(diff.missing),
        possible_ancestors: text(diff.possible_ancestors),
    };
    Ok(found.into_iter().map(|(id, diff)| (id.to_string(), row(diff))).collect())
}
