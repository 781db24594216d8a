use proptest::prelude::*;

use super::*;
use crate::types::{ClientId, Timestamp};
use crate::wire::batch_digest;

const WINDOW: u64 = 8;
const PRIMARY: ReplicaId = ReplicaId(0);
const PAUSE_NS: u64 = 100;

fn batches(n: usize, needed: usize) -> Batches {
    Batches::new(n, needed, WINDOW)
}

/// What a batch gives; `lie` tells lies from it, and from each other.
fn replies(sequence: u64, lie: u8) -> ReplyTable {
    let results: &[u8] = if lie == 0 { b"ok" } else { &[lie] };
    ReplyTable {
        clients: vec![ClientId(1), ClientId(2)],
        timestamps: vec![Timestamp(sequence); 2],
        result_ends: vec![0, u32::try_from(results.len()).unwrap()],
        results: results.to_vec().into(),
        digested: Vec::new(),
    }
}

fn say(replica: u16, sequence: u64, lie: u8, whole: bool, at: u64) -> BatchReply {
    let table = replies(sequence, lie);
    let digest = batch_digest(&table).unwrap();
    let heard = Heard { read: Time(at), counted: Time(at) };
    BatchReply {
        replica: ReplicaId(replica),
        sequence: SequenceNumber(sequence),
        digest,
        replies: whole.then_some(table),
        short: false,
        heard,
    }
}

impl Batches {
    fn whole(&mut self, replica: u16, sequence: u64) -> BatchOutcome {
        self.on_reply(say(replica, sequence, 0, true, 1), PRIMARY)
    }

    fn digest(&mut self, replica: u16, sequence: u64) -> BatchOutcome {
        self.on_reply(say(replica, sequence, 0, false, 1), PRIMARY)
    }
}

fn agreed(sequence: u64, voters: u64) -> BatchOutcome {
    BatchOutcome::Agreed { replies: replies(sequence, 0), voters }
}

#[test]
fn enough_equal_digests_and_the_replies_complete_a_batch() {
    for (n, needed) in [(4, 2), (4, 3), (7, 3)] {
        // The replies come first, in the middle, last.
        for whole in 0..needed {
            let mut batches = batches(n, needed);
            for replica in 0..needed {
                let outcome = batches.on_reply(say(replica as u16, 1, 0, replica == whole, 1), PRIMARY);
                let last = replica + 1 == needed;
                assert_eq!(outcome, if last { agreed(1, (1 << needed) - 1) } else { BatchOutcome::Counted });
            }
            assert_eq!(batches.digest(needed as u16, 1), BatchOutcome::Stale, "it is complete");
            assert_eq!(batches.wrong(), vec![0; n]);
        }
    }
}

#[test]
fn each_replica_has_one_word_for_each_batch() {
    let mut batches = batches(4, 2);
    assert_eq!(batches.digest(1, 1), BatchOutcome::Counted);
    assert_eq!(batches.digest(1, 1), BatchOutcome::Stale);
    assert_eq!(batches.whole(1, 1), BatchOutcome::Stale, "it has voted by digest");
    assert_eq!(batches.digest(9, 1), BatchOutcome::Stale, "there is no such replica");
    assert_eq!(batches.digest(2, 0), BatchOutcome::Stale, "there is no such batch");
    assert_eq!(batches.whole(2, 1), agreed(1, 0b0110));
}

#[test]
fn liars_are_outvoted_and_counted() {
    let mut batches = batches(4, 2);
    assert_eq!(batches.on_reply(say(3, 1, 7, true, 1), PRIMARY), BatchOutcome::Counted);
    assert_eq!(batches.digest(0, 1), BatchOutcome::Counted);
    assert_eq!(batches.whole(1, 1), agreed(1, 0b0011));
    assert_eq!(batches.wrong(), [0, 0, 0, 2], "two replies of it were wrong");
    // One that comes late is as wrong.
    assert_eq!(batches.on_reply(say(2, 1, 9, false, 1), PRIMARY), BatchOutcome::Stale);
    assert_eq!(batches.wrong(), [0, 0, 2, 2]);
}

#[test]
fn replies_that_do_not_come_are_missing_after_a_pause() {
    let mut batches = batches(4, 2);
    // Replica 1 is chosen.
    assert_eq!(batches.whole(1, 1), BatchOutcome::Counted);
    assert_eq!(batches.digest(2, 1), agreed(1, 0b0110));
    assert_eq!(batches.replier.designated(), Some(ReplicaId(1)));
    for replica in [2, 3] {
        assert_eq!(batches.on_reply(say(replica, 2, 0, false, 50), PRIMARY), BatchOutcome::Counted);
    }
    assert_eq!(batches.next_due(PAUSE_NS), Some(Time(150)));
    assert_eq!(batches.take_missing(Time(149), PAUSE_NS, PRIMARY), None);
    assert_eq!(batches.replier.designated(), Some(ReplicaId(1)));
    assert_eq!(batches.take_missing(Time(150), PAUSE_NS, PRIMARY), Some(Time(50)));
    assert_eq!(batches.replier.designated(), Some(ReplicaId(2)), "the next one that has voted");
    assert_eq!(
        (batches.take_missing(Time(500), PAUSE_NS, PRIMARY), batches.next_due(PAUSE_NS)),
        (None, None),
        "told once"
    );
    // They may still come.
    assert_eq!(batches.whole(1, 2), agreed(2, 0b1110));
}

/// Nor does it help a liar to be next, or the one before that time has passed and its place is taken.
#[test]
fn the_next_replier_is_one_that_has_voted() {
    let mut batches = batches(7, 3);
    for replica in [1, 2, 3] {
        batches.whole(replica, 1);
    }
    assert_eq!(batches.replier.designated(), Some(ReplicaId(1)));
    assert_eq!(batches.on_reply(say(4, 2, 7, false, 50), PRIMARY), BatchOutcome::Counted);
    for replica in [5, 6, 0] {
        assert_eq!(batches.on_reply(say(replica, 2, 0, false, 50), PRIMARY), BatchOutcome::Counted);
    }
    for sequence in 1..100 {
        batches.on_reply(say(5, 2 + 16 * sequence, 0, false, 60), PRIMARY);
    }
    assert_eq!(batches.take_missing(Time(150), PAUSE_NS, PRIMARY), Some(Time(50)));
    assert_eq!(batches.replier.designated(), Some(ReplicaId(5)), "4 lies");
    assert_eq!((batches.missing(), batches.replier_changes()), (1, 1));
}

/// Everybody sends those, so nobody is late with them, and nobody is told not to send them again.
#[test]
fn short_replies_say_nothing_of_who_should_send_replies() {
    let mut batches = batches(4, 2);
    let short = |replica, sequence| BatchReply { short: true, ..say(replica, sequence, 0, true, 1) };
    for sequence in 1..200 {
        assert_eq!(batches.on_reply(short(1, sequence), PRIMARY), BatchOutcome::Counted);
        assert_eq!(batches.on_reply(short(2, sequence), PRIMARY), agreed(sequence, 0b0110));
        assert_eq!(batches.on_reply(short(3, sequence), PRIMARY), BatchOutcome::Stale);
    }
    assert_eq!((batches.replier.designated(), batches.tell(Time(u64::MAX))), (None, None));
}

#[test]
fn replies_that_come_late_are_not_missing() {
    let mut batches = batches(4, 2);
    batches.digest(2, 1);
    batches.digest(3, 1);
    assert!(batches.next_due(PAUSE_NS).is_some());
    assert_eq!(batches.whole(0, 1), agreed(1, 0b1101));
    assert_eq!((batches.next_due(PAUSE_NS), batches.take_missing(Time(1000), PAUSE_NS, PRIMARY)), (None, None));
}

#[test]
fn whoever_runs_ahead_takes_nobody_elses_place() {
    let mut batches = batches(4, 2);
    assert_eq!(batches.whole(1, 1), BatchOutcome::Counted);
    for ahead in 1..1000 {
        batches.on_reply(say(3, ahead * 16 + 1, 7, true, 1), PRIMARY);
    }
    assert_eq!(batches.digest(3, 1), BatchOutcome::Stale, "it has said something of a later batch in its place");
    assert_eq!(batches.digest(2, 1), agreed(1, 0b0110));
    // What one replica says of batches that nobody else tells of keeps a bounded amount of memory.
    let kept = batches.said[3].ring.iter().filter(|word| word.replies.is_some()).count();
    assert_eq!(kept, 1, "all in one place");
}

#[test]
fn replies_that_wait_are_bounded_by_bytes_and_count_as_a_digest_beyond() {
    let mut batches = batches(4, 2);
    let long = |sequence: u64| {
        let results = vec![7; 5 << 20];
        ReplyTable { result_ends: vec![0, 5 << 20], results: results.into(), ..replies(sequence, 0) }
    };
    for sequence in 1..=5 {
        let table = long(sequence);
        let digest = Digest([u8::try_from(sequence).unwrap(); 32]);
        let reply = BatchReply { digest, replies: Some(table), ..say(1, sequence, 0, true, 1) };
        assert_eq!(batches.on_reply(reply, PRIMARY), BatchOutcome::Counted);
    }
    assert!(batches.said[1].waiting_bytes <= WAITING_BYTES_MAX);
    let vouch = |sequence: u64| BatchReply {
        digest: Digest([u8::try_from(sequence).unwrap(); 32]),
        ..say(2, sequence, 0, false, 1)
    };
    assert_eq!(batches.on_reply(vouch(1), PRIMARY), BatchOutcome::Counted, "it has waited longest");
    assert_eq!(batches.on_reply(vouch(2), PRIMARY), BatchOutcome::Counted);
    let designated = batches.replier.designated();
    assert_eq!(batches.take_missing(Time(1000), PAUSE_NS, PRIMARY), Some(Time(1)));
    assert_eq!((batches.replier.designated(), batches.missing()), (designated, 2), "that is not its fault");
    (3..=5).for_each(|sequence| {
        assert!(matches!(batches.on_reply(vouch(sequence), PRIMARY), BatchOutcome::Agreed { .. }), "{sequence}");
    });
    assert_eq!(batches.said[1].waiting_bytes, 0);
    // However short they are: each may keep all of what was read with it.
    for sequence in 10..1000 {
        batches.whole(1, sequence);
        let said = &batches.said[1];
        let kept = said.ring.iter().filter(|word| word.replies.is_some()).count();
        assert!(kept * READ_CHUNK_BYTES <= WAITING_BYTES_MAX && said.waiting.len() <= said.ring.len());
    }
}

#[test]
fn when_replicas_were_heard_is_known_for_a_while() {
    let mut batches = batches(4, 2);
    batches.on_reply(say(2, 3, 0, true, 11), PRIMARY);
    batches.on_reply(say(1, 3, 0, false, 12), PRIMARY);
    let at = |at| Heard { read: Time(at), counted: Time(at) };
    let both = [(ReplicaId(2), at(11)), (ReplicaId(1), at(12))];
    assert_eq!(batches.heard(0b0110, SequenceNumber(3)), both, "in the order in which they were heard");
    assert_eq!(batches.heard(0b1011, SequenceNumber(3)), both[1..], "others have said nothing");
    assert_eq!(batches.heard(0b1111, SequenceNumber(19)), [], "of a batch in the same place");
}

#[test]
fn a_planted_bug_believes_one_replica() {
    let mut batches = batches(4, 2);
    batches.plant(Some(Planted::BatchQuorumWeak));
    assert!(matches!(batches.on_reply(say(3, 1, 7, true, 1), PRIMARY), BatchOutcome::Agreed { .. }));
}

proptest! {
    /// Two of seven replicas say what they like of any batch, in any order, as often as they like. What is agreed on is
    /// right, once for each batch, and it is as soon as three have said the same and one of them has sent it.
    #[test]
    fn what_is_agreed_on_is_right(
        words in prop::collection::vec((0u16..7, 1u64..12, any::<bool>(), 0u8..3), 0..200),
    ) {
        let mut batches = batches(7, 3);
        let mut said = std::collections::BTreeMap::new();
        let mut done = std::collections::BTreeSet::new();
        for (replica, sequence, whole, lie) in words {
            let lie = if replica < 2 { lie } else { 0 };
            let outcome = batches.on_reply(say(replica, sequence, lie, whole, 1), PRIMARY);
            let first = !said.contains_key(&(sequence, replica));
            let word = *said.entry((sequence, replica)).or_insert((lie, whole));
            let honest: Vec<_> = said.range((sequence, 0)..=(sequence, 6)).filter(|(_, (lie, _))| *lie == 0).collect();
            let enough = honest.len() >= 3 && honest.iter().any(|(_, (_, whole))| *whole);
            match outcome {
                BatchOutcome::Agreed { replies: table, voters } => {
                    prop_assert_eq!(table, replies(sequence, 0));
                    prop_assert!(enough && done.insert(sequence));
                    prop_assert_eq!(voters, honest.iter().fold(0, |all, ((_, replica), _)| all | 1u64 << replica));
                }
                BatchOutcome::Counted => prop_assert!(first && !done.contains(&sequence) && !(enough && word.0 == 0)),
                BatchOutcome::Stale => prop_assert!(!first || done.contains(&sequence)),
            }
        }
    }
}
