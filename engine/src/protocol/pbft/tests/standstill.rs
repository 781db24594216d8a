//! One correct replica has passed a checkpoint alone, with the votes of faulty ones that are silent ever after: the
//! others must not be made to believe that the state there is to be had, nor lose votes that they need to get there.

use super::cluster::Cluster;
use super::*;
use crate::protocol::message::StateChunk;

const SECOND: u64 = 1_000_000_000;

/// A cluster whose replicas have all executed `from`, with batches for the sequence numbers up to one behind the next
/// checkpoint: requests that clients will not send themselves before [`Cluster::press`].
struct Stage {
    cluster: Cluster,
    from: u64,
    batches: Vec<Arc<Batch>>,
}

impl Stage {
    /// Replica `laggard`, if any, misses more than anybody keeps. Faulty replicas, the primary first, are silent from
    /// then on: what they say is said by hand.
    fn new(n: usize, laggard: Option<usize>) -> Self {
        let mut cluster = Cluster::new(n, 8, 20, batching("none"), 1);
        if let Some(laggard) = laggard {
            cluster.silent[laggard] = true;
        }
        assert!(cluster.settle(Time(10 * SECOND)));
        cluster.run(cluster.now.after(SECOND / 10));
        let f = cluster.f();
        cluster.silent[..f].fill(true);
        cluster.forgetful = laggard.is_some();
        let from = cluster.executed(n - 1);
        let count = from / INTERVAL * INTERVAL + INTERVAL + 1 - from;
        let tables = (0..u32::try_from(count).unwrap()).map(|client| cluster.promise(client));
        let batches: Vec<_> = tables.map(|table| Batch::new(table.as_ref().clone())).collect();
        Self { cluster, from, batches }
    }

    /// The checkpoint ahead.
    fn target(&self) -> u64 {
        self.from + self.batches.len() as u64 - 1
    }

    /// The primary proposes everything to these, and all faulty replicas agree. They commit to `favoured` only.
    fn propose(&mut self, up_to: u64, to: &[usize], faulty: &[u16], favoured: usize) {
        let batches = self.batches.clone();
        for (sequence, batch) in (self.from + 1..=up_to).zip(&batches) {
            for &to in to {
                self.cluster.say(0, to, pre_prepare(sequence, batch));
                for &other in &faulty[1..] {
                    self.cluster.say(other, to, prepare(sequence, batch));
                }
            }
            for &other in faulty {
                self.cluster.say(other, favoured, commit(sequence, batch));
            }
        }
        self.cluster.run(self.cluster.now.after(STATUS_NS));
        assert_eq!(self.cluster.executed(favoured), up_to);
    }

    /// The faulty replicas are silent from now on, and clients press for their requests.
    fn gets_on(mut self) {
        for client in 0..u32::try_from(self.batches.len()).unwrap() {
            self.cluster.press(client);
        }
        let settled = self.cluster.settle(self.cluster.now.after(30 * SECOND));
        assert!(settled, "{:#?}", self.cluster.positions());
        self.cluster.check();
    }
}

/// Replica 1 has passed the checkpoint; 2 missed everything; 3 has prepared what leads there, but lacks a vote.
#[test]
fn a_laggard_does_not_go_ahead_to_a_state_that_is_gone() {
    let mut stage = Stage::new(4, Some(2));
    let target = stage.target();
    stage.propose(target + 1, &[1, 3], &[0], 1);
    let cluster = &mut stage.cluster;
    let at_target = checkpoint_of(cluster, 1, target);
    cluster.silent[2] = false;
    // The faulty one vouches as well, and says that it has no state to hand over.
    let begun = cluster.now;
    while cluster.now < begun.after(SECOND / 5) {
        cluster.say(0, 2, at_target.clone());
        cluster.say(0, 2, no_state(target));
        cluster.run(cluster.now.after(STATUS_NS));
    }
    cluster.forgetful = false;
    stage.gets_on();
}

/// With n = 7, 3 takes over the state that 2 alone has come to, because the faulty 0 and 1 vouch for it too.
#[test]
fn a_state_that_was_taken_over_leaves_votes_below_it_to_be_had() {
    let mut stage = Stage::new(7, None);
    let target = stage.target();
    stage.propose(target, &[2, 4, 5], &[0, 1], 2);
    let cluster = &mut stage.cluster;
    let at_target = checkpoint_of(cluster, 2, target);
    // Nobody else hears of what it wishes, but for the one that has the state.
    cluster.network.statuses = false;
    let begun = cluster.now;
    while cluster.states_installed(3) == 0 && cluster.now < begun.after(SECOND) {
        for voucher in [0, 1, 2] {
            cluster.say(voucher, 3, at_target.clone());
        }
        cluster.say(3, 2, Message::StateWanted(SequenceNumber(target)));
        cluster.run(cluster.now.after(STATUS_NS));
    }
    cluster.network.statuses = true;
    assert_eq!((cluster.states_installed(3), cluster.executed(3)), (1, target));
    assert!([4, 5, 6].iter().all(|&behind| cluster.executed(behind) < target));
    stage.gets_on();
}

/// The faulty 0 backs 1, which has passed the checkpoint alone, in each view change, before all others.
#[test]
fn view_changes_that_vouch_for_a_state_that_is_gone_do_not_stop_the_others() {
    let mut stage = Stage::new(4, None);
    let target = stage.target();
    stage.propose(target + 1, &[1, 3], &[0], 1);
    let Message::Checkpoint(passed) = checkpoint_of(&stage.cluster, 1, target) else { unreachable!() };
    for client in 0..u32::try_from(stage.batches.len()).unwrap() {
        stage.cluster.press(client);
    }
    let cluster = &mut stage.cluster;
    let (begun, mut told) = (cluster.now, View(0));
    while !cluster.settle(cluster.now) {
        let next = View(cluster.positions().iter().map(|position| position.view.0).max().unwrap() + 1);
        if told < next {
            told = next;
            let content = ViewChange {
                replica: ReplicaId(0),
                view: next,
                stable: passed.sequence,
                checkpoints: vec![passed],
                prepared: Vec::new(),
                pre_prepared: Vec::new(),
            };
            let signed = Signed { content: Arc::new(content), signature: Some([0; 64]) };
            for to in 1..4 {
                cluster.say(0, to, Message::ViewChange(signed.clone()));
            }
        }
        cluster.run(cluster.now.after(STATUS_NS / 10));
        assert!(cluster.now < begun.after(30 * SECOND), "{:#?}", cluster.positions());
    }
    cluster.check();
}

/// What `replica` says of its state at a checkpoint that it has passed.
fn checkpoint_of(cluster: &Cluster, replica: usize, sequence: u64) -> Message {
    Message::Checkpoint(Checkpoint { sequence: SequenceNumber(sequence), digest: cluster.state(replica, sequence) })
}

fn no_state(sequence: u64) -> Message {
    let sequence = SequenceNumber(sequence);
    Message::StateChunk(StateChunk { sequence, index: 0, count: 0, bytes: bytes::Bytes::new() })
}
