//! Requests that clients send to all replicas, and pre-prepares that name them by their digests.

use super::*;
use crate::limits::{ANSWER_BYTES_MAX, OPERATIONS_BYTES_MAX};
use crate::protocol::message::{DigestPrePrepare, SlotStatus};
use crate::requests::Manifest;

/// Bodies are waited for an eighth of a status interval, before anything is known of how long they take.
const PATIENCE_NS: u64 = STATUS_NS / 8;

fn digest_config(own: u16) -> Config {
    let batching = batching("adaptive:8,8");
    Config { dissemination: Dissemination::Digest, batching, ..config(4, own) }
}

fn replica(own: u16) -> Replica {
    Replica::with(digest_config(own))
}

fn by_digests(sequence: u64, batch: &Batch) -> Message {
    by_manifest(sequence, Manifest::of(batch))
}

fn by_manifest(sequence: u64, manifest: Manifest) -> Message {
    let (view, sequence) = (View(0), SequenceNumber(sequence));
    Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest: Arc::new(manifest) })
}

fn bodies_timer(due: Time) -> Output {
    Output::SetTimer(Timer::Bodies, due)
}

/// A backup's status: what is announced at sequence number 1 lacks its bodies.
fn lacks_bodies() -> Status {
    let slot = SlotStatus { announced: true, ..SlotStatus::default() };
    Status { view: View(0), active: true, slots: vec![slot], ..Status::default() }
}

fn without_proofs(batch: &Batch) -> Arc<Batch> {
    Batch::new(RequestTable { proofs: Proofs::None, ..batch.requests.clone() })
}

#[test]
fn the_primary_proposes_digests() {
    let mut primary = replica(0);
    let batch = batch(&[(1, 1), (2, 1)]);
    assert_eq!(primary.requests(&[(1, 1), (2, 1)]), [broadcast(by_digests(1, &batch))]);
    assert_eq!(primary.requests(&[(1, 1)]), [Output::Recall(table(&[(1, 1)]))], "it is under way");
}

#[test]
fn a_backup_prepares_what_it_has_all_bodies_of_whichever_comes_first() {
    let batch = batch(&[(1, 1), (2, 1)]);
    let prepared = || broadcast(prepare(1, &batch));
    let mut before = replica(1);
    assert_eq!(before.requests(&[(1, 1)]), [], "neither recalled, nor awaited, nor passed on");
    assert_eq!(before.requests(&[(2, 1)]), []);
    assert_eq!(before.hear(0, by_digests(1, &batch)), [prepared()]);
    let mut after = replica(1);
    assert_eq!(after.requests(&[(1, 1)]), []);
    assert_eq!(after.hear(0, by_digests(1, &batch)), [bodies_timer(Time(1 + PATIENCE_NS))]);
    assert_eq!(after.requests(&[(2, 1)]), [prepared()]);
    assert_eq!(after.hear(0, by_digests(1, &batch)), ignored(Ignored::DuplicatePrePrepare));
    // The batch that it executes is the one whose digest was agreed on.
    after.hear(2, prepare(1, &batch));
    let mut outputs = after.hear(2, commit(1, &batch));
    outputs.extend(after.hear(0, commit(1, &batch)));
    assert_eq!(executions(&outputs), [(1, batch.digest)]);
    let Some(Output::Execute(execution)) = outputs.iter().find(|output| matches!(output, Output::Execute(_))) else {
        panic!("{outputs:?}")
    };
    assert_eq!(execution.batch, without_proofs(&batch));
}

#[test]
fn no_vote_is_cast_without_the_bodies_however_many_others_have_prepared() {
    let mut backup = replica(1);
    let batch = batch(&[(1, 1)]);
    backup.hear(0, by_digests(1, &batch));
    for sender in [2, 3] {
        assert_eq!(backup.hear(sender, prepare(1, &batch)), []);
        assert_eq!(backup.hear(sender, commit(1, &batch)), []);
    }
    assert_eq!(backup.hear(0, commit(1, &batch)), [], "it is decided, and can not be executed");
    let outputs = backup.requests(&[(1, 1)]);
    assert_eq!(executions(&outputs), [(1, batch.digest)]);
    assert!(outputs.contains(&broadcast(prepare(1, &batch))), "{outputs:?}");
}

#[test]
fn another_operation_of_the_same_client_and_timestamp_is_not_taken_for_it() {
    let mut backup = replica(1);
    let agreed = batch(&[(1, 1)]);
    let mut other = table(&[(1, 1)]).as_ref().clone();
    other.operations = vec![8; 4].into();
    other.digests = vec![Digest([8; 32])];
    assert_eq!(backup.step(Input::Requests(Arc::new(other))), []);
    assert_eq!(backup.hear(0, by_digests(1, &agreed)), [bodies_timer(Time(1 + PATIENCE_NS))]);
    assert_eq!(backup.hear(0, pre_prepare(1, &agreed)), [broadcast(prepare(1, &agreed))], "the right one is fetched");
}

#[test]
fn missing_bodies_are_asked_for_once_of_the_primary() {
    let mut backup = replica(1);
    let batch = batch(&[(1, 1)]);
    backup.hear(0, by_digests(1, &batch));
    backup.now = Time(1 + PATIENCE_NS);
    assert_eq!(backup.step(Input::Timer(Timer::Bodies)), [send(0, Message::Status(lacks_bodies()))]);
    backup.now = Time(1 + 5 * PATIENCE_NS);
    assert_eq!(backup.step(Input::Timer(Timer::Bodies)), [], "after that the status exchange has to do");
    // Whoever has its bodies in time asks nobody.
    let mut quick = replica(1);
    quick.hear(0, by_digests(1, &batch));
    quick.requests(&[(1, 1)]);
    quick.now = Time(1 + PATIENCE_NS);
    assert_eq!(quick.step(Input::Timer(Timer::Bodies)), []);
}

#[test]
fn patience_grows_where_bodies_come_late_and_has_an_end() {
    let mut backup = replica(1);
    let mut patience = |sequence: u64, late: bool| {
        let batch = batch(&[(u32::try_from(sequence).unwrap(), 1)]);
        let outputs = backup.hear(0, by_digests(sequence, &batch));
        let [Output::SetTimer(Timer::Bodies, due)] = outputs[..] else { panic!("{outputs:?}") };
        let patience = due.since(backup.now);
        backup.now = due;
        assert_eq!(backup.step(Input::Timer(Timer::Bodies)).len(), 1, "it asks");
        backup.now = backup.now.after(patience);
        if late {
            // It was fetched, and decided by others, before its client's frame came.
            backup.execute(sequence, &batch);
            assert_eq!(backup.requests(&[(u32::try_from(sequence).unwrap(), 1)]), [], "and needs no answer");
        } else {
            let outputs = backup.requests(&[(u32::try_from(sequence).unwrap(), 1)]);
            assert!(outputs.contains(&broadcast(prepare(sequence, &batch))), "{outputs:?}");
        }
        patience
    };
    let grown = [(1, true), (2, true), (3, false), (4, false)].map(|(sequence, late)| patience(sequence, late));
    assert!(grown[0] == PATIENCE_NS && grown.is_sorted_by(|one, next| one < next), "{grown:?}");
    let rest: Vec<u64> = (5..=WINDOW).map(|sequence| patience(sequence, false)).collect();
    assert!(rest.iter().all(|patience| *patience <= STATUS_NS / 2), "{rest:?}");
}

#[test]
fn the_primary_supplies_each_batch_once_to_each_backup() {
    let mut primary = replica(0);
    let batch = batch(&[(1, 1)]);
    primary.requests(&[(1, 1)]);
    let supplied = || [send(1, pre_prepare(1, &batch))];
    assert_eq!(primary.hear(1, Message::Status(lacks_bodies())), supplied());
    assert_eq!(primary.hear(2, Message::Status(lacks_bodies())), [send(2, pre_prepare(1, &batch))]);
    assert_eq!(primary.hear(1, Message::Status(lacks_bodies())), [], "it may be on its way");
    primary.now = primary.now.after(STATUS_NS);
    assert_eq!(primary.hear(1, Message::Status(lacks_bodies())), supplied(), "it got lost, as anything may");
    let elsewhere = Status { view: View(4), ..lacks_bodies() };
    assert_eq!(primary.hear(3, Message::Status(elsewhere)), [], "of another view");
    let beyond = Status { committed: SequenceNumber(u64::MAX), ..lacks_bodies() };
    assert_eq!(primary.hear(3, Message::Status(beyond)), []);
}

#[test]
fn whoever_is_supplied_gets_the_other_repairs_too_and_nothing_twice() {
    let mut primary = replica(0);
    let batches = [1, 2].map(|client| batch(&[(client, 1)]));
    primary.requests(&[(1, 1)]);
    primary.requests(&[(2, 1)]);
    for sender in [2, 3] {
        primary.hear(sender, prepare(1, &batches[0]));
    }
    // Replica 1 has the first batch and no commit of it; soon it lacks the bodies of the second.
    let has_first = SlotStatus { pre_prepared: true, ..SlotStatus::default() };
    let lacks_second = SlotStatus { announced: true, ..SlotStatus::default() };
    let status = |slots: &[SlotStatus]| Message::Status(Status { slots: slots.to_vec(), ..lacks_bodies() });
    assert_eq!(primary.hear(1, status(&[has_first])), [], "it may be on its way");
    primary.now = primary.now.after(STATUS_NS);
    let outputs = primary.hear(1, status(&[has_first, lacks_second]));
    assert_eq!(outputs, [send(1, pre_prepare(2, &batches[1])), send(1, commit(1, &batches[0]))]);
}

#[test]
fn what_does_not_fit_into_one_supply_comes_with_the_next_and_what_is_on_its_way_not_again() {
    let mut primary = replica(0);
    let tables = [1, 2].map(|client| sized_table(&[(client, 1)], ANSWER_BYTES_MAX / 5 * 3));
    for table in &tables {
        primary.step(Input::Requests(Arc::clone(table)));
    }
    // Not the messages, which are megabytes to read where one is wrong.
    let supplied = |outputs: Vec<Output>| -> Vec<SequenceNumber> {
        let pre_prepare = |output| match output {
            Output::Send(ReplicaId(1), message) => match &*message {
                Message::PrePrepare(message) => message.sequence,
                _ => panic!("no pre-prepare"),
            },
            _ => panic!("not to replica 1"),
        };
        outputs.into_iter().map(pre_prepare).collect()
    };
    let lacks_both = Status { slots: vec![lacks_bodies().slots[0]; 2], ..lacks_bodies() };
    for expected in [vec![SequenceNumber(1)], vec![SequenceNumber(2)], Vec::new()] {
        assert_eq!(supplied(primary.hear(1, Message::Status(lacks_both.clone()))), expected);
        primary.now = primary.now.after(STATUS_NS / 8);
    }
}

#[test]
fn what_did_not_fit_into_the_first_supply_is_asked_for_after_it() {
    let mut backup = replica(1);
    let batches = [1, 2].map(|client| batch(&[(client, 1)]));
    for (sequence, batch) in (1..).zip(&batches) {
        backup.hear(0, by_digests(sequence, batch));
    }
    backup.now = Time(1 + PATIENCE_NS);
    assert_eq!(backup.step(Input::Timer(Timer::Bodies)).len(), 1, "it asks for both");
    let outputs = backup.hear(0, pre_prepare(1, &batches[0]));
    let due = backup.now.after(PATIENCE_NS);
    assert_eq!(outputs, [broadcast(prepare(1, &batches[0])), bodies_timer(due)], "the other may be on its way");
    backup.now = due;
    let outputs = backup.step(Input::Timer(Timer::Bodies));
    let [Output::Send(ReplicaId(0), message)] = &outputs[..] else { panic!("{outputs:?}") };
    let Message::Status(status) = &**message else { panic!("{message:?}") };
    assert_eq!([0, 1].map(|index| status.slots[index].announced), [false, true]);
    backup.now = backup.now.after(PATIENCE_NS);
    assert_eq!(backup.step(Input::Timer(Timer::Bodies)), [], "nothing has come since");
    assert_eq!(backup.hear(0, pre_prepare(2, &batches[1])), [broadcast(prepare(2, &batches[1]))]);
}

#[test]
fn whoever_has_all_the_bodies_needs_no_proofs_of_a_primary_that_was_started_anew() {
    let mut backup = replica(1);
    let batch = batch(&[(1, 1), (2, 1)]);
    backup.requests(&[(1, 1), (2, 1)]);
    assert_eq!(backup.hear_as(0, pre_prepare(1, &batch), false), [broadcast(prepare(1, &batch))]);
    // Or when they come, which nobody is asked for again.
    let mut backup = replica(1);
    backup.requests(&[(1, 1)]);
    assert_eq!(backup.hear_as(0, pre_prepare(1, &batch), false), []);
    backup.now = backup.now.after(STATUS_NS);
    assert_eq!(backup.step(Input::Timer(Timer::Bodies)), [], "the primary has shown what it has");
    assert_eq!(backup.requests(&[(2, 1)]), [broadcast(prepare(1, &batch))]);
    // What has proven itself is another operation: it proves nothing of this one.
    let mut backup = replica(1);
    let mut other = table(&[(1, 1), (2, 1)]).as_ref().clone();
    other.operations = vec![8; 8].into();
    other.digests = vec![Digest([8; 32]); 2];
    backup.step(Input::Requests(Arc::new(other)));
    assert_eq!(backup.hear_as(0, pre_prepare(1, &batch), false), []);
    assert_eq!(backup.hear(2, prepare(1, &batch)), [broadcast(prepare(1, &batch)), broadcast(commit(1, &batch))]);
}

#[test]
fn what_the_primary_keeps_to_itself_others_bring_and_others_vouch_for() {
    // The primary has shown the bodies to replica 2 alone.
    let batch = batch(&[(1, 1)]);
    let mut other = replica(2);
    other.hear(0, by_digests(1, &batch));
    assert_eq!(other.hear(0, pre_prepare(1, &batch)), [broadcast(prepare(1, &batch))]);
    let mut brought = Vec::new();
    for _ in 0..5 {
        other.now = other.now.after(STATUS_NS);
        brought.extend(other.hear(1, Message::Status(lacks_bodies())));
    }
    assert!(brought.contains(&send(1, body(1, &batch))), "{brought:?}");

    let mut backup = replica(1);
    backup.hear(0, by_digests(1, &batch));
    assert_eq!(backup.hear(2, body(1, &batch)), [], "the requests do not prove themselves");
    assert_eq!(backup.hear(2, prepare(1, &batch)), [broadcast(prepare(1, &batch)), broadcast(commit(1, &batch))]);
    // Or when their clients have sent them after all.
    let mut backup = replica(1);
    backup.hear(0, by_digests(1, &batch));
    backup.hear(2, body(1, &batch));
    assert_eq!(backup.requests(&[(1, 1)]), [broadcast(prepare(1, &batch))]);
    // Another batch than the announced one is of no use.
    let mut backup = replica(1);
    backup.hear(0, by_digests(1, &batch));
    assert_eq!(backup.hear(2, body(1, &super::batch(&[(2, 1)]))), ignored(Ignored::UnwantedBody));
}

#[test]
fn requests_that_prove_themselves_to_some_only_wait_for_vouchers_and_are_held_against_their_client() {
    // Client 0 has not proven itself here, so its request never got to this core.
    let mut backup = replica(1);
    let mut requests = table(&[(0, 1), (1, 1)]).as_ref().clone();
    requests.proofs = Proofs::Tags { columns: 1, bytes: vec![0; 32].into() };
    let batch = Batch::new(requests);
    backup.requests(&[(1, 1)]);
    backup.hear(0, by_digests(1, &batch));
    assert_eq!(backup.hear_as(0, pre_prepare(1, &batch), false), []);
    let mut stopped = replica(1);
    stopped.hear(0, by_digests(1, &batch));
    stopped.hear_as(0, pre_prepare(1, &batch), false);
    stopped.end_view();
    let accused = [0, 1].map(|client| stopped.core.suspicion.accusers.is_accused(client));
    assert_eq!(accused, [true, false]);
    assert_eq!(backup.hear(2, prepare(1, &batch)), [broadcast(prepare(1, &batch)), broadcast(commit(1, &batch))]);
}

#[test]
fn a_body_that_a_replica_brings_early_keeps_nobody_from_the_proofs_of_its_requests() {
    // The client has sent its request to the primary, and its body to replica 3, which brings it and never prepares.
    let batch = batch(&[(1, 1)]);
    let mut primary = replica(0);
    primary.requests(&[(1, 1)]);
    let mut backup = replica(1);
    backup.hear(0, by_digests(1, &batch));
    assert_eq!(backup.hear(3, body(1, &batch)), []);
    assert_eq!(backup.hear(3, body(1, &batch)), ignored(Ignored::UnwantedBody), "once is enough");
    backup.now = Time(1 + PATIENCE_NS);
    let asked = Message::Status(lacks_bodies());
    assert_eq!(backup.step(Input::Timer(Timer::Bodies)), [send(0, asked.clone())]);
    assert_eq!(primary.hear(1, asked), [send(1, pre_prepare(1, &batch))]);
    assert_eq!(backup.hear(0, pre_prepare(1, &batch)), [broadcast(prepare(1, &batch))]);
}

#[test]
fn a_body_that_a_replica_brings_early_shields_no_client_whose_proofs_do_not_hold() {
    let mut requests = table(&[(0, 1), (1, 1)]).as_ref().clone();
    requests.proofs = Proofs::Tags { columns: 1, bytes: vec![0; 32].into() };
    let batch = Batch::new(requests);
    let mut backup = replica(1);
    backup.requests(&[(1, 1)]);
    backup.hear(0, by_digests(1, &batch));
    assert_eq!(backup.hear(3, body(1, &batch)), []);
    assert_eq!(backup.hear_as(0, pre_prepare(1, &batch), false), []);
    let again = backup.hear_as(0, pre_prepare(1, &batch), false);
    assert_eq!(again, ignored(Ignored::DuplicatePrePrepare), "it has said all it has to say");
    backup.end_view();
    let accused = [0, 1].map(|client| backup.core.suspicion.accusers.is_accused(client));
    assert_eq!(accused, [true, false]);
}

#[test]
fn a_primary_that_announces_what_nobody_has_is_replaced_and_the_next_one_proposes_what_it_has() {
    let mut backup = replica(1);
    backup.requests(&[(2, 1), (3, 1)]);
    let invented = batch(&[(9, 9)]);
    backup.hear(0, by_digests(1, &invented));
    backup.end_view();
    assert_eq!(backup.core.view, View(1));
    let mut told = backup.core.own_view_change();
    assert!(told.prepared.is_empty() && told.pre_prepared.is_empty(), "nothing was voted for");
    for replica in [0, 2] {
        told.replica = ReplicaId(replica);
        let signed = Signed { content: Arc::new(told.clone()), signature: Some([0; 64]) };
        let outputs = backup.hear(replica, Message::ViewChange(signed));
        if backup.core.position().active {
            let (view, sequence) = (View(1), SequenceNumber(1));
            let manifest = Arc::new(Manifest::of(&batch(&[(2, 1), (3, 1)])));
            let proposal = Message::DigestPrePrepare(DigestPrePrepare { view, sequence, manifest });
            assert!(outputs.contains(&broadcast(proposal)), "{outputs:?}");
        }
    }
    assert!(backup.core.position().active);
}

#[test]
fn a_second_assignment_a_foreign_one_and_one_that_is_too_long_are_refused_and_held_against_the_primary() {
    let (one, other) = (batch(&[(1, 1)]), batch(&[(2, 1)]));
    let mut backup = replica(1);
    assert_eq!(backup.hear(2, by_digests(1, &one)), ignored(Ignored::NotFromPrimary));
    assert_eq!(backup.hear(0, by_digests(WINDOW * 3, &one)), ignored(Ignored::AboveHighWatermark));
    backup.hear(0, by_digests(1, &one));
    let outputs = backup.hear(0, by_digests(1, &other));
    assert!(outputs.iter().any(says_to_suspect) && outputs.contains(&Output::Ignored(Ignored::ConflictingPrePrepare)));
    let mut backup = replica(1);
    backup.hear(0, by_digests(1, &one));
    let outputs = backup.hear(0, pre_prepare(1, &other));
    assert!(outputs.iter().any(says_to_suspect) && outputs.contains(&Output::Ignored(Ignored::ConflictingPrePrepare)));

    let mut backup = replica(1);
    let half = OPERATIONS_BYTES_MAX / 2;
    let large = [(1, 1), (2, 1), (3, 1)];
    for request in large {
        backup.step(Input::Requests(sized_table(&[request], half)));
    }
    let digests = Batch::new(sized_table(&large, 1).as_ref().clone());
    let outputs = backup.hear(0, by_digests(1, &digests));
    assert!(outputs.iter().any(says_to_suspect) && !outputs.contains(&broadcast(prepare(1, &digests))), "{outputs:?}");

    let mut inline = Replica::new(4, 1);
    let outputs = inline.hear(0, by_digests(1, &one));
    assert!(outputs.iter().any(says_to_suspect) && outputs.contains(&Output::Ignored(Ignored::UnexpectedDigests)));
}

#[test]
fn a_request_that_comes_again_is_recalled_awaited_and_passed_on() {
    let mut backup = replica(1);
    assert_eq!(backup.requests(&[(1, 1)]), []);
    assert_eq!(backup.requests(&[(1, 1)]), [Output::Recall(table(&[(1, 1)]))]);
    let forwarded = send(0, Message::Forward(table(&[(1, 1)])));
    assert_eq!(backup.step(Input::NotExecuted(table(&[(1, 1)]))), [forwarded]);
    assert!(backup.view_timer.is_some(), "the primary has its time for it");
    assert_eq!(backup.requests(&[(1, 1), (2, 1)]), [Output::Recall(table(&[(1, 1)]))], "only what came again");
}

#[test]
fn early_and_passed_announcements_are_kept_and_forgotten_like_others() {
    let mut backup = replica(1);
    let batches: Vec<Arc<Batch>> =
        (1..=WINDOW + 1).map(|number| batch(&[(u32::try_from(number).unwrap(), 1)])).collect();
    // One above the high watermark waits until that rises.
    assert_eq!(backup.hear(0, by_digests(WINDOW + 1, &batches[usize::try_from(WINDOW).unwrap()])), []);
    backup.hear(0, by_digests(1, &batches[0]));
    for (sequence, batch) in (1..=INTERVAL).zip(&batches) {
        backup.execute(sequence, batch);
    }
    for sender in [0, 2, 3] {
        backup.hear(sender, checkpoint(INTERVAL, 1));
    }
    backup.requests(&[(u32::try_from(WINDOW + 1).unwrap(), 1)]);
    let outputs = backup.step(Input::CheckpointTaken(SequenceNumber(INTERVAL), Digest([1; 32])));
    assert_eq!(backup.core.position().stable_checkpoint, SequenceNumber(INTERVAL));
    let early = prepare(WINDOW + 1, &batches[usize::try_from(WINDOW).unwrap()]);
    assert!(outputs.contains(&broadcast(early)), "{outputs:?}");
    backup.now = backup.now.after(STATUS_NS);
    assert_eq!(backup.step(Input::Timer(Timer::Bodies)), [], "what was decided in another way is not asked for");
}

#[test]
fn a_restarted_backup_has_voted_for_nothing_that_it_lacked() {
    let mut outputs = Vec::new();
    let config = Config { durable: true, ..digest_config(1) };
    let mut backup = Replica { core: Pbft::new(config, Time(0), &mut outputs), now: Time(1), view_timer: None };
    let batch = batch(&[(1, 1)]);
    let outputs = backup.hear(0, by_digests(1, &batch));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Persist(_))), "{outputs:?}");
    let outputs = backup.requests(&[(1, 1)]);
    let [Output::Persist(crate::protocol::Record::PrePrepared(record)), prepared] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*prepared, broadcast(prepare(1, &batch)));
    assert_eq!(record.batch.requests.operations, batch.requests.operations, "the body is in the log");
}
