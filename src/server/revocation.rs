//! Taking grants back: revocation, blocks, and judging open grants again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;

use crate::doc::DbName;
use crate::proto::message::WireError;

use super::channel::Channel;
use super::error::{self, HttpRefusal, Refusal, ToWire as _};
use super::observe::Act;
use super::security::narrowed;
use super::{Gateway, Shared};

/// What the audit trail says of it.
const REVOKE: &str = "revoke";

/// Blocks in force at a time.
const BLOCKS_MAX: usize = 10_000;

/// Grants that are judged again at a time: each may be a request to another server.
const REJUDGED_AT_A_TIME: usize = 16;

/// Which grants to take back. What is given must all fit; nothing given fits every grant.
#[derive(Debug, Clone, Default)]
pub struct Revocation {
    /// Of this user.
    pub user: Option<String>,
    /// By the token of this name.
    pub token: Option<String>,
    /// For this database. Sessions and feeds of the server are for none, and stay.
    pub database: Option<DbName>,
    /// What clients are told.
    pub reason: String,
    /// For how long such grants are refused from here on; not at all if it is not given. Blocks
    /// are in memory: a restart ends them.
    pub block: Option<Duration>,
}

/// What a revocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Revoked {
    /// Channels, and requests under way.
    pub channels: usize,
    /// What goes on for the server as a whole: `_db_updates`, backups, replications with addresses.
    pub feeds: usize,
    /// Sessions by cookie.
    pub sessions: usize,
    /// Identities of connections that take part in events.
    pub identities: usize,
}

/// What became of open grants that were judged again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rejudged {
    /// They go on, perhaps with other rights.
    pub kept: usize,
    /// They were ended.
    pub ended: usize,
}

impl Revocation {
    fn fits(&self, user: Option<&str>, token: Option<&str>, database: Option<&DbName>) -> bool {
        let same = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        same(&self.user, user)
            && same(&self.token, token)
            && self.database.as_ref().is_none_or(|wanted| database == Some(wanted))
    }
}

/// Revocations that go on for a while.
#[derive(Debug, Default)]
pub(super) struct Blocks(Mutex<Vec<(Revocation, Instant)>>);

impl Blocks {
    fn add(&self, revocation: &Revocation, time: Duration) -> Result<(), HttpRefusal> {
        let now = Instant::now();
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.retain(|(_, until)| now < *until);
        if blocks.len() >= BLOCKS_MAX {
            return Err(HttpRefusal::TooManyBlocks { max: BLOCKS_MAX });
        }
        // A century is for ever, and within what clocks can tell.
        const FOR_EVER: Duration = Duration::from_secs(100 * 366 * 86_400);
        blocks.push((revocation.clone(), now + time.min(FOR_EVER)));
        Ok(())
    }

    /// Refuses what is blocked.
    pub(super) fn check(
        &self,
        user: Option<&str>,
        token: Option<&str>,
        database: Option<&DbName>,
    ) -> Result<(), WireError> {
        let now = Instant::now();
        let blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let blocks = blocks.iter().filter(|(_, until)| now < *until);
        let mut fitting = blocks.filter(|(block, _)| block.fits(user, token, database));
        fitting.next().map_or(Ok(()), |_| Err(Refusal::Blocked.to_wire()))
    }
}

impl Gateway {
    /// Takes back every open grant that fits, on every protocol: channels close with the reason,
    /// answers under way are cut, sessions by cookie end. What is being opened meanwhile is put to
    /// the authorizer once more.
    ///
    /// A client may open anew and is judged anew: without a change of the rules, or a
    /// [`block`](Revocation::block), it gets in again.
    ///
    /// # Errors
    /// As text for the caller if too many blocks are in force; nothing is revoked then.
    pub fn revoke_grants(&self, revocation: &Revocation) -> Result<Revoked, String> {
        self.shared.revoke(revocation).map_err(|error| error.reason)
    }

    /// Puts every open grant to the authorizer again, with what its client showed: one that is not
    /// given any more ends with the reason, one that has become another takes its place. A channel
    /// whose grant shows another part of the database is closed, and may be opened anew; an answer
    /// of HTTP under way is cut when the rights differ.
    ///
    /// To be called when rules have changed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves some grants as they were.
    pub async fn rejudge(&self) -> Rejudged {
        let shared = &self.shared;
        shared.begin_revocation();
        let (channels, feeds) = (shared.open_channels(), shared.server_feeds());
        let identities = shared.events.identities();
        let all = channels.len() + feeds.len() + identities.len();
        let ended = AtomicUsize::new(0);
        let judge_channel = async |channel: std::sync::Arc<Channel>| {
            if !shared.rejudge(&channel).await {
                ended.fetch_add(1, Ordering::Relaxed);
            }
        };
        let channels = futures::stream::iter(channels);
        channels.for_each_concurrent(REJUDGED_AT_A_TIME, judge_channel).await;
        for feed in feeds {
            if let Err(error) = feed.judge_again(shared).await {
                feed.end(error);
                ended.fetch_add(1, Ordering::Relaxed);
            }
        }
        for (number, asked) in identities {
            let judged = shared.judge_server_again(asked).await;
            let kept = shared.events.rejudged(number, judged);
            ended.fetch_add(usize::from(!kept), Ordering::Relaxed);
        }
        let ended = ended.into_inner();
        Rejudged { kept: all - ended, ended }
    }
}

impl Shared {
    /// What was remembered goes first: an opening that asks after it sees the number, or asks anew.
    pub(super) fn begin_revocation(&self) {
        self.authorizer.forget();
        self.server_authorizer.forget();
        self.revocations.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends a channel, and tells whose it was.
    pub(super) fn end_revoked(&self, channel: &Channel, reason: &str) {
        channel.end(Some(error::revoked(reason)));
        channel.with_grant(|grant| {
            let act = Act::Administered { what: REVOKE };
            self.observed.tell(grant.user_name(), Some(&grant.database), act);
        });
    }

    pub(super) fn revoke(&self, revocation: &Revocation) -> Result<Revoked, WireError> {
        if let Some(time) = revocation.block {
            self.blocks.add(revocation, time).map_err(|refusal| refusal.to_wire())?;
        }
        self.begin_revocation();
        let act = Act::Administered { what: REVOKE };
        self.observed.tell(revocation.user.as_deref(), revocation.database.as_ref(), act);
        let mut revoked = Revoked::default();
        for channel in self.open_channels() {
            let fits = channel.with_grant(|grant| {
                revocation.fits(grant.user_name(), grant.token_name(), Some(&grant.database))
            });
            if fits {
                self.end_revoked(&channel, &revocation.reason);
                revoked.channels += 1;
            }
        }
        if revocation.database.is_none() {
            let fits = |user: Option<&str>, token: Option<&str>| revocation.fits(user, token, None);
            for feed in self.server_feeds() {
                if feed.with_grant(|grant| fits(grant.user.as_deref(), grant.token.as_deref())) {
                    feed.end(error::revoked(&revocation.reason));
                    revoked.feeds += 1;
                }
            }
            revoked.sessions = self.sessions.end_all(fits);
            revoked.identities = self.events.revoke(&revocation.reason, |grant| {
                fits(grant.user.as_deref(), grant.token.as_deref())
            });
        }
        Ok(revoked)
    }

    /// False if the channel has ended.
    async fn rejudge(&self, channel: &Channel) -> bool {
        let access = channel.access();
        let credentials = access.credentials.clone();
        let judged = self.judge_again(access).await;
        let judged = judged.and_then(|grant| narrowed(grant, &channel.granted().database));
        channel.judged_again(&credentials, judged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_must_all_fit() {
        let todos = DbName::parse("todos").unwrap();
        let check = |revocation: Revocation, expected: [bool; 4]| {
            let found = [
                revocation.fits(Some("anna"), None, Some(&todos)),
                revocation.fits(Some("anna"), Some("laptop"), None),
                revocation.fits(None, Some("laptop"), Some(&todos)),
                revocation.fits(None, None, None),
            ];
            assert_eq!(found, expected, "{revocation:?}");
        };
        let (user, token) = (Some("anna".to_owned()), Some("laptop".to_owned()));
        let none = Revocation::default;
        check(none(), [true; 4]);
        check(Revocation { user: user.clone(), ..none() }, [true, true, false, false]);
        check(Revocation { token: token.clone(), ..none() }, [false, true, true, false]);
        let database = Some(todos.clone());
        check(Revocation { database: database.clone(), ..none() }, [true, false, true, false]);
        check(Revocation { user, database, ..none() }, [true, false, false, false]);
    }

    #[test]
    fn blocks_end_and_are_bounded() {
        let blocks = Blocks::default();
        let anna = Revocation { user: Some("anna".into()), ..Revocation::default() };
        blocks.add(&anna, Duration::ZERO).unwrap();
        assert!(blocks.check(Some("anna"), None, None).is_ok());
        for _ in 0..BLOCKS_MAX {
            blocks.add(&anna, Duration::MAX).unwrap();
        }
        assert_eq!(blocks.check(Some("anna"), None, None).unwrap_err().status, 403);
        assert!(blocks.check(Some("berta"), None, None).is_ok());
        assert!(blocks.add(&anna, Duration::MAX).is_err());
    }
}
