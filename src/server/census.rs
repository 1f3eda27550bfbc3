//! Counts connections in all, by address and by user, and refuses one too many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::Limits;

use super::error::Refusal;

/// The counts.
#[derive(Debug, Clone)]
pub(super) struct Census {
    counts: Arc<Mutex<Counts>>,
    connections_max: usize,
    per_address_max: usize,
    per_user_max: usize,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    addresses: HashMap<IpAddr, usize>,
    users: HashMap<String, usize>,
}

/// One counted connection; counts it out when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    census: Census,
    address: Option<IpAddr>,
    users: Mutex<Vec<String>>,
}

impl Census {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            counts: Arc::default(),
            connections_max: limits.connections_max,
            per_address_max: limits.connections_per_address_max,
            per_user_max: limits.connections_per_user_max,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn connections(&self) -> usize {
        self.lock().all
    }

    /// Counts a connection in.
    pub(super) fn admit(&self, address: Option<IpAddr>) -> Result<Seat, Refusal> {
        let address = address.map(network_of);
        let mut counts = self.lock();
        if counts.all >= self.connections_max {
            return Err(Refusal::TooManyConnections { max: self.connections_max });
        }
        if let Some(address) = address {
            let of_address = counts.addresses.entry(address).or_default();
            if *of_address >= self.per_address_max {
                return Err(Refusal::TooManyConnectionsOfAddress { max: self.per_address_max });
            }
            *of_address += 1;
        }
        counts.all += 1;
        Ok(Seat { census: self.clone(), address, users: Mutex::default() })
    }
}

impl Seat {
    /// Counts the connection as this user's; once, however many channels name the user.
    pub(super) fn belongs_to(&self, user: &str) -> Result<(), Refusal> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.iter().any(|known| known == user) {
            return Ok(());
        }
        let mut counts = self.census.lock();
        let of_user = counts.users.entry(user.to_owned()).or_default();
        if *of_user >= self.census.per_user_max {
            return Err(Refusal::TooManyConnectionsOfUser { max: self.census.per_user_max });
        }
        *of_user += 1;
        users.push(user.to_owned());
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.census.lock();
        counts.all -= 1;
        if let Some(address) = self.address {
            count_out(&mut counts.addresses, &address);
        }
        for user in self.users.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            count_out(&mut counts.users, &user);
        }
    }
}

/// What is counted as one address: whoever has one IPv6 address has 2^64 of them.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn count_out<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_exactly_and_seats_come_free() {
        let limits = Limits {
            connections_max: 3,
            connections_per_address_max: 2,
            connections_per_user_max: 1,
            ..Limits::default()
        };
        let census = Census::new(&limits);
        let here: Option<IpAddr> = Some([127, 0, 0, 1].into());
        let first = census.admit(here).unwrap();
        let second = census.admit(here).unwrap();
        assert_eq!(
            census.admit(here).unwrap_err(),
            Refusal::TooManyConnectionsOfAddress { max: 2 }
        );
        let third = census.admit(None).unwrap();
        assert_eq!(census.admit(None).unwrap_err(), Refusal::TooManyConnections { max: 3 });
        first.belongs_to("anna").unwrap();
        first.belongs_to("anna").unwrap();
        assert_eq!(second.belongs_to("anna"), Err(Refusal::TooManyConnectionsOfUser { max: 1 }));
        drop(first);
        second.belongs_to("anna").unwrap();
        drop((second, third));
        assert_eq!(census.connections(), 0);
        assert!(census.lock().addresses.is_empty() && census.lock().users.is_empty());
    }

    #[test]
    fn neighbours_in_an_ipv6_network_are_one_address() {
        let census = Census::new(&Limits { connections_per_address_max: 1, ..Limits::default() });
        let admit = |text: &str| census.admit(Some(text.parse().unwrap()));
        let _first = admit("2001:db8:0:1::1").unwrap();
        assert!(admit("2001:db8:0:1:ffff::2").is_err());
        let _other = admit("2001:db8:0:2::1").unwrap();
        let _v4 = admit("::ffff:10.0.0.1").unwrap();
        assert!(admit("10.0.0.1").is_err());
        assert!(admit("10.0.0.2").is_ok());
    }
}
