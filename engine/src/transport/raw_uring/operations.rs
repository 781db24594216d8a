//! What is under way, found by the number that the kernel gives back.

use super::ring::Operation;

/// Where an operation is found. Used again once the operation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) u32);

/// Operations by [`Key`].
pub(super) struct Operations {
    slots: Vec<Option<Operation>>,
    free: Vec<u32>,
}

impl Operations {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    pub(super) fn insert(&mut self, operation: Operation) -> Key {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(operation);
            return Key(slot);
        }
        // Each connection has three at most.
        #[allow(clippy::cast_possible_truncation, reason = "there are fewer file descriptors than that")]
        let key = Key(self.slots.len() as u32);
        self.slots.push(Some(operation));
        key
    }

    pub(super) fn get(&self, key: Key) -> Option<&Operation> {
        self.slots.get(key.0 as usize)?.as_ref()
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Operation> {
        let operation = self.slots.get_mut(key.0 as usize)?.take()?;
        self.free.push(key.0);
        Some(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_used_again_only_when_they_are_free() {
        let mut operations = Operations::new();
        let keys: Vec<Key> = (0..3).map(|listener| operations.insert(Operation::Accept(listener))).collect();
        assert!(matches!(operations.remove(keys[1]), Some(Operation::Accept(1))));
        assert!(operations.remove(keys[1]).is_none() && operations.get(keys[1]).is_none());
        assert_eq!(operations.insert(Operation::Watch), keys[1]);
        assert!(matches!(operations.get(keys[2]), Some(Operation::Accept(2))));
        assert!(operations.get(Key(3)).is_none());
        for key in keys {
            assert!(!operations.is_empty());
            operations.remove(key).unwrap();
        }
        assert!(operations.is_empty());
    }
}
