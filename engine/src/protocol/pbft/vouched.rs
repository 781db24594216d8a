//! Requests that do not prove themselves to the primary, but to backups: a client's authenticator holds for each
//! replica separately, and a faulty client may make one that holds everywhere but at the primary.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::REQUESTS_MAX;
use crate::requests::RequestTable;
use crate::types::{ClientId, Digest, ReplicaId, Timestamp};

/// What each backup has passed on that could not be proven here: the newest of each client, so many at most. Whoever
/// has passed on more begins anew; what is still waited for is passed on again.
#[derive(Debug)]
pub(super) struct Vouched {
    by_sender: Vec<BTreeMap<ClientId, (Timestamp, Digest)>>,
}

impl Vouched {
    /// Nothing was passed on by any of `n` replicas.
    pub(super) fn new(n: usize) -> Self {
        Self { by_sender: vec![BTreeMap::new(); n] }
    }

    /// Takes note of what `sender` passes on and returns which requests are to be believed by now: those that prove
    /// themselves, and those that `enough` backups have passed on.
    pub(super) fn sift(
        &mut self,
        sender: ReplicaId,
        table: &RequestTable,
        unproven: &[ClientId],
        enough: usize,
    ) -> Vec<usize> {
        let unproven: BTreeSet<ClientId> = unproven.iter().copied().collect();
        let mut good = Vec::new();
        for (index, &client) in table.clients.iter().enumerate() {
            if !unproven.contains(&client) {
                good.push(index);
                continue;
            }
            let request = (table.timestamps[index], table.digests[index]);
            let of_sender = &mut self.by_sender[usize::from(sender.0)];
            if of_sender.len() >= REQUESTS_MAX && !of_sender.contains_key(&client) {
                of_sender.clear();
            }
            of_sender.insert(client, request);
            let vouchers = self.by_sender.iter().filter(|passed_on| passed_on.get(&client) == Some(&request)).count();
            if vouchers >= enough {
                good.push(index);
            }
        }
        good
    }
}
