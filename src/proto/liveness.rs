//! When to ping a silent peer and when to give it up.

/// What to do about a peer's silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Look again in this many milliseconds.
    Wait(u64),
    /// Send a ping, then look again in this many milliseconds.
    Ping(u64),
    /// The peer is dead.
    Dead,
}

/// Watches one connection's silence. Times are milliseconds on any clock that does not go back.
#[derive(Debug, Clone)]
pub struct Liveness {
    ping_interval_ms: u64,
    silence_timeout_ms: u64,
    pinged_at_ms: u64,
    /// The first ping since the peer was last heard.
    unanswered_since_ms: Option<u64>,
}

impl Liveness {
    /// A watch that begins now.
    #[must_use]
    pub fn new(ping_interval_ms: u64, silence_timeout_ms: u64, now_ms: u64) -> Self {
        Self {
            ping_interval_ms,
            silence_timeout_ms,
            pinged_at_ms: now_ms,
            unanswered_since_ms: None,
        }
    }

    /// Judges at `now_ms` a peer that was last heard at `heard_ms`.
    ///
    /// A peer counts as dead only when it has had time to answer a ping, however long it took until
    /// one could be sent.
    pub fn judge(&mut self, now_ms: u64, heard_ms: u64) -> Verdict {
        self.unanswered_since_ms = self.unanswered_since_ms.filter(|pinged| *pinged > heard_ms);
        let time_to_answer = self.silence_timeout_ms.saturating_sub(self.ping_interval_ms);
        let first_ping = self.unanswered_since_ms.unwrap_or(now_ms);
        let dead_at = heard_ms
            .saturating_add(self.silence_timeout_ms)
            .max(first_ping.saturating_add(time_to_answer));
        if now_ms >= dead_at {
            return Verdict::Dead;
        }
        let until_dead = dead_at - now_ms;
        let quiet = now_ms.saturating_sub(heard_ms.max(self.pinged_at_ms));
        if quiet >= self.ping_interval_ms {
            self.pinged_at_ms = now_ms;
            self.unanswered_since_ms.get_or_insert(now_ms);
            return Verdict::Ping(self.ping_interval_ms.min(until_dead));
        }
        Verdict::Wait((self.ping_interval_ms - quiet).min(until_dead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_pinged_twice_and_dropped() {
        let mut liveness = Liveness::new(20, 45, 0);
        assert_eq!(liveness.judge(0, 0), Verdict::Wait(20));
        assert_eq!(liveness.judge(20, 0), Verdict::Ping(20));
        assert_eq!(liveness.judge(40, 0), Verdict::Ping(5));
        assert_eq!(liveness.judge(45, 0), Verdict::Dead);
    }

    #[test]
    fn a_peer_that_answers_lives() {
        let mut liveness = Liveness::new(20, 45, 0);
        assert_eq!(liveness.judge(20, 0), Verdict::Ping(20));
        assert_eq!(liveness.judge(40, 21), Verdict::Wait(1));
        assert_eq!(liveness.judge(41, 21), Verdict::Ping(20));
        assert_eq!(liveness.judge(61, 60), Verdict::Wait(19));
    }

    #[test]
    fn a_peer_that_could_not_be_pinged_is_given_time_to_answer() {
        let mut liveness = Liveness::new(20, 45, 0);
        assert_eq!(liveness.judge(80, 0), Verdict::Ping(20));
        assert_eq!(liveness.judge(100, 0), Verdict::Ping(5));
        assert_eq!(liveness.judge(105, 0), Verdict::Dead);
    }
}
