use super::*;

/// An operation of client 3 that replica 2 answers first and replica 0, its primary, last. Every part that there can be
/// takes twice as long as the one before.
fn operation() -> Operation {
    Operation {
        client: 3,
        timestamp: 9,
        intended: 1000,
        begun: 1001,
        handed: 1003,
        read: 1000 + 8191,
        counted: 1000 + 16_383,
        completed: 1000 + 32_767,
        first_replica: 2,
        last_replica: 0,
        sent_again: false,
    }
}

fn execution(pre_prepared: u64, times: [u64; 5]) -> Execution {
    let [prepared, committed, durable, started, executed] = times.map(|at| at + 1000);
    let durable = Some(durable);
    let (client, timestamp, sequence, view) = (3, 9, 77, 4);
    Execution { client, timestamp, sequence, view, pre_prepared, prepared, committed, durable, started, executed }
}

fn witnesses() -> Vec<Witness> {
    let request = Request { client: 3, timestamp: 9, received: 1007, started: 1015, verified: 1031 };
    let reply = Reply { client: 3, timestamp: 9, sealed: 1000 + 4095 };
    vec![
        Witness {
            replica: 0,
            requests: vec![request],
            executions: vec![execution(1063, [5000, 5001, 5002, 5003, 5004])],
            replies: vec![Reply { sealed: 9000, ..reply }],
        },
        Witness {
            replica: 2,
            requests: Vec::new(),
            executions: vec![execution(1100, [127, 255, 511, 1023, 2047])],
            replies: vec![reply],
        },
    ]
}

fn followed(operation: &Operation, witnesses: &[Witness], shared_clock: bool) -> Sample {
    let samples = join(std::slice::from_ref(operation), witnesses, 4, 900, shared_clock);
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].parts.iter().sum::<u64>(), samples[0].latency_ns, "parts add up");
    samples[0]
}

/// The parts that took any time.
fn spent(sample: &Sample) -> Vec<(Part, u64)> {
    Part::ALL.into_iter().map(|part| (part, sample.part(part))).filter(|(_, ns)| *ns > 0).collect()
}

#[test]
fn every_part_of_the_path_is_told() {
    let sample = followed(&operation(), &witnesses(), true);
    let expected: Vec<(Part, u64)> = Part::ALL[..15].iter().enumerate().map(|(at, part)| (*part, 1 << at)).collect();
    assert_eq!(spent(&sample), expected);
    assert_eq!((sample.latency_ns, sample.completed_ns), (32_767, 32_867));
    assert_eq!((sample.sequence, sample.primary, sample.first_replica, sample.last_replica), (Some(77), Some(0), 2, 0));
}

#[test]
fn without_a_log_nothing_waits_for_it() {
    let mut witnesses = witnesses();
    witnesses[1].executions[0].durable = None;
    let sample = followed(&operation(), &witnesses, true);
    assert_eq!((sample.part(Part::Persist), sample.part(Part::ExecuteWait)), (0, 256 + 512));
    assert_eq!(sample.part(Part::Unattributed), 0);
}

#[test]
fn what_was_not_noted_is_unattributed_and_nothing_else() {
    let mut missing = witnesses();
    missing[0].requests.clear();
    let sample = followed(&operation(), &missing, true);
    // From the client's frame leaving to the pre-prepare.
    assert_eq!(sample.part(Part::Unattributed), 4 + 8 + 16 + 32);
    assert_eq!((sample.part(Part::ClientSend), sample.part(Part::Prepare)), (2, 64));

    // The primary is gone: neither what it was sent nor when it proposed is known, but the batch at replica 2 is.
    let sample = followed(&operation(), &witnesses()[1..], true);
    assert_eq!(sample.part(Part::Unattributed), 4 + 8 + 16 + 32 + 64);
    assert_eq!((sample.primary, sample.part(Part::Commit)), (Some(0), 128));

    // Nobody is left but the client.
    let sample = followed(&operation(), &[], true);
    let expected = [(Part::ClientWait, 1), (Part::ClientSend, 2), (Part::ClientReceive, 1 << 13)];
    let rest = [(Part::QuorumWait, 1 << 14), (Part::Unattributed, 8191 - 3)];
    assert_eq!(spent(&sample), [&expected[..], &rest].concat());
    assert_eq!((sample.sequence, sample.primary), (None, None));
}

#[test]
fn a_point_out_of_order_leaves_a_gap() {
    for wrong in [1062, 1000 + 40_000] {
        let mut witnesses = witnesses();
        witnesses[1].executions[0].prepared = wrong;
        let sample = followed(&operation(), &witnesses, true);
        assert_eq!(sample.part(Part::Unattributed), 64 + 128, "prepared at {wrong}");
        assert_eq!((sample.part(Part::OrderWait), sample.part(Part::Persist)), (32, 256));
    }
}

#[test]
fn a_request_that_came_to_another_replica_is_followed_from_there() {
    let mut witnesses = witnesses();
    let request = witnesses[0].requests[0];
    witnesses[0].requests.clear();
    witnesses[1].requests = vec![Request { received: 1009, ..request }, request];
    let sample = followed(&operation(), &witnesses, true);
    assert_eq!((sample.part(Part::RequestNetwork), sample.part(Part::Unattributed)), (4, 0));
}

#[test]
fn what_came_again_counts_when_it_came_first() {
    let mut twice = witnesses();
    let (request, done, reply) = (twice[0].requests[0], twice[1].executions[0], twice[1].replies[0]);
    twice[0].requests.insert(0, Request { received: 7000, started: 7001, verified: 7002, ..request });
    twice[1].executions.insert(0, Execution { started: 8000, executed: 8001, ..done });
    twice[1].replies.push(Reply { sealed: 8002, ..reply });
    assert_eq!(followed(&operation(), &twice, true), followed(&operation(), &witnesses(), true));
}

/// Replicas' clocks that are far ahead make no difference where they are not compared with the client's.
#[test]
fn without_a_common_clock_only_processes_are_told_apart() {
    let mut witnesses = witnesses();
    for (witness, by) in witnesses.iter_mut().zip([1 << 40, 1 << 41]) {
        for request in &mut witness.requests {
            for at in [&mut request.received, &mut request.started, &mut request.verified] {
                *at += by;
            }
        }
        for done in &mut witness.executions {
            let Execution { pre_prepared, prepared, committed, durable, started, executed, .. } = done;
            for at in [pre_prepared, prepared, committed, durable.as_mut().unwrap(), started, executed] {
                *at += by;
            }
        }
        witness.replies.iter_mut().for_each(|reply| reply.sealed += by);
    }
    let sample = followed(&operation(), &witnesses, false);
    // Replica 2 accepted the pre-prepare at 100 and had prepared at 127.
    assert_eq!((sample.part(Part::Prepare), sample.part(Part::Commit), sample.part(Part::ReplyWait)), (27, 128, 2048));
    assert_eq!((sample.part(Part::OrderWait), sample.part(Part::QuorumWait)), (32, 1 << 14));
    // Of the pieces that cross from one process to another: 4 to the primary, 37 of the way to prepared, 4096 back.
    assert_eq!((sample.part(Part::Network), sample.part(Part::Unattributed)), (4 + 37 + 4096, 0));
    assert_eq!((sample.part(Part::RequestNetwork), sample.part(Part::ReplyNetwork)), (0, 0));

    witnesses[0].requests.clear();
    let sample = followed(&operation(), &witnesses, false);
    assert_eq!((sample.part(Part::Network), sample.part(Part::Unattributed)), (0, 8191 - 3));
}
