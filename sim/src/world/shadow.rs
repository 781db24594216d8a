//! A state of a faulty replica's own making, which fits in itself: its digests are those of its snapshots.
//!
//! That is the best lie about a state that there is. Whoever takes one replica's word for a digest takes over this.

use std::collections::BTreeMap;

use hippodrome_engine::app::kv::{Key, Kv, Operation, Outcome};
use hippodrome_engine::app::{Application, InvalidOperation};
use hippodrome_engine::execute::{Done, Executor, ExecutorConfig};
use hippodrome_engine::protocol::message::{Checkpoint, FetchState, StateChunk};
use hippodrome_engine::protocol::{Execution, Message};
use hippodrome_engine::types::{Digest, SequenceNumber};

/// Executes everything wrongly, beside the right executor.
pub(super) struct Shadow {
    executor: Executor,
    digests: BTreeMap<SequenceNumber, Digest>,
}

impl Shadow {
    /// One whose store is `kv` at first.
    pub(super) fn new(config: ExecutorConfig, kv: Kv, chunk_bytes: usize) -> Self {
        let app = Box::new(False(kv));
        let mut executor = Executor::new(config, app);
        executor.cut_snapshots(chunk_bytes);
        Self { executor, digests: BTreeMap::new() }
    }

    /// Keeps the state at a coming checkpoint.
    pub(super) fn keep(&mut self, sequence: SequenceNumber) {
        self.executor.keep(sequence);
    }

    /// Executes a batch.
    pub(super) fn execute(&mut self, execution: &Execution) {
        if execution.sequence != self.executor.executed().next() {
            return; // it has no past: it took over a state
        }
        let mut done = Vec::new();
        self.executor.execute(&Execution { tentative: false, ..execution.clone() }, &mut done);
        for done in done {
            if let Done::Checkpoint(sequence, digest) = done {
                self.digests.insert(sequence, digest);
            }
        }
    }

    /// A piece of the false state.
    pub(super) fn read(&self, fetch: FetchState) -> StateChunk {
        self.executor.read(fetch.sequence, fetch.index)
    }

    /// What the replica says in place of `message`.
    pub(super) fn falsify(&self, message: Message) -> Message {
        match message {
            Message::Checkpoint(Checkpoint { sequence, digest }) => {
                let digest = self.digests.get(&sequence).copied().unwrap_or(digest);
                Message::Checkpoint(Checkpoint { sequence, digest })
            }
            message => message,
        }
    }
}

/// A store that writes other values than it is told to.
struct False(Kv);

impl Application for False {
    fn validate(&self, operation: &[u8]) -> Result<(), InvalidOperation> {
        self.0.validate(operation)
    }

    fn execute(&mut self, operation: &[u8], result: &mut Vec<u8>) {
        self.execute_undoably(operation, result, &mut Vec::new());
    }

    fn execute_undoably(&mut self, operation: &[u8], result: &mut Vec<u8>, record: &mut Vec<u8>) {
        let changed: Option<(Key, Vec<u8>)> = match Operation::decode(operation) {
            Ok(Operation::Insert { key, value } | Operation::Update { key, value }) => {
                Some((key, value.iter().rev().copied().chain([b'!']).collect()))
            }
            _ => None,
        };
        match changed {
            Some((key, value)) => {
                let mut other = Vec::new();
                Operation::Insert { key, value: &value }.encode(&mut other);
                self.0.execute_undoably(&other, &mut Vec::new(), record);
                Outcome::NotFound.encode(result);
            }
            None => self.0.execute_undoably(operation, result, record),
        }
    }

    fn undo(&mut self, record: &[u8]) {
        self.0.undo(record);
    }

    fn query(&self, operation: &[u8], result: &mut Vec<u8>) -> Option<u64> {
        self.0.query(operation, result)
    }

    fn digest(&mut self) -> Digest {
        self.0.digest()
    }

    fn snapshot(&self, chunk: &mut dyn FnMut(&[u8])) {
        self.0.snapshot(chunk);
    }

    fn fresh(&self) -> Box<dyn Application> {
        self.0.fresh()
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), InvalidOperation> {
        self.0.restore(chunks)
    }
}
