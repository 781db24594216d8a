//! The state of each connection, found by its number without hashing.

use super::ConnectionId;

/// Low bits of a [`ConnectionId`] that say where its state is; the bits above count the connections made, so that no
/// number is used twice.
const SLOT_BITS: u32 = 20;

/// States by [`ConnectionId`]. Slots are used again, numbers are not.
#[derive(Debug)]
pub(super) struct Table<S> {
    slots: Vec<Option<(ConnectionId, S)>>,
    free: Vec<usize>,
    made: u64,
}

impl<S> Table<S> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), made: 0 }
    }

    /// Numbers a connection. Numbers are at least `1 << SLOT_BITS`: those below are free for other uses.
    pub(super) fn insert(&mut self, state: S) -> ConnectionId {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        assert!(slot < 1 << SLOT_BITS, "there are fewer file descriptors than slots");
        self.made += 1;
        let connection = ConnectionId(self.made << SLOT_BITS | slot as u64);
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some((connection, state));
        connection
    }

    /// A number that nothing is found under.
    pub(super) fn reserve(&mut self) -> ConnectionId {
        self.made += 1;
        ConnectionId(self.made << SLOT_BITS)
    }

    pub(super) fn get(&self, connection: ConnectionId) -> Option<&S> {
        match self.slots.get(slot_of(connection)) {
            Some(Some((id, state))) if *id == connection => Some(state),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, connection: ConnectionId) -> Option<&mut S> {
        match self.slots.get_mut(slot_of(connection)) {
            Some(Some((id, state))) if *id == connection => Some(state),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, connection: ConnectionId) -> Option<S> {
        self.get(connection)?;
        let slot = slot_of(connection);
        self.free.push(slot);
        self.slots[slot].take().map(|(_, state)| state)
    }
}

pub(super) fn slot_of(connection: ConnectionId) -> usize {
    (connection.0 & ((1 << SLOT_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_not_used_again() {
        let mut table = Table::new();
        let first = table.insert('a');
        let other = table.insert('b');
        assert_eq!(table.remove(first), Some('a'));
        assert_eq!(table.remove(first), None);
        let second = table.insert('c');
        assert_eq!(slot_of(first), slot_of(second));
        assert_ne!(first, second);
        assert_eq!((table.get(first), table.get(other), table.get(second)), (None, Some(&'b'), Some(&'c')));
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.get_mut(second), Some(&mut 'c'));
        assert!(first.0 >= 1 << SLOT_BITS);
        assert_eq!(table.get(ConnectionId(u64::MAX)), None);
    }
}
