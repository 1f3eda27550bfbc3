//! Counts connections in all, by address and by user, and refuses one too many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::Limits;

use super::bounds::network_of;
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
    counted: bool,
    address: Mutex<Option<IpAddr>>,
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
            self.count_address(&mut counts, address)?;
        }
        counts.all += 1;
        Ok(self.seat(true, address))
    }

    /// A seat for one request of a proxy's connection, which is many clients'.
    pub(super) fn guest(&self) -> Seat {
        self.seat(false, None)
    }

    fn seat(&self, counted: bool, address: Option<IpAddr>) -> Seat {
        let (address, users) = (Mutex::new(address), Mutex::default());
        Seat { census: self.clone(), counted, address, users }
    }

    fn count_address(&self, counts: &mut Counts, address: IpAddr) -> Result<(), Refusal> {
        let of_address = counts.addresses.entry(address).or_default();
        if *of_address >= self.per_address_max {
            return Err(Refusal::TooManyConnectionsOfAddress { max: self.per_address_max });
        }
        *of_address += 1;
        Ok(())
    }
}

impl Seat {
    /// Counts a connection by an address that was not known when it was admitted.
    pub(super) fn comes_from(&self, address: IpAddr) -> Result<(), Refusal> {
        let mut own = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if own.is_none() {
            let address = network_of(address);
            self.census.count_address(&mut self.census.lock(), address)?;
            *own = Some(address);
        }
        Ok(())
    }

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
        counts.all -= usize::from(self.counted);
        if let Some(address) = *self.address.get_mut().unwrap_or_else(PoisonError::into_inner) {
            count_out(&mut counts.addresses, &address);
        }
        for user in self.users.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            count_out(&mut counts.users, &user);
        }
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
    fn an_address_may_become_known_later() {
        let census = Census::new(&Limits { connections_per_address_max: 1, ..Limits::default() });
        let (first, second) = (census.admit(None).unwrap(), census.admit(None).unwrap());
        first.comes_from([192, 0, 2, 1].into()).unwrap();
        first.comes_from([192, 0, 2, 2].into()).unwrap();
        let refused = Err(Refusal::TooManyConnectionsOfAddress { max: 1 });
        assert_eq!(second.comes_from([192, 0, 2, 1].into()), refused);
        let guest = census.guest();
        guest.belongs_to("anna").unwrap();
        assert_eq!(census.connections(), 2);
        drop((first, guest));
        second.comes_from([192, 0, 2, 1].into()).unwrap();
        drop(second);
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
