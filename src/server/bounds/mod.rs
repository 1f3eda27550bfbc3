//! Bounds over time and over all connections: how fast one may send, how often one address or user
//! may ask or fail to log in, how much JSON may be in memory.

mod logins;
mod memory;
mod pace;
mod requests;

pub(super) use logins::{Attempt, Logins};
pub(super) use memory::{Held, Intake, Memory};
pub(super) use pace::Pace;
pub(super) use requests::Requests;

use std::net::IpAddr;

use governor::clock::Clock;
use tokio::time::Instant;

/// Tokio's clock, which tests can stop.
#[derive(Debug, Clone, Copy, Default)]
struct TokioClock;

impl Clock for TokioClock {
    type Instant = std::time::Instant;

    fn now(&self) -> Self::Instant {
        Instant::now().into_std()
    }
}

/// What is counted as one address: whoever has one IPv6 address has 2^64 of them.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}
