//! What holds for whole clusters, seed by seed: agreement, exactly-once execution, liveness once the network behaves,
//! and that a replica which was cut off catches up.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::cluster::{Cluster, Network};
use super::*;
use crate::limits::STATUS_SLOTS_MAX;
use crate::protocol::message::{FetchState, SlotStatus, StateChunk, Status};

const SECOND: u64 = 1_000_000_000;

#[test]
fn clusters_agree_under_loss_and_finish_when_it_ends() {
    for seed in 0..600 {
        let n = SIZES[usize::try_from(seed / 5).unwrap() % SIZES.len()];
        let dissemination = if seed < 300 { Dissemination::Inline } else { Dissemination::Digest };
        let mut cluster = Cluster::disseminating(dissemination, n, 6, 20, any_batching(seed), seed);
        cluster.network = Network {
            loss_percent: cluster.random(25),
            repeat_percent: cluster.random(25),
            delay_max_ns: 1 + cluster.random(3 * STATUS_NS),
            statuses: true,
        };
        // The last f replicas may be down: backups all.
        if seed % 3 == 0 {
            let f = cluster.f();
            cluster.silent[n - f..].fill(true);
        }
        cluster.run(Time(SECOND / 20));
        cluster.check();
        cluster.network = Network::CALM;
        let settled = cluster.settle(cluster.now.after(2 * SECOND));
        cluster.check();
        assert!(settled, "seed {seed}: {} operations completed", cluster.completed);
    }
}

#[test]
fn lying_backups_neither_split_nor_stop_the_others() {
    for seed in 0..100 {
        let n = SIZES[usize::try_from(seed).unwrap() % SIZES.len()];
        let mut cluster = Cluster::new(n, 6, 30, any_batching(seed), seed);
        let f = cluster.f();
        cluster.silent[n - f..].fill(true);
        let liars: Vec<u16> = (n - f..n).map(|liar| u16::try_from(liar).unwrap()).collect();
        cluster.network.loss_percent = 5;
        for _ in 0..1000 {
            cluster.run(cluster.now.after(20_000));
            cluster.lie(&liars);
        }
        cluster.network = Network::CALM;
        assert!(cluster.settle(cluster.now.after(2 * SECOND)), "seed {seed}: {} completed", cluster.completed);
        assert_eq!(cluster.fetches, 0);
        cluster.check();
    }
}

#[test]
fn a_lying_primary_splits_nobody_and_is_replaced() {
    let mut executed = 0;
    for seed in 0..200 {
        let n = SIZES[usize::try_from(seed).unwrap() % SIZES.len()];
        let mut cluster = Cluster::new(n, 3, 10, any_batching(seed), seed);
        let f = cluster.f();
        let liars: Vec<u16> = (0..f).map(|liar| u16::try_from(liar).unwrap()).collect();
        cluster.silent[..f].fill(true);
        for _ in 0..2000 {
            cluster.run(cluster.now.after(20_000));
            cluster.lie(&liars);
        }
        cluster.check();
        // When the liars have said all that they have to say, a correct primary takes over.
        let settled = cluster.settle(cluster.now.after(20 * SECOND));
        assert!(settled, "seed {seed}, n {n}: {} completed, {:?}", cluster.completed, cluster.positions());
        cluster.check();
        executed += (f..n).map(|replica| cluster.executed(replica)).sum::<u64>();
    }
    assert!(executed > 1000, "{executed} batches executed: too few for a test of agreement");
}

/// The canary: were loss repaired by anything but the status exchange, the tests here would prove little.
#[test]
fn without_status_messages_loss_stays() {
    let stuck = (0..20).filter(|&seed| {
        let mut cluster = Cluster::new(4, 6, 20, any_batching(seed), seed);
        cluster.network = Network { loss_percent: 20, statuses: false, ..Network::CALM };
        cluster.run(Time(SECOND / 20));
        cluster.network.loss_percent = 0;
        !cluster.settle(cluster.now.after(SECOND / 2))
    });
    assert_eq!(stuck.count(), 20);
}

/// The "big MAC" attack (Aardvark, NSDI'09): client 0's authenticators hold at the primary and f backups only.
#[test]
fn authenticators_that_hold_for_some_replicas_stop_nobody() {
    for seed in 0..100 {
        let n = SIZES[usize::try_from(seed).unwrap() % SIZES.len()];
        let dissemination = if seed < 50 { Dissemination::Inline } else { Dissemination::Digest };
        let mut cluster = Cluster::disseminating(dissemination, n, 6, 10, any_batching(seed), seed);
        let f = cluster.f();
        cluster.distrust[f + 1..].fill(true);
        cluster.network.loss_percent = 10;
        cluster.run(Time(SECOND / 50));
        cluster.network = Network::CALM;
        assert!(cluster.settle(cluster.now.after(SECOND)), "seed {seed}: {} operations completed", cluster.completed);
        cluster.check();
    }
}

#[test]
fn a_replica_that_was_cut_off_catches_up_under_load_and_when_idle() {
    for seed in 0..20 {
        for idle in [false, true] {
            let n = SIZES[usize::try_from(seed).unwrap() % SIZES.len()];
            let mut cluster = Cluster::new(n, 8, 60, any_batching(seed), seed);
            let laggard = n - 1;
            cluster.silent[laggard] = true;
            while cluster.executed(0) < 4 * WINDOW {
                cluster.run(cluster.now.after(STATUS_NS));
            }
            if idle {
                assert!(cluster.settle(cluster.now.after(10 * SECOND)));
                cluster.run(cluster.now.after(SECOND / 10));
            }
            let gap = cluster.executed(0) - cluster.executed(laggard);
            assert!(gap >= 3 * WINDOW, "seed {seed}: gap {gap}");
            cluster.silent[laggard] = false;
            let healed = cluster.now;
            assert!(cluster.settle(healed.after(SECOND)), "seed {seed}, idle {idle}: {}", cluster.executed(laggard));
            assert_eq!(cluster.stable(laggard), cluster.stable(0));
            assert_eq!(cluster.fetches, 0);
            cluster.check();
        }
    }
}

#[test]
fn a_laggard_catches_up_with_one_sender_of_bodies_crashed() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(7, 8, 60, any_batching(seed), seed);
        cluster.silent[5] = true;
        cluster.silent[6] = true;
        assert!(cluster.settle(Time(10 * SECOND)));
        cluster.silent[6] = false;
        let healed = cluster.now;
        assert!(cluster.settle(healed.after(SECOND)), "seed {seed}: {}", cluster.executed(6));
        cluster.check();
    }
}

#[test]
fn a_calm_cluster_sends_no_repairs() {
    let mut cluster = Cluster::new(4, 1, 100, batching("none"), 1);
    assert!(cluster.settle(Time(SECOND)));
    // Each batch: 3 pre-prepares, 9 prepares, 12 commits. The rest are checkpoints and status messages.
    let (batches, phases) = (cluster.executed(0), 24 * cluster.executed(0));
    let checkpoints = 12 * batches / super::INTERVAL;
    let statuses = 12 * (cluster.now.0 / STATUS_NS + 1);
    assert!(cluster.messages <= phases + checkpoints + statuses, "{} messages", cluster.messages);
}

#[test]
fn an_idle_cluster_is_quiet() {
    let mut cluster = Cluster::new(4, 1, 1, batching("none"), 1);
    assert!(cluster.settle(Time(SECOND)));
    cluster.run(cluster.now.after(20 * STATUS_NS));
    let before = cluster.messages;
    cluster.run(cluster.now.after(80 * STATUS_NS));
    assert_eq!(cluster.messages - before, 10 * 12, "a heartbeat of each replica to each other, every 8 intervals");
}

/// Numbers at the ends of their range, and around where a young replica stands.
fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..3 * WINDOW,
        (0..3 * WINDOW).prop_map(|back| u64::MAX - back),
        Just(u64::MAX / INTERVAL * INTERVAL),
        any::<u64>()
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    let slot = (any::<[bool; 4]>(), any::<[u64; 2]>()).prop_map(|(flags, votes)| SlotStatus {
        pre_prepared: flags[0],
        prepared: flags[1],
        committed: flags[2],
        announced: flags[3],
        prepares: votes[0],
        commits: votes[1],
    });
    let status = (numbers(), numbers(), prop::collection::vec(slot, 0..STATUS_SLOTS_MAX));
    let batch = || prop_oneof![Just(Batch::null()), Just(batch(&[(1, u64::MAX), (u32::MAX, 0)]))];
    prop_oneof![
        (numbers(), batch()).prop_map(|(sequence, batch)| pre_prepare(sequence, &batch)),
        (numbers(), batch()).prop_map(|(sequence, batch)| prepare(sequence, &batch)),
        (numbers(), batch()).prop_map(|(sequence, batch)| commit(sequence, &batch)),
        (numbers(), batch()).prop_map(|(sequence, batch)| committed(sequence, &batch)),
        (numbers(), batch()).prop_map(|(sequence, batch)| body(sequence, &batch)),
        (numbers(), 0..3u8).prop_map(|(sequence, state)| checkpoint(sequence, state)),
        status.prop_map(|(stable, committed, slots)| {
            let (stable, committed) = (SequenceNumber(stable), SequenceNumber(committed));
            Message::Status(Status {
                view: View(0),
                active: true,
                suspects: false,
                view_changes: 0,
                stable,
                committed,
                slots,
            })
        }),
        numbers().prop_map(|target| Message::StateWanted(SequenceNumber(target))),
        (numbers(), any::<u32>()).prop_map(|(sequence, index)| Message::FetchState(FetchState {
            sequence: SequenceNumber(sequence),
            index
        })),
        (numbers(), 0..3u32, 0..3u32).prop_map(|(sequence, index, count)| {
            Message::StateChunk(StateChunk { sequence: SequenceNumber(sequence), index, count, bytes: Bytes::new() })
        }),
        Just(Message::Forward(table(&[(0, u64::MAX), (99, 1), (100, 0), (u32::MAX, u64::MAX)]))),
    ]
}

proptest! {
    /// More than f replicas may lie here, so nothing is promised but this: a replica refuses what makes no sense, and
    /// stands.
    #[test]
    fn nothing_that_a_peer_says_brings_a_replica_down(
        own in 0..4u16,
        said in prop::collection::vec((0..5u16, messages(), any::<bool>(), any::<bool>()), 0..200),
    ) {
        let mut replica = Replica::new(4, own);
        let mut executed = 0;
        for (sender, message, authentic, late) in said {
            let mut outputs = replica.hear_as(sender, message, authentic);
            if late {
                outputs.extend(replica.requests(&[(3, executed + 1), (4, u64::MAX)]));
                outputs.extend(replica.ticks(9));
            }
            while let Some((sequence, _)) = executions(&outputs).first().copied() {
                prop_assert_eq!(sequence, executed + 1);
                executed = sequence;
                outputs.extend(replica.step(Input::Executed(SequenceNumber(sequence))));
                if sequence.is_multiple_of(INTERVAL) {
                    outputs.extend(replica.step(Input::CheckpointTaken(SequenceNumber(sequence), Digest([1; 32]))));
                }
                outputs.retain(|output| !matches!(output, Output::Execute(done) if done.sequence.0 <= executed));
            }
            // The laggard's side: whatever is asked for comes, and every other state is the right one.
            let mut asked: VecDeque<Output> = outputs.into();
            while let Some(output) = asked.pop_front() {
                match output {
                    Output::Send(to, message) => {
                        let Message::FetchState(FetchState { sequence, index }) = *message else { continue };
                        let chunk = StateChunk { sequence, index, count: 3, bytes: Bytes::new() };
                        asked.extend(replica.hear(to.0, Message::StateChunk(chunk)));
                    }
                    Output::InstallState { sequence, .. } => {
                        prop_assert!(sequence.0 > executed);
                        asked.extend(replica.step(Input::StateInstalled { sequence, good: late }));
                        executed = if late { sequence.0 } else { executed };
                    }
                    Output::Execute(done) => {
                        prop_assert_eq!(done.sequence.0, executed + 1);
                        executed = done.sequence.0;
                        asked.extend(replica.step(Input::Executed(done.sequence)));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Whoever is the primary falls silent, again and again, up to f at a time: view after view, and nothing is lost.
#[test]
fn silent_primaries_are_replaced_one_after_another() {
    let mut views = 0;
    for seed in 0..60 {
        let n = SIZES[usize::try_from(seed).unwrap() % SIZES.len()];
        let mut cluster = Cluster::new(n, 6, 40, any_batching(seed), seed);
        let f = cluster.f();
        cluster.network.loss_percent = cluster.random(10);
        let rounds = 1 + cluster.random(4);
        for _ in 0..rounds {
            cluster.run(cluster.now.after(5 * STATUS_NS));
            cluster.silent.fill(false);
            let view = cluster.highest_view();
            // The primary and those that come after it.
            for next in 0..f as u64 {
                cluster.silent[usize::from(View(view.0 + next).primary(n).0)] = true;
            }
            cluster.run(cluster.now.after(10 * super::VIEW_TIMEOUT_NS));
            cluster.check();
        }
        cluster.network = Network::CALM;
        let settled = cluster.settle(cluster.now.after(20 * SECOND));
        cluster.check();
        assert!(settled, "seed {seed}, n {n}: {} operations completed, {:?}", cluster.completed, cluster.positions());
        cluster.silent.fill(false);
        let settled = cluster.settle(cluster.now.after(20 * SECOND));
        assert!(settled, "seed {seed}, n {n}: laggards, {:?}", cluster.positions());
        views += cluster.highest_view().0;
    }
    assert!(views > 120, "{views} view changes: too few for a test of them");
}

/// The canary: a silent primary stops a cluster whose backups can not reach each other, and one with more than f down.
#[test]
fn without_a_quorum_no_view_starts() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(4, 6, 40, any_batching(seed), seed);
        cluster.run(cluster.now.after(2 * STATUS_NS));
        cluster.silent[0] = true;
        cluster.silent[1] = true;
        cluster.run(cluster.now.after(20 * STATUS_NS));
        let before = cluster.completed;
        assert!(!cluster.settle(cluster.now.after(SECOND)));
        assert_eq!(cluster.completed, before);
        cluster.silent.fill(false);
        assert!(cluster.settle(cluster.now.after(20 * SECOND)), "seed {seed}: {:?}", cluster.positions());
        cluster.check();
    }
}
