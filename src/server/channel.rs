//! One open channel: its database under its grant, what it has uploaded and what it has written.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::doc::{AttachmentData, AttachmentDigest, DocId, Document, Rev};
use crate::proto::message::{ChannelId, WireError};
use crate::proto::recent::RecentRevs;
use crate::store::{EditMode, Store, StoreError};

use super::Shared;
use super::auth::{AccessRequest, Credentials, Grant};
use super::error::{Refusal, ToWire as _};
use super::granted::Granted;
use super::life::Stay;
use super::observe::Link;
use super::opening::Opened;
use super::tail::Tails;

/// What another grant does to what was begun under one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It takes the old one's place.
    InPlace,
    /// It ends it, unless it allows the same: an answer of HTTP is for one grant.
    Ends,
}

/// A channel that the authorizer granted.
pub(super) struct Channel {
    pub id: ChannelId,
    granted: RwLock<Granted>,
    /// What the grant was asked for with, to be judged again.
    access: Mutex<AccessRequest>,
    renewal: Renewal,
    /// Told of every other grant.
    granted_anew: watch::Sender<()>,
    /// Read by a call that destroys the database until it is answered, written by who closes the
    /// channel then: to close it is to stop its calls.
    answering: tokio::sync::RwLock<()>,
    /// Told once, with the reason.
    ended: watch::Sender<Option<Option<WireError>>>,
    written: Mutex<RecentRevs>,
    uploads: Mutex<VecDeque<(AttachmentDigest, AttachmentData)>>,
    uploads_max: usize,
    store: Store,
    tails: Arc<Tails>,
    /// The database knows of this client as long as this lives.
    _stay: Stay,
}

impl Channel {
    pub(super) fn new(
        id: ChannelId,
        shared: &Shared,
        opened: Opened,
        access: AccessRequest,
        renewal: Renewal,
        link: Arc<Link>,
    ) -> Arc<Self> {
        let Opened { database, grant, stay } = opened;
        let store = shared.life.store(grant.ephemeral).clone();
        Arc::new(Self {
            id,
            granted: RwLock::new(Granted { database, grant: Arc::new(grant), link }),
            access: Mutex::new(access),
            renewal,
            granted_anew: watch::Sender::new(()),
            answering: tokio::sync::RwLock::default(),
            ended: watch::Sender::new(None),
            written: Mutex::default(),
            uploads: Mutex::default(),
            uploads_max: shared.limits.uploads_per_channel_max,
            store,
            tails: Arc::clone(&shared.tails),
            _stay: stay,
        })
    }

    /// The store that the database is in.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The newest parts of feeds, which live feeds share.
    pub(super) fn tails(&self) -> &Tails {
        &self.tails
    }

    /// The database under the grant of this moment.
    pub(super) fn granted(&self) -> Granted {
        self.granted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn with_grant<R>(&self, read: impl FnOnce(&Grant) -> R) -> R {
        read(&self.granted.read().unwrap_or_else(PoisonError::into_inner).grant)
    }

    /// Puts another grant in the place of this one. It must be for the same database and the same
    /// part of it: streams and checkpoints would go on as if they had seen the other part.
    pub(super) fn grant_anew(&self, grant: Grant) -> Result<(), WireError> {
        let mut granted = self.granted.write().unwrap_or_else(PoisonError::into_inner);
        if *granted.database.name() != grant.database
            || granted.grant.selector != grant.selector
            || granted.grant.ephemeral != grant.ephemeral
        {
            return Err(Refusal::GrantMoved.to_wire());
        }
        if self.renewal == Renewal::Ends && !granted.grant.allows_as(&grant) {
            return Err(Refusal::GrantChanged.to_wire());
        }
        granted.grant = Arc::new(grant);
        drop(granted);
        self.granted_anew.send_replace(());
        Ok(())
    }

    /// Takes what was judged anew for some credentials, or ends with the refusal; false if it has
    /// ended. Where others were shown meanwhile these are judged by themselves, and this is void.
    pub(super) fn judged_again(
        &self,
        credentials: &Credentials,
        judged: Result<Grant, WireError>,
    ) -> bool {
        // Held to the end: others that are shown now take their place after this.
        let access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        if access.credentials != *credentials {
            return true;
        }
        let taken = judged.and_then(|grant| self.grant_anew(grant));
        taken.map_err(|error| self.end(Some(error))).is_ok()
    }

    /// What the grant was asked for with.
    pub(super) fn access(&self) -> AccessRequest {
        self.access.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers what the newest grant was asked for with.
    pub(super) fn asked_with(&self, access: AccessRequest) {
        *self.access.lock().unwrap_or_else(PoisonError::into_inner) = access;
    }

    /// Ends the channel; the first reason counts.
    pub(super) fn end(&self, reason: Option<WireError>) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(reason);
            }
            first
        });
    }

    /// Refuses what is begun under a grant that has ended.
    pub(super) fn check_open(&self) -> Result<(), WireError> {
        let expired = || Refusal::GrantExpired.to_wire();
        if let Some(reason) = &*self.ended.borrow() {
            return Err(reason.clone().unwrap_or_else(expired));
        }
        let time_left = self.with_grant(Grant::time_left);
        if time_left.is_some_and(|left| left.is_zero()) { Err(expired()) } else { Ok(()) }
    }

    /// Waits for whatever ends the channel from this side: the grant's end, revocation, the
    /// database's end. Looks at the clock again at least every `check_interval`, since a wall clock
    /// may be set.
    pub(super) async fn until_ended(&self, check_interval: Duration) -> Option<WireError> {
        let database = self.granted().database;
        let mut ended = self.ended.subscribe();
        let mut granted_anew = self.granted_anew.subscribe();
        loop {
            let time_left = self.with_grant(Grant::time_left);
            if time_left.is_some_and(|left| left.is_zero()) {
                return Some(Refusal::GrantExpired.to_wire());
            }
            let look_again = time_left.map_or(check_interval, |left| left.min(check_interval));
            tokio::select! {
                reason = ended.wait_for(Option::is_some) => {
                    return reason.ok().and_then(|reason| reason.clone()).flatten();
                }
                _answered = async {
                    database.destroyed().await;
                    self.answering.write().await
                } => {
                    let name = database.name().clone();
                    return Some(StoreError::DatabaseDestroyed { name }.to_wire());
                }
                _ = granted_anew.changed() => {}
                () = sleep(look_again) => {}
            }
        }
    }

    /// Keeps the channel from being closed, since its database was destroyed, before the call that
    /// destroys it is answered.
    pub(super) async fn answering(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.answering.read().await
    }

    /// Remembers that a revision came from this channel.
    pub(super) fn note_written(&self, id: &DocId, rev: &Rev) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(id, rev);
    }

    /// Whether all leaves of a document came from this channel, so that it need not be told.
    pub(super) fn wrote_all<'a>(
        &self,
        id: &DocId,
        revs: impl IntoIterator<Item = &'a Rev>,
    ) -> bool {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).contains_all(id, revs)
    }

    /// Keeps uploaded bytes for documents to come.
    pub(super) fn keep_upload(&self, digest: AttachmentDigest, data: AttachmentData) {
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.retain(|(known, _)| *known != digest);
        uploads.push_back((digest, data));
        if uploads.len() > self.uploads_max {
            uploads.pop_front();
        }
    }

    /// Puts uploaded bytes where a document has stubs for them. An edit's stub whose `revpos` is of
    /// the edited revision or before means what is stored, which keeps that `revpos`.
    pub(super) fn fill_stubs(&self, document: &mut Document, mode: EditMode) {
        let edited = match mode {
            EditMode::Edit => document.rev.as_ref().map_or(0, Rev::generation),
            EditMode::Replicated => 0,
        };
        let uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        for attachment in document.attachments.values_mut() {
            if !(1..=edited).contains(&attachment.revpos)
                && let AttachmentData::Stub { digest: Some(digest), .. } = &attachment.data
                && let Some((_, data)) = uploads.iter().find(|(known, _)| known == digest)
            {
                attachment.data = data.clone();
            }
        }
    }
}

/// Keeps a channel known to its gateway while it lives.
pub(super) struct Enlisted {
    shared: Arc<Shared>,
    number: u64,
}

impl Enlisted {
    pub(super) fn new(shared: &Arc<Shared>, channel: &Arc<Channel>) -> Self {
        Self { shared: Arc::clone(shared), number: shared.enlist(channel) }
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        self.shared.delist(self.number);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doc::DbName;
    use crate::server::Gateway;

    #[tokio::test]
    async fn a_judgement_of_older_credentials_is_void() {
        let gateway = Gateway::builder(Store::memory()).build().unwrap();
        let shared = &gateway.shared;
        let name = DbName::parse("todos").unwrap();
        shared.store.create(&name).await.unwrap();
        let asked = |token: &str| AccessRequest {
            credentials: Credentials::new(json!({ "token": token })),
            database: name.clone(),
            create: false,
            peer: None,
            headers: Arc::default(),
        };
        let grant = |user: &str| Grant::database(name.clone()).user(user);
        let link = shared.observed.request(None, &http::HeaderMap::new());
        let (older, newer) = (asked("older"), asked("newer"));
        let opened = shared.open(grant("anna"), false, &link).await.unwrap();
        let channel = Channel::new(1, shared, opened, older.clone(), Renewal::InPlace, link);
        channel.asked_with(newer.clone());
        channel.grant_anew(grant("berta")).unwrap();
        let refused = || Err(Refusal::Blocked.to_wire());
        assert!(channel.judged_again(&older.credentials, Ok(grant("anna"))));
        assert!(channel.judged_again(&older.credentials, refused()));
        assert_eq!(
            channel.with_grant(|grant| grant.user_name().map(str::to_owned)).unwrap(),
            "berta"
        );
        assert!(channel.check_open().is_ok());
        assert!(!channel.judged_again(&newer.credentials, refused()));
        assert_eq!(channel.check_open().unwrap_err(), Refusal::Blocked.to_wire());
    }
}
