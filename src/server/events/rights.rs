//! What a server's grant allows with events.

use crate::proto::event::Targets;
use crate::proto::message::WireError;

use crate::server::auth::ServerGrant;
use crate::server::error::may_not_send;

/// Nothing, unless the grant says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::server) struct EventRights {
    pub joins: Vec<String>,
    pub sends: Vec<String>,
    pub sends_to_users: bool,
    pub broadcasts: bool,
}

impl ServerGrant {
    /// The same, and channels of events may be joined: the one of this name or, where it ends with
    /// `*`, all that begin like it. A `*` elsewhere is an ordinary character.
    ///
    /// ```
    /// use settee::server::ServerGrant;
    /// let grant = ServerGrant::known().user("anna").joining("room-*").sending("room-1");
    /// ```
    #[must_use]
    pub fn joining(mut self, channels: impl Into<String>) -> Self {
        self.events.joins.push(channels.into());
        self
    }

    /// The same, and events may be sent to channels, named as in [`ServerGrant::joining`]. To join
    /// one is not needed for that, nor does it suffice.
    #[must_use]
    pub fn sending(mut self, channels: impl Into<String>) -> Self {
        self.events.sends.push(channels.into());
        self
    }

    /// The same, and events may be sent to every user.
    #[must_use]
    pub fn sending_to_users(mut self) -> Self {
        self.events.sends_to_users = true;
        self
    }

    /// The same, and events may be sent to everybody.
    #[must_use]
    pub fn broadcasting(mut self) -> Self {
        self.events.broadcasts = true;
        self
    }
}

impl EventRights {
    pub(super) fn may_join(&self, channel: &str) -> bool {
        self.joins.iter().any(|pattern| matches(pattern, channel))
    }

    /// Refuses an event for whom it may not be, by name.
    pub(in crate::server) fn check_send(&self, targets: &Targets) -> Result<(), WireError> {
        if targets.broadcast && !self.broadcasts {
            return Err(may_not_send("everybody"));
        }
        if !targets.users.is_empty() && !self.sends_to_users {
            return Err(may_not_send("users"));
        }
        let allowed = |channel: &str| self.sends.iter().any(|pattern| matches(pattern, channel));
        match targets.channels.iter().find(|channel| !allowed(channel)) {
            Some(channel) => Err(may_not_send(&format!("the channel {channel}"))),
            None => Ok(()),
        }
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_star_at_the_end_stands_for_anything() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(matches(pattern, name), expected, "{pattern} and {name}");
        };
        check("room-1", "room-1", true);
        check("room-1", "room-12", false);
        check("room-*", "room-", true);
        check("room-*", "room-12", true);
        check("room-*", "room", false);
        check("*", "anything", true);
        check("*-private", "anna-private", false);
        check("*-private", "*-private", true);
        check("", "a", false);
    }

    #[test]
    fn nothing_is_allowed_that_was_not_granted() {
        let rights = EventRights::default();
        for targets in [Targets::user("a"), Targets::channel("a"), Targets::everybody()] {
            assert_eq!(rights.check_send(&targets).expect_err("it must be refused").status, 403);
        }
        let rights = ServerGrant::known().sending("a*").events;
        assert_eq!(rights.check_send(&Targets::channel("ab")), Ok(()));
        assert!(rights.check_send(&Targets::channel("ab").and_channel("b")).is_err());
        assert!(!rights.may_join("ab"));
    }
}
