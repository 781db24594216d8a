//! Requests that clients have sent to this replica, kept for the pre-prepares that name them by their digests (Castro &
//! Liskov, TOCS'02, section 5.1.5). Whatever is in here has proven itself to this replica.
//!
//! Requests stay in the tables that they came in. Of each client the newest two are kept: a correct client asks for one
//! operation at a time, and the one before may still be under way here. They go when they are executed, or for want of
//! room: a client node can take its own share only, and whoever takes most makes room for others. What is missing is
//! fetched like anything that got lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits::{HELD_BYTES_MAX, HELD_NODE_BYTES_MAX, OPERATIONS_BYTES_MAX};
use crate::requests::{Batch, Manifest, RequestTable, TableBuilder};
use crate::types::{ClientId, Digest, Time, Timestamp};

/// The bodies that are here.
#[derive(Debug)]
pub(super) struct Bodies {
    clients: Vec<Known>,
    /// The tables, by a number that is used again when a table has gone.
    tables: Vec<Option<Held>>,
    free: Vec<u32>,
    /// The tables of each principal in order of arrival.
    by_age: BTreeMap<(u32, u64), u32>,
    arrivals: u64,
    /// Bytes of the tables of each principal that has any.
    by_principal: BTreeMap<u32, usize>,
    bytes: usize,
    node_bytes_max: usize,
    bytes_max: usize,
    /// What has waited for longer makes room for others of its principal.
    stale_ns: u64,
}

/// What is known of one client.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The newest timestamp that the client itself was heard with.
    newest: Timestamp,
    /// The newest one that was executed, as far as it is known here.
    executed: Timestamp,
    /// Its requests that are here.
    held: [Option<Place>; 2],
}

/// Where a request is.
#[derive(Clone, Copy, Debug)]
struct Place {
    timestamp: Timestamp,
    table: u32,
    index: u32,
}

/// A table of which something is still of use.
#[derive(Debug)]
struct Held {
    table: Arc<RequestTable>,
    /// How many of its requests are.
    live: u32,
    bytes: usize,
    age: (u32, u64),
    since: Time,
}

/// What became of a table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Which of its requests, or newer ones of their clients, have come before.
    pub(super) again: Vec<usize>,
    /// Whether any was kept.
    pub(super) any: bool,
    /// Whether any was executed before it came: others have brought it here.
    pub(super) late: bool,
}

/// What became of the bodies of a manifest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pairing {
    /// All are here.
    Complete(Arc<Batch>),
    /// Some are not.
    Missing,
    /// They are more than a batch may have: no correct primary proposes that.
    TooLong,
}

impl Bodies {
    /// Nothing is here yet of `clients` logical clients. What a client node has no room for displaces what has waited
    /// for longer than `stale_ns`.
    pub(super) fn new(clients: u32, stale_ns: u64) -> Self {
        Self {
            clients: vec![Known::default(); clients as usize],
            tables: Vec::new(),
            free: Vec::new(),
            by_age: BTreeMap::new(),
            arrivals: 0,
            by_principal: BTreeMap::new(),
            bytes: 0,
            node_bytes_max: HELD_NODE_BYTES_MAX,
            bytes_max: HELD_BYTES_MAX,
            stale_ns,
        }
    }

    /// Takes in what is new of a table of `principal`.
    pub(super) fn keep(&mut self, table: &Arc<RequestTable>, principal: u32, now: Time) -> Kept {
        let (mut kept, fresh) = self.sort(table);
        if fresh.is_empty() || !self.make_room(principal, table.bytes(), now) {
            return kept;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.tables.push(None);
            u32::try_from(self.tables.len() - 1).expect("fewer tables than bytes of them")
        });
        let (mut live, mut displaced) = (0, Vec::new());
        for index in fresh {
            let (client, timestamp) = (table.clients[index as usize], table.timestamps[index as usize]);
            let known = &mut self.clients[client.0 as usize];
            if known.holds(timestamp) {
                continue;
            }
            live += 1;
            let place = Place { timestamp, table: number, index };
            displaced.extend(known.older().replace(place).map(|place| place.table));
        }
        let (bytes, age) = (table.bytes(), (principal, self.arrivals));
        self.arrivals += 1;
        self.tables[number as usize] = Some(Held { table: Arc::clone(table), live, bytes, age, since: now });
        self.by_age.insert(age, number);
        self.bytes += bytes;
        *self.by_principal.entry(principal).or_default() += bytes;
        displaced.into_iter().for_each(|table| self.release(table));
        kept.any = true;
        kept
    }

    /// What is to become of the requests of a table, and which of them are to be kept.
    fn sort(&mut self, table: &RequestTable) -> (Kept, Vec<u32>) {
        let (mut kept, mut fresh) = (Kept::default(), Vec::with_capacity(table.len()));
        for (index, (client, &timestamp)) in (0..).zip(table.clients.iter().zip(&table.timestamps)) {
            let Some(known) = self.clients.get_mut(client.0 as usize) else { continue };
            if timestamp <= known.newest {
                kept.again.push(index as usize);
                // What found no room, or had to make it, is welcome when it comes again.
                if timestamp < known.newest || timestamp <= known.executed || known.holds(timestamp) {
                    continue;
                }
            } else if timestamp <= known.executed {
                (known.newest, kept.late) = (timestamp, true);
                continue;
            }
            known.newest = timestamp;
            fresh.push(index);
        }
        (kept, fresh)
    }

    /// Nothing up to this timestamp of a client is of use any more.
    pub(super) fn note_executed(&mut self, client: ClientId, timestamp: Timestamp) {
        let Some(known) = self.clients.get_mut(client.0 as usize) else { return };
        known.executed = known.executed.max(timestamp);
        let mut gone = [None; 2];
        for (held, gone) in known.held.iter_mut().zip(&mut gone) {
            *gone = held.take_if(|place| place.timestamp <= timestamp).map(|place| place.table);
        }
        gone.into_iter().flatten().for_each(|table| self.release(table));
    }

    /// Looks for the bodies of a manifest from request `found` on, all before it having been found earlier, and moves
    /// that on to the first one that is missing.
    pub(super) fn pair(&self, manifest: &Manifest, found: &mut usize, by_timestamp: bool) -> Pairing {
        let place = |index: usize| self.place(manifest, index, by_timestamp);
        while *found < manifest.len() {
            if place(*found).is_none() {
                return Pairing::Missing;
            }
            *found += 1;
        }
        // What was found earlier may have made room for others since.
        let mut places = Vec::with_capacity(manifest.len());
        let mut operations = 0;
        for index in 0..manifest.len() {
            let Some(place) = place(index) else {
                *found = index;
                return Pairing::Missing;
            };
            operations += self.table(place).operation(place.index as usize).len();
            places.push(place);
        }
        if operations > OPERATIONS_BYTES_MAX {
            return Pairing::TooLong;
        }
        Pairing::Complete(manifest.complete(self.gather(&places)))
    }

    /// The newest request of each client, in tables, the oldest first.
    pub(super) fn newest(&self) -> Vec<RequestTable> {
        let mut tables = Vec::new();
        let mut ages: Vec<_> = self.by_age.iter().map(|(&(_, arrival), &table)| (arrival, table)).collect();
        ages.sort_unstable();
        for (_, number) in ages {
            let Some(held) = &self.tables[number as usize] else { continue };
            let is_newest = |&index: &usize| {
                let client = held.table.clients[index].0 as usize;
                let timestamp = held.table.timestamps[index];
                let known = self.clients.get(client).filter(|known| known.newest == timestamp);
                known.is_some_and(|known| known.held.iter().flatten().any(|place| place.is_at(number, index)))
            };
            let indices: Vec<usize> = (0..held.table.len()).filter(is_newest).collect();
            if !indices.is_empty() {
                tables.push(held.table.select(&indices));
            }
        }
        tables
    }

    /// Where request `index` of a manifest is, if it is here.
    fn place(&self, manifest: &Manifest, index: usize, by_timestamp: bool) -> Option<Place> {
        let (client, timestamp) = (manifest.clients()[index], manifest.timestamps()[index]);
        let known = self.clients.get(client.0 as usize)?;
        let place = known.held.iter().flatten().find(|place| place.timestamp == timestamp)?;
        (by_timestamp || self.digest(*place) == manifest.digests()[index]).then_some(*place)
    }

    fn table(&self, place: Place) -> &Arc<RequestTable> {
        &self.tables[place.table as usize].as_ref().expect("a place is in a table that is held").table
    }

    fn digest(&self, place: Place) -> Digest {
        self.table(place).digests[place.index as usize]
    }

    /// These requests, without their proofs: they have proven themselves here, and to others they do by their digests.
    fn gather(&self, places: &[Place]) -> RequestTable {
        let whole = places.first().is_some_and(|first| {
            let same = |(index, place): (usize, &Place)| place.is_at(first.table, index);
            self.table(*first).len() == places.len() && places.iter().enumerate().all(same)
        });
        if whole {
            let mut table = RequestTable::clone(self.table(places[0]));
            table.proofs = crate::requests::Proofs::None;
            return table;
        }
        let mut builder = TableBuilder::default();
        for place in places {
            builder.push_unproven(self.table(*place), place.index as usize);
        }
        builder.finish()
    }

    /// One request of a table is of no use any more.
    fn release(&mut self, number: u32) {
        let Some(held) = &mut self.tables[number as usize] else { return };
        held.live -= 1;
        if held.live == 0 {
            self.forget(number);
        }
    }

    /// Forgets a table that nothing refers to.
    fn forget(&mut self, number: u32) -> Option<Arc<RequestTable>> {
        let Held { table, bytes, age, .. } = self.tables[number as usize].take()?;
        self.by_age.remove(&age);
        self.bytes -= bytes;
        if let Some(of_principal) = self.by_principal.get_mut(&age.0) {
            *of_principal -= bytes;
            if *of_principal == 0 {
                self.by_principal.remove(&age.0);
            }
        }
        self.free.push(number);
        Some(table)
    }

    /// Makes room for a table of `principal`, within its share and in all. What others have more of goes first. Of its
    /// own only what has waited for long goes: what came last is what the primary proposes last. False if there is no
    /// room.
    fn make_room(&mut self, principal: u32, bytes: usize, now: Time) -> bool {
        loop {
            let own = self.by_principal.get(&principal).copied().unwrap_or_default() + bytes;
            let largest = self.by_principal.iter().max_by_key(|(_, bytes)| **bytes);
            let larger = largest.filter(|(_, bytes)| **bytes > own).map(|(principal, _)| *principal);
            match larger {
                _ if own > self.node_bytes_max => {}
                _ if self.bytes + bytes <= self.bytes_max => return true,
                Some(larger) => {
                    self.evict_oldest(larger);
                    continue;
                }
                None => {}
            }
            if !self.has_stale(principal, now) {
                return false;
            }
            self.evict_oldest(principal);
        }
    }

    /// Whether the oldest table of a principal has waited for so long that it will hardly be proposed any more.
    fn has_stale(&self, principal: u32, now: Time) -> bool {
        let oldest = self.oldest(principal).and_then(|number| self.tables[number as usize].as_ref());
        oldest.is_some_and(|held| now.since(held.since) >= self.stale_ns)
    }

    fn oldest(&self, principal: u32) -> Option<u32> {
        self.by_age.range((principal, 0)..=(principal, u64::MAX)).next().map(|(_, number)| *number)
    }

    fn evict_oldest(&mut self, principal: u32) {
        let Some(number) = self.oldest(principal) else { return };
        let Some(table) = self.forget(number) else { return };
        for client in &table.clients {
            if let Some(known) = self.clients.get_mut(client.0 as usize) {
                known.held.iter_mut().for_each(|held| {
                    let _ = held.take_if(|place| place.table == number);
                });
            }
        }
    }
}

impl Known {
    fn holds(&self, timestamp: Timestamp) -> bool {
        self.held.iter().flatten().any(|place| place.timestamp == timestamp)
    }

    /// The place of the older one of the two, or one that is free.
    const fn older(&mut self) -> &mut Option<Place> {
        let [first, second] = &mut self.held;
        match (&first, &second) {
            (Some(one), Some(other)) if one.timestamp.0 > other.timestamp.0 => second,
            (Some(_), None) => second,
            _ => first,
        }
    }
}

impl Place {
    const fn is_at(self, table: u32, index: usize) -> bool {
        self.table == table && self.index as usize == index
    }
}

#[cfg(test)]
#[path = "tests/bodies.rs"]
mod tests;
