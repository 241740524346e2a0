//! Which connections are taken, and whose they are.
//!
//! There are so many at a time, and half of them for one address, so that nobody alone keeps all others out. An address of
//! IPv6 stands for its network. Proxies that are named as trusted have no share, because everybody comes from there. Past a
//! share or the whole, a connection is a crowded one: one request is answered there. An address that is past its share gets
//! half of these places at most, all such addresses together; past that, its connections are closed at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::network;
use super::peer::Crowded;

/// How many connections are accepted past those that are taken, and answered only once.
pub(in crate::web) const RESERVE: usize = 64;

/// Who has how many connections.
pub(in crate::web) struct Seats {
    most: usize,
    trusted: Vec<IpNet>,
    /// One for each connection, crowded ones too.
    all: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    /// How many are not crowded; those of each address, unless it is trusted.
    whole: usize,
    by: HashMap<IpAddr, usize>,
    /// How many are crowded because of their address.
    past_share: usize,
}

/// Where a connection may be once it is accepted.
pub(in crate::web) struct Room {
    _permit: OwnedSemaphorePermit,
}

/// The place of a connection, which is free again when this is dropped.
pub(in crate::web) struct Seat {
    /// Whether the connection is more than the service takes.
    pub crowded: Option<Crowded>,
    owner: Option<IpAddr>,
    taken: Arc<Mutex<Taken>>,
    _room: Room,
}

impl Seats {
    /// For so many connections, and some crowded ones.
    pub fn new(most: usize, trusted: Vec<IpNet>) -> Seats {
        let all = Arc::new(Semaphore::new(most.saturating_add(RESERVE).min(Semaphore::MAX_PERMITS)));
        Seats { most, trusted, all, taken: Arc::default() }
    }

    /// Waits until a connection may be accepted.
    pub async fn room(&self) -> Option<Room> {
        let permit = self.all.clone().acquire_owned().await.ok()?;
        Some(Room { _permit: permit })
    }

    /// The seat of a connection from there; none, where it is to be closed.
    pub fn take(&self, address: IpAddr, room: Room) -> Option<Seat> {
        let trusted = self.trusted.iter().any(|proxies| proxies.contains(&address.to_canonical()));
        let owner = (!trusted).then(|| network(address));
        let mut taken = lock(&self.taken);
        let share = self.most.div_ceil(2);
        let held = owner.as_ref().and_then(|owner| taken.by.get(owner)).copied().unwrap_or_default();
        let crowded = if held >= share {
            if taken.past_share >= RESERVE / 2 {
                return None;
            }
            taken.past_share += 1;
            Some(Crowded::Address)
        } else if taken.whole >= self.most {
            Some(Crowded::Service)
        } else {
            taken.whole += 1;
            owner.map(|owner| taken.by.insert(owner, held + 1));
            None
        };
        Some(Seat { crowded, owner, taken: self.taken.clone(), _room: room })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        match self.crowded {
            Some(Crowded::Service) => {}
            Some(Crowded::Address) => taken.past_share -= 1,
            None => {
                taken.whole -= 1;
                let Some(owner) = self.owner else { return };
                match taken.by.get_mut(&owner) {
                    Some(held) if *held > 1 => *held -= 1,
                    _ => drop(taken.by.remove(&owner)),
                }
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// What a connection from there is; `None` where it is closed.
    fn take(seats: &Seats, address: &str) -> Option<Seat> {
        let room = seats.room().now_or_never().flatten().expect("there is always room for one more here");
        seats.take(address.parse().unwrap(), room)
    }

    fn fill(seats: &Seats, address: &str) -> Vec<Seat> {
        let mut seated: Vec<_> = std::iter::from_fn(|| take(seats, address)).take(seats.most + 1).collect();
        seated.retain(|seat| seat.crowded.is_none());
        seated
    }

    #[test]
    fn one_address_has_half_of_all_connections_and_others_have_the_rest() {
        for (one, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ] {
            let seats = Seats::new(100, vec!["10.0.0.0/8".parse().unwrap()]);
            let held = fill(&seats, one);
            assert_eq!(held.len(), 50, "{one}");
            assert_eq!(take(&seats, same).unwrap().crowded, Some(Crowded::Address), "{same}");
            let others = fill(&seats, other);
            assert_eq!(others.len(), 50, "{other}");
            assert_eq!(take(&seats, "198.51.100.1").unwrap().crowded, Some(Crowded::Service));
            drop((held, others));
            assert_eq!(lock(&seats.taken).whole, 0);
            assert!(lock(&seats.taken).by.is_empty());
        }
    }

    #[test]
    fn one_address_past_its_share_leaves_room_to_others() {
        let seats = Seats::new(4, Vec::new());
        let held: Vec<_> = std::iter::from_fn(|| take(&seats, "192.0.2.1")).collect();
        assert_eq!(held.len(), 2 + RESERVE / 2);
        assert!(take(&seats, "192.0.2.2").unwrap().crowded.is_none());
        drop(held);
        assert_eq!(lock(&seats.taken).past_share, 0);
        assert_eq!(fill(&seats, "192.0.2.1").len(), 2);
    }

    #[test]
    fn a_trusted_proxy_may_have_all() {
        for proxy in ["10.1.2.3", "::ffff:10.1.2.3"] {
            let seats = Seats::new(100, vec!["10.0.0.0/8".parse().unwrap()]);
            assert_eq!(fill(&seats, proxy).len(), 100, "{proxy}");
        }
    }

    #[test]
    fn a_single_connection_is_anybodys() {
        let seats = Seats::new(1, Vec::new());
        let held = take(&seats, "192.0.2.1").unwrap();
        assert!(held.crowded.is_none());
        assert_eq!(take(&seats, "192.0.2.2").unwrap().crowded, Some(Crowded::Service));
    }
}
