//! Who is not to be trusted: clients whose requests stop one primary after the other by proofs that do not hold
//! everywhere (the "big MAC" attack, Aardvark, NSDI'09).
//!
//! What a client's faults lead to concerns its whole principal, a client node with its key.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::transitions::Phase;
use super::{Pbft, Turn};
use crate::protocol::sets::{set_of, size};
use crate::protocol::{Ignored, Output};
use crate::requests::RequestTable;
use crate::types::ClientId;

/// By principal: the primaries that proposed requests which did not prove themselves here and stopped a slot.
#[derive(Debug, Default)]
pub(super) struct Accusers(BTreeMap<u32, u64>);

impl Accusers {
    /// Whether any primary has accused a principal.
    #[cfg(test)]
    pub(super) fn is_accused(&self, principal: u32) -> bool {
        self.0.contains_key(&principal)
    }
}

impl Pbft {
    /// The view ends with slots that requests stopped which did not prove themselves here. Either their client is
    /// faulty or the primary is; a client whom f + 1 primaries accuse is.
    pub(super) fn accuse_unproven(&mut self) {
        let primary = self.primary();
        let stopped = self.log.slots().filter(|slot| slot.phase == Phase::Held);
        let clients: BTreeSet<ClientId> = stopped.flat_map(|slot| slot.unproven.iter().copied()).collect();
        for client in clients {
            let principal = self.principal(client);
            *self.suspicion.accusers.0.entry(principal).or_default() |= set_of(primary);
        }
    }

    /// Whether requests of this client have stopped f + 1 primaries, one of them correct.
    pub(super) fn is_distrusted(&self, client: ClientId) -> bool {
        let accusers = &self.suspicion.accusers.0;
        !accusers.is_empty()
            && accusers.get(&self.principal(client)).is_some_and(|set| size(*set) >= self.config.quorums.weak())
    }

    /// The requests of a table but for those of clients that are not to be trusted; `None` if none is left.
    pub(super) fn without_distrusted(
        &self,
        table: Arc<RequestTable>,
        turn: &mut Turn<'_>,
    ) -> Option<Arc<RequestTable>> {
        if self.suspicion.accusers.0.is_empty() {
            return Some(table);
        }
        let trusted: Vec<usize> = (0..table.len()).filter(|&index| !self.is_distrusted(table.clients[index])).collect();
        if trusted.len() == table.len() {
            return Some(table);
        }
        turn.outputs.push(Output::Ignored(Ignored::DistrustedClient));
        (!trusted.is_empty()).then(|| Arc::new(table.select(&trusted)))
    }

    /// The principal of a client, named by its first client.
    pub(super) fn principal(&self, client: ClientId) -> u32 {
        principal_of(&self.config.principals, client)
    }
}

/// The first client of the range that holds `client`: each range is one principal, and so is a client in none.
pub(super) fn principal_of(principals: &[Range<u32>], client: ClientId) -> u32 {
    let after = principals.partition_point(|range| range.start <= client.0);
    let range = after.checked_sub(1).map(|index| &principals[index]);
    range.filter(|range| range.contains(&client.0)).map_or(client.0, |range| range.start)
}
