//! A database that a request has opened: under its grant, for as long as the grant holds.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use warp::reply::Response;

use crate::doc::{DbName, DocId, Rev};
use crate::limits::Limits;
use crate::proto::message::{ChannelId, WireError};
use crate::server::auth::AccessRequest;
use crate::server::channel::{Channel, Enlisted, Renewal};
use crate::server::error::{Refusal, ToWire as _};
use crate::server::granted::Granted;
use crate::server::observe::Act;
use crate::server::opening::Opened;
use crate::store::{Database, Store};

use super::answer::{Out, Stop, streamed};
use super::multipart::Parts;
use super::request::Request;

/// No channel of a WebSocket has this number.
const NO_CHANNEL: ChannelId = 0;

/// A request and the database it is for.
pub(super) struct Db {
    pub request: Request,
    /// To read from; what changes something asks for [`Db::writable`].
    pub granted: Granted,
    channel: Arc<Channel>,
    /// Keeps it known to the gateway, so that its grant can be revoked.
    _enlisted: Enlisted,
}

impl Db {
    /// Opens the database that the authorizer grants for the request's credentials.
    pub(super) async fn open(mut request: Request, name: DbName) -> Result<Self, WireError> {
        loop {
            let shared = &request.shared;
            let revocations = shared.revocations();
            let access = request.access(name.clone(), false)?;
            let grant = request.judge(access.clone()).await?;
            let opened = shared.open(grant, false, &request.link).await?;
            let db = Self::under(request, opened, access);
            // A revocation that came while this was not yet known passed it by.
            if db.request.shared.revocations() == revocations {
                db.request.link.did(&db.granted.grant, Act::Opened);
                return Ok(db);
            }
            request = db.request;
        }
    }

    fn under(request: Request, opened: Opened, access: AccessRequest) -> Self {
        let (shared, link) = (&request.shared, Arc::clone(&request.link));
        let channel = Channel::new(NO_CHANNEL, shared, opened, access, Renewal::Ends, link);
        let granted = channel.granted();
        let enlisted = Enlisted::new(&request.shared, &channel);
        Self { request, granted, channel, _enlisted: enlisted }
    }

    pub(super) fn database(&self) -> &Database {
        &self.granted.database
    }

    /// The store that the database is in.
    pub(super) fn store(&self) -> &Store {
        self.channel.store()
    }

    pub(super) fn doc_limits(&self) -> &Limits {
        self.granted.database.limits()
    }

    pub(super) fn doc_id(&self, id: &str) -> Result<DocId, WireError> {
        DocId::parse(id, self.doc_limits().doc_id_bytes_max).map_err(|error| error.to_wire())
    }

    pub(super) fn check_read(&self) -> Result<(), WireError> {
        self.granted.check_read()
    }

    pub(super) fn check_write(&self) -> Result<(), WireError> {
        if self.granted.grant.write { Ok(()) } else { Err(Refusal::MayNotWrite.to_wire()) }
    }

    /// The database under the grant of this moment, to change something in it; refused once the
    /// grant has ended, however long ago it was opened.
    pub(super) fn writable(&self) -> Result<Granted, WireError> {
        self.channel.check_open()?;
        Ok(self.channel.granted())
    }

    fn check_interval(&self) -> Duration {
        Duration::from_millis(self.request.shared.limits.grant_check_interval_ms)
    }

    /// Waits for the end of the grant or of the database, and says which it was.
    pub(super) async fn until_ended(&self) -> Result<Infallible, WireError> {
        until_ended(&self.channel, self.check_interval()).await
    }

    /// Works on something long as far as the grant holds.
    pub(super) async fn while_granted<T>(
        &self,
        work: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, WireError> {
        while_open(&self.channel, self.check_interval(), work).await
    }

    /// The whole body as text, read as far as the grant holds.
    pub(super) async fn text_body(&mut self) -> Result<String, WireError> {
        let check = self.check_interval();
        while_open(&self.channel, check, self.request.text_body()).await
    }

    /// The same as JSON of a POST.
    pub(super) async fn json_body<T: DeserializeOwned>(&mut self) -> Result<T, WireError> {
        let check = self.check_interval();
        while_open(&self.channel, check, self.request.json_body()).await
    }

    /// The same of a POST that has nothing to say, or an object.
    pub(super) async fn json_body_if_any<T: DeserializeOwned + Default>(
        &mut self,
    ) -> Result<T, WireError> {
        let check = self.check_interval();
        while_open(&self.channel, check, self.request.json_body_if_any()).await
    }

    /// The document that a body in parts begins with.
    pub(super) async fn document_part(&mut self, parts: &mut Parts) -> Result<String, WireError> {
        let (check, max) =
            (self.check_interval(), self.request.shared.limits.request_json_bytes_max);
        let document = parts.document(max, |bytes| self.request.hold(bytes));
        while_open(&self.channel, check, document).await
    }

    /// A streamed answer that is cut when the grant ends.
    pub(super) fn streamed<W>(self, content_type: &str, work: W) -> Response
    where
        W: AsyncStream,
    {
        streamed(content_type, move |mut out| async move {
            let ended = self.until_ended();
            let written = async {
                work.write(&self, &mut out).await?;
                out.flush().await
            };
            tokio::select! {
                written = written => written,
                Err(error) = ended => Err(Stop::Failed(error)),
            }
        })
    }
}

async fn until_ended(channel: &Channel, check: Duration) -> Result<Infallible, WireError> {
    let ended = channel.until_ended(check).await;
    Err(ended.unwrap_or_else(|| Refusal::GrantExpired.to_wire()))
}

/// The end comes first: work that is done at the same time is not carried out.
async fn while_open<T>(
    channel: &Channel,
    check: Duration,
    work: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    tokio::select! {
        biased;
        Err(error) = until_ended(channel, check) => Err(error),
        done = work => done,
    }
}

/// Writes a streamed answer about a database.
pub(super) trait AsyncStream: Send + 'static {
    fn write(self, db: &Db, out: &mut Out) -> impl Future<Output = Result<(), Stop>> + Send;
}

pub(super) fn rev(text: &str) -> Result<Rev, WireError> {
    Rev::parse(text).map_err(|error| error.to_wire())
}
