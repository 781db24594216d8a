//! The network on a scripted transport: which connections stand, and that no event is lost.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::auth::testing::{cluster, keyring};
use crate::emulation::{Change, InForce, NetworkSpec};
use crate::pipeline::egress::Destination;
use crate::requests::BatchForm;
use crate::ring::doorbell::Doorbell;
use crate::ring::ring;
use crate::settings::TransportChoice;
use crate::transport::{Counters, Waker, probe};
use crate::types::ClientId;
use crate::wire::handshake::Handshake;
use crate::wire::{FrameKind, FrameReader};

/// What the network does with its sockets, and what happens on them in each poll.
#[derive(Default)]
struct Script {
    polls: Vec<Vec<Event>>,
    made: u64,
    sent: Vec<(ConnectionId, Bytes)>,
    /// How much of it a poll has written.
    written: usize,
    closed: Vec<ConnectionId>,
    paused: Vec<ConnectionId>,
    /// What waits to be written, where it is said.
    queued: HashMap<ConnectionId, usize>,
    /// Closed with something unwritten.
    lost: Vec<ConnectionId>,
}

#[derive(Clone, Default)]
struct Fake(Rc<RefCell<Script>>);

impl Transport for Fake {
    fn listen(&mut self, _listener: TcpListener) -> std::io::Result<()> {
        Ok(())
    }

    fn connect(&mut self, _address: SocketAddr) -> std::io::Result<ConnectionId> {
        let mut script = self.0.borrow_mut();
        script.made += 1;
        Ok(ConnectionId(1000 + script.made))
    }

    fn send(&mut self, connection: ConnectionId, bytes: Bytes) {
        self.0.borrow_mut().sent.push((connection, bytes));
    }

    fn queued_bytes(&self, connection: ConnectionId) -> usize {
        self.0.borrow().queued.get(&connection).copied().unwrap_or(0)
    }

    fn set_reading(&mut self, connection: ConnectionId, reading: bool) {
        let mut script = self.0.borrow_mut();
        script.paused.retain(|paused| *paused != connection);
        if !reading {
            script.paused.push(connection);
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        let mut script = self.0.borrow_mut();
        let written = script.written;
        if script.sent[written..].iter().any(|(to, _)| *to == connection) {
            script.lost.push(connection);
        }
        script.closed.push(connection);
    }

    fn poll(&mut self, _wait: Option<Duration>, events: &mut Vec<Event>) -> std::io::Result<()> {
        let mut script = self.0.borrow_mut();
        script.written = script.sent.len();
        if !script.polls.is_empty() {
            events.extend(script.polls.remove(0));
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        Waker::new(|| {})
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// The other ends of what a network is joined to.
struct Ends {
    frames: Receiver<Frames>,
    clients: Receiver<Frames>,
    credit: Credit,
    outgoing: Sender<Vec<Outgoing>>,
    links: LinkChanges,
}

/// Replica `own` of four, with a client node of 9 clients; `link` is what its outgoing links do.
fn parts(own: u16, link: Option<&str>) -> (NetworkParts, Ends) {
    let file = cluster("mac", 4, &[9]);
    let (bell, _parker) = Doorbell::parker();
    let (frames_in, frames) = ring(64);
    let (clients_in, clients) = ring(2);
    let (outgoing_in, outgoing) = ring(64);
    let (links, changes) = link_changes(bell.clone());
    let emulation = link.map(|link| NetworkSpec::open(link).unwrap().links(NodeId(own), file.nodes.len(), 1));
    let keyring = keyring(&file, own);
    let credit = Credit::new(&keyring, 1);
    let lanes =
        vec![Lanes { peers: Sender::new(frames_in, bell.clone()), clients: Sender::new(clients_in, bell.clone()) }];
    let parts = NetworkParts {
        blame: Blame::new(keyring.nodes()),
        credit: credit.clone(),
        keyring,
        listener: TcpListener::bind("127.0.0.1:0").unwrap(),
        addresses: file.voters().filter_map(|node| node.address).collect(),
        client_nodes: file.client_nodes().collect(),
        lanes,
        outgoing: Receiver::new(outgoing),
        routes: Routes::new(file.nodes.len()),
        batch_digests: true,
        emulation,
        changes,
        bell: bell.clone(),
    };
    let (frames, clients) = (Receiver::new(frames), Receiver::new(clients));
    (parts, Ends { frames, clients, credit, outgoing: Sender::new(outgoing_in, bell), links })
}

/// The same without emulation, on a fake transport.
fn network(own: u16) -> (Network, Fake, Receiver<Frames>) {
    let (parts, ends) = parts(own, None);
    let fake = Fake::default();
    (Network::new(parts, Box::new(fake.clone())).unwrap(), fake, ends.frames)
}

fn accepted(connection: u64) -> Event {
    Event::Accepted { connection: ConnectionId(connection), address: ([127, 0, 0, 1], 1).into() }
}

fn received(connection: u64, bytes: impl Into<Bytes>) -> Event {
    Event::Received { connection: ConnectionId(connection), bytes: bytes.into() }
}

fn step(network: &mut Network, fake: &Fake, clock: &Clock, events: Vec<Event>) {
    fake.0.borrow_mut().polls.push(events);
    network.step(Duration::ZERO, clock).unwrap();
}

/// What was last sent to this connection, as a frame.
fn answer(fake: &Fake, connection: u64) -> crate::wire::Frame {
    let script = fake.0.borrow();
    let (_, bytes) = script.sent.iter().rev().find(|(to, _)| *to == ConnectionId(connection)).unwrap();
    let mut reader = FrameReader::new(1 << 20);
    reader.push(bytes.clone());
    reader.next_frame().unwrap().unwrap()
}

/// Connection number `index` of `connections` of node `node` is made and proven.
fn join(network: &mut Network, fake: &Fake, clock: &Clock, (connection, node): (u64, u16), numbers: (u32, u32)) {
    let theirs = keyring(&cluster("mac", 4, &[9]), node);
    let own = NodeId(network.own.0);
    let (mut handshake, hello) =
        Handshake::initiate(theirs, own, numbers.0, numbers.1, [connection.to_le_bytes()[0]; 32]);
    step(network, fake, clock, vec![accepted(connection), received(connection, hello)]);
    let proof = handshake.on_frame(&answer(fake, connection)).unwrap().reply.unwrap();
    step(network, fake, clock, vec![received(connection, proof)]);
}

#[test]
fn pre_prepares_go_to_the_verify_stage_where_least_waits_and_votes_stay_in_order() {
    let frames = || Frames { received: Time(0), source: Source::Peer(ReplicaId(0)), cost: 1, frames: Vec::new() };
    let mut receivers = Vec::new();
    let mut lanes = Vec::new();
    for _ in 0..3 {
        let ((peers, received), (clients, _)) = (ring(2), ring(1));
        let bell = Doorbell::parker().0;
        lanes.push(Lanes { peers: Sender::new(peers, bell.clone()), clients: Sender::new(clients, bell) });
        receivers.push(Receiver::new(received));
    }
    let pre_prepares = Source::PrePrepares(ReplicaId(0));
    let in_turn = |lanes: &[Lanes]| [0, 1, 2].map(|last| peer_lane(lanes, pre_prepares, last));
    assert_eq!(in_turn(&lanes), [Some(1), Some(2), Some(0)]);
    lanes[1].peers.send(frames());
    assert_eq!(in_turn(&lanes), [Some(2), Some(2), Some(0)]);
    (0..2).for_each(|_| lanes[0].peers.send(frames()));
    (0..2).for_each(|_| lanes[2].peers.send(frames()));
    assert_eq!(in_turn(&lanes), [Some(1); 3], "the others are full");
    assert_eq!(peer_lane(&lanes, Source::Peer(ReplicaId(1)), 0), Some(1));
    assert_eq!(peer_lane(&lanes, Source::Peer(ReplicaId(3)), 0), None, "its own one is full");
    lanes[1].peers.send(frames());
    assert_eq!(in_turn(&lanes), [None; 3]);
    receivers[2].receive();
    assert_eq!(in_turn(&lanes), [Some(2); 3]);
}

#[test]
fn a_thread_is_not_woken_by_what_it_hands_to_itself() {
    let (mut parts, ends) = parts(0, None);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let bell = Doorbell::new(Waker::new(move || _ = counted.fetch_add(1, Ordering::Relaxed)));
    let (frames_in, frames) = ring(64);
    parts.lanes =
        vec![Lanes { peers: Sender::new(frames_in, bell.clone()), clients: Sender::new(ring(2).0, bell.clone()) }];
    parts.bell = bell.clone();
    let (fake, clock) = (Fake::default(), Clock::start());
    let mut network = Network::new(parts, Box::new(fake.clone())).unwrap();
    join(&mut network, &fake, &clock, (1, 2), (0, 1));

    bell.prepare_sleep();
    let message = crate::wire::frame::encode_frame(FrameKind::Status, NodeId(2), 0, |_| {});
    step(&mut network, &fake, &clock, vec![received(1, message)]);
    assert_eq!(Receiver::new(frames).len(), 1);
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    drop(ends);
}

#[test]
fn a_stranger_that_is_refused_costs_nobody_an_event() {
    let (mut network, fake, mut frames) = network(0);
    let clock = Clock::start();
    join(&mut network, &fake, &clock, (1, 2), (0, 1));
    assert_eq!(network.connections.standing(), [NodeId(2)]);

    // In one poll a stranger talks nonsense; in the next a proven peer is heard and lost, and somebody else comes.
    let message = crate::wire::frame::encode_frame(FrameKind::Status, NodeId(2), 0, |_| {});
    let nonsense = vec![accepted(7), received(7, &b"GET / HTTP/1.1\r\n\r\n"[..])];
    let next = vec![accepted(8), received(1, message), Event::Closed { connection: ConnectionId(1), error: None }];
    fake.0.borrow_mut().polls.extend([nonsense, next]);
    network.step(Duration::ZERO, &clock).unwrap();
    network.step(Duration::ZERO, &clock).unwrap();
    network.step(Duration::ZERO, &clock).unwrap();
    assert_eq!(frames.receive().map(|frames| frames.frames.len()), Some(1));
    assert_eq!(network.connections.standing(), []);
    assert_eq!(fake.0.borrow().closed, [ConnectionId(7)]);
    assert!(network.ingress.deadline().is_some(), "the newcomer's handshake is waited for");
}

#[test]
fn who_is_refused_is_told_why_before_the_connection_is_closed() {
    let (mut network, fake, _frames) = network(0);
    let clock = Clock::start();
    // Node 5 is in another cluster: its settings differ.
    let (_, hello) = Handshake::initiate(keyring(&cluster("none", 4, &[9, 9]), 5), NodeId(0), 0, 1, [3; 32]);
    step(&mut network, &fake, &clock, vec![accepted(7), received(7, hello)]);
    step(&mut network, &fake, &clock, Vec::new());
    assert_eq!(answer(&fake, 7).kind, FrameKind::Refusal);
    assert_eq!((&fake.0.borrow().closed[..], &fake.0.borrow().lost[..]), (&[ConnectionId(7)][..], &[][..]));
}

#[test]
fn a_peer_that_takes_the_connection_and_says_nothing_is_called_again() {
    let (mut network, fake, _frames) = network(1);
    let clock = Clock::start();
    step(&mut network, &fake, &clock, Vec::new());
    let attempt = ConnectionId(1001);
    assert_eq!(network.connections.peers[0].attempt, Some(attempt));
    step(&mut network, &fake, &clock, vec![Event::Connected { connection: attempt }]);

    // Its time is up.
    let late = clock.now().after(6_000_000_000);
    network.expire(late);
    assert_eq!(fake.0.borrow().closed, [attempt]);
    assert_eq!(network.connections.peers[0].attempt, None);
    assert!(network.connections.peers[0].retry_at < late.after(1_000_000_000));
}

/// A host that swallows what is sent to it, such as one without power, says neither yes nor no.
#[test]
fn an_attempt_that_is_not_answered_is_given_up_and_made_again() {
    let (mut network, fake, _frames) = network(1);
    let clock = Clock::start();
    step(&mut network, &fake, &clock, Vec::new());
    let (first, second) = (ConnectionId(1001), ConnectionId(1002));
    assert_eq!(network.connections.peers[0].attempt, Some(first));
    let by = network.deadline().expect("it is not waited for without an end");
    assert!(by > clock.now() && by <= clock.now().after(3_000_000_000));
    network.expire(Time(by.0 - 1));
    assert_eq!(fake.0.borrow().closed, []);
    network.expire(by);
    assert_eq!(fake.0.borrow().closed, [first]);
    assert_eq!((network.connections.peers[0].attempt, network.dropped["connect_timeout"]), (None, 1));
    let again = network.deadline().unwrap();
    assert!(again <= by.after(1_000_000_000));
    network.connections.connect_where_due(again, &mut *network.transport);
    assert_eq!(network.connections.peers[0].attempt, Some(second));
    // Once it stands, its handshake is what is waited for.
    step(&mut network, &fake, &clock, vec![Event::Connected { connection: second }]);
    assert_eq!((network.connections.peers[0].attempt, network.connections.peers[0].connected_by), (Some(second), None));
}

#[test]
fn a_client_node_says_of_each_connection_how_batches_are_to_be_answered() {
    let (mut network, fake, mut frames) = network(0);
    let clock = Clock::start();
    let forms = |network: &Network| [0, 1].map(|index| network.connections.routes.form(NodeId(4), index));
    let whole = [BatchForm::Whole; 2];
    for index in 0..2 {
        join(&mut network, &fake, &clock, (10 + u64::from(index), 4), (index, 2));
    }
    assert_eq!(forms(&network), whole);
    let wants = |form| wire::encode_answering(form, NodeId(4));
    step(&mut network, &fake, &clock, vec![received(11, wants(BatchForm::Digest))]);
    assert_eq!(forms(&network), [BatchForm::Whole, BatchForm::Digest]);
    step(&mut network, &fake, &clock, vec![received(11, wants(BatchForm::Whole))]);
    assert_eq!(forms(&network), whole);
    step(&mut network, &fake, &clock, vec![received(10, wants(BatchForm::Digest))]);
    assert_eq!(forms(&network), [BatchForm::Digest, BatchForm::Whole]);
    // Another connection in its place knows nothing of that.
    join(&mut network, &fake, &clock, (20, 4), (0, 2));
    assert_eq!(forms(&network), whole);

    // Nonsense, and replicas, which are not answered, change nothing.
    let nonsense = crate::wire::frame::encode_frame(FrameKind::Answering, NodeId(4), 1, |out| out.push(7));
    join(&mut network, &fake, &clock, (1, 2), (0, 1));
    let of_a_replica = wire::encode_answering(BatchForm::Digest, NodeId(2));
    step(&mut network, &fake, &clock, vec![received(20, nonsense), received(1, of_a_replica)]);
    assert_eq!(forms(&network), whole);
    let count = |reason| network.dropped.get(reason).copied().unwrap_or(0);
    assert_eq!((count("bad_form"), count("dropped_answering")), (1, 1));
    // Where the cluster's replies are others, nobody can change that.
    network.batch_digests = false;
    step(&mut network, &fake, &clock, vec![received(20, wants(BatchForm::Digest))]);
    assert_eq!((forms(&network), network.dropped["dropped_answering"]), (whole, 2));
    assert!(frames.receive().is_none(), "no verify stage hears of it");
}

/// Each of a node's connections keeps to its limit; together they do not keep to the node's.
#[test]
fn what_is_queued_is_bounded_for_all_connections_of_a_client_node_together() {
    let (mut network, fake, _frames) = network(0);
    let clock = Clock::start();
    for index in 0..9 {
        join(&mut network, &fake, &clock, (10 + u64::from(index), 4), (index, 9));
    }
    let reply = |network: &mut Network, client| {
        let bytes = crate::wire::frame::encode_frame(FrameKind::Replies, NodeId(0), 0, |_| {});
        network.queue(Outgoing { to: Destination::Client(NodeId(4), ClientId(client)), bytes });
        network.dropped.get("dropped_queue_full").copied().unwrap_or(0)
    };
    fake.0.borrow_mut().queued =
        (10..13).map(|connection| (ConnectionId(connection), CLIENT_QUEUE_BYTES_MAX)).collect();
    assert_eq!(reply(&mut network, 0), 0, "others leave it room");
    fake.0.borrow_mut().queued.insert(ConnectionId(13), CLIENT_QUEUE_BYTES_MAX + 1);
    assert_eq!(reply(&mut network, 0), 1);
    assert_eq!(reply(&mut network, 3), 2);
    assert_eq!(reply(&mut network, 8), 2, "who reads what it gets does not suffer");
}

#[test]
fn a_client_node_that_returns_with_another_number_of_connections_leaves_none_behind() {
    let (mut network, fake, _frames) = network(0);
    let clock = Clock::start();
    for index in 0..3 {
        join(&mut network, &fake, &clock, (10 + u64::from(index), 4), (index, 3));
    }
    join(&mut network, &fake, &clock, (20, 4), (0, 2));
    let mut closed = fake.0.borrow().closed.clone();
    closed.sort_unstable();
    assert_eq!(closed, [10, 11, 12].map(ConnectionId));
    assert_eq!(network.connections.client_nodes[&NodeId(4)].connections, [Some(ConnectionId(20)), None]);
    assert_eq!(network.connections.routes.connections(NodeId(4)), 2);

    // The same connection again replaces the old one alone.
    join(&mut network, &fake, &clock, (21, 4), (1, 2));
    join(&mut network, &fake, &clock, (22, 4), (0, 2));
    assert_eq!(fake.0.borrow().closed.last(), Some(&ConnectionId(20)));
    let standing = [Some(ConnectionId(22)), Some(ConnectionId(21))];
    assert_eq!(network.connections.client_nodes[&NodeId(4)].connections, standing);
}

/// Makes a change as the control port does, from another thread.
fn change(network: &mut Network, ends: &Ends, clock: &Clock, json: &str) -> Result<InForce, String> {
    let (links, change) = (ends.links.clone(), serde_json::from_str::<Change>(json).unwrap());
    let asking = std::thread::spawn(move || links.make(change).expect("an answer"));
    while !asking.is_finished() {
        network.take_outgoing(clock);
        std::thread::yield_now();
    }
    asking.join().unwrap().map_err(|error| error.to_string())
}

fn message(to: u16, from: u16) -> Outgoing {
    let bytes = crate::wire::frame::encode_frame(FrameKind::Status, NodeId(from), 0, |_| {});
    Outgoing { to: Destination::Replica(ReplicaId(to)), bytes }
}

#[test]
fn frames_wait_for_emulated_links_and_handshakes_do_not() {
    let (parts, mut ends) = parts(0, Some("delay=50ms"));
    let fake = Fake::default();
    let mut network = Network::new(parts, Box::new(fake.clone())).unwrap();
    let clock = Clock::start();
    join(&mut network, &fake, &clock, (1, 2), (0, 1));
    assert_eq!(network.connections.standing(), [NodeId(2)], "nothing held up the handshake");

    let before = fake.0.borrow().sent.len();
    let pushed = clock.now();
    ends.outgoing.send(vec![message(2, 0), message(3, 0)]);
    network.take_outgoing(&clock);
    assert_eq!(fake.0.borrow().sent.len(), before);
    let due = network.deadline().unwrap();
    assert!(due >= pushed.after(50_000_000) && due <= clock.now().after(50_000_000));
    while fake.0.borrow().sent.len() == before {
        network.take_outgoing(&clock);
    }
    assert!(clock.now() >= due);
    // The other frame's destination is not connected, which is found when it would leave.
    while network.deadline().is_some() {
        network.take_outgoing(&clock);
    }
    assert_eq!(network.dropped["dropped_not_connected"], 1);
    assert_eq!(fake.0.borrow().sent.len(), before + 1);
}

/// Sends a frame to each of replicas 1 and 2; the connections that it leaves by.
fn pass(network: &mut Network, ends: &mut Ends, fake: &Fake, clock: &Clock) -> Vec<u64> {
    let before = fake.0.borrow().sent.len();
    ends.outgoing.send(vec![message(1, 0), message(2, 0)]);
    network.take_outgoing(clock);
    let script = fake.0.borrow();
    script.sent[before..].iter().map(|(connection, _)| connection.0).collect()
}

#[test]
fn links_are_blocked_and_healed_while_the_network_runs() {
    let (parts, mut ends) = parts(0, None);
    let fake = Fake::default();
    let mut network = Network::new(parts, Box::new(fake.clone())).unwrap();
    let clock = Clock::start();
    join(&mut network, &fake, &clock, (1, 1), (0, 1));
    join(&mut network, &fake, &clock, (2, 2), (0, 1));
    assert_eq!(pass(&mut network, &mut ends, &fake, &clock), [1, 2]);

    let told = change(&mut network, &ends, &clock, "{}").unwrap();
    assert_eq!((told.own, told.links.len()), (NodeId(0), 4));
    assert!(network.emulated.is_none(), "to ask costs nothing");
    let told = change(&mut network, &ends, &clock, r#"{"to":[0,2],"block":true}"#).unwrap();
    let blocked: Vec<_> = told.links.iter().filter(|link| link.link.blocked).map(|link| link.to).collect();
    assert_eq!(blocked, [NodeId(2)]);
    assert_eq!(pass(&mut network, &mut ends, &fake, &clock), [1]);
    let error = change(&mut network, &ends, &clock, r#"{"to":[9],"block":true}"#).unwrap_err();
    assert_eq!(error, "to = 9: allowed: nodes 0 to 4");
    let told = change(&mut network, &ends, &clock, r#"{"reset":true}"#).unwrap();
    assert_eq!((told.links[1].blocked, told.links[1].passed, told.links[0].passed), (1, 0, 1));
    assert_eq!(pass(&mut network, &mut ends, &fake, &clock), [1, 2]);
    let mut board = Board::default();
    network.post(&mut board);
    assert_eq!(board.report().ignored["emulated_block"], 1);
}

/// A frame that costs much to keep.
fn large(kind: FrameKind, node: u16) -> Bytes {
    crate::wire::frame::encode_frame(kind, NodeId(node), 300_000, |body| body.resize(body.len() + 300_000, 0))
}

/// What the verify stage gets of clients' work, done at once. How many frames there were.
fn verify_all(ends: &mut Ends) -> usize {
    let mut frames = 0;
    while let Some(item) = ends.clients.receive() {
        ends.credit.give_back(item.source.node(), item.cost);
        frames += item.frames.len();
    }
    frames
}

#[test]
fn a_client_node_that_sends_too_much_is_paused_and_nobody_else() {
    let (parts, mut ends) = parts(0, None);
    let fake = Fake::default();
    let mut network = Network::new(parts, Box::new(fake.clone())).unwrap();
    let clock = Clock::start();
    join(&mut network, &fake, &clock, (1, 4), (0, 2));
    join(&mut network, &fake, &clock, (2, 4), (1, 2));
    join(&mut network, &fake, &clock, (3, 2), (0, 1));
    let flood = |connection| (0..6).map(move |_| received(connection, large(FrameKind::Requests, 4)));
    step(&mut network, &fake, &clock, flood(1).chain(flood(2)).collect());
    assert_eq!(fake.0.borrow().paused, [ConnectionId(1), ConnectionId(2)]);
    assert!(network.is_stalled() && !network.has_work());

    // A connection in place of another one is its node's, too.
    join(&mut network, &fake, &clock, (4, 4), (1, 2));
    assert!(fake.0.borrow().paused.contains(&ConnectionId(4)));
    // A peer is heard at once.
    let vote = crate::wire::frame::encode_frame(FrameKind::Status, NodeId(2), 0, |_| {});
    step(&mut network, &fake, &clock, vec![received(3, vote)]);
    assert_eq!(ends.frames.receive().map(|frames| frames.source), Some(Source::Peer(ReplicaId(2))));

    let mut frames = 0;
    for _ in 0..12 {
        frames += verify_all(&mut ends);
        step(&mut network, &fake, &clock, Vec::new());
    }
    assert_eq!(frames, 12, "nothing is lost");
    assert!(!network.is_stalled());
    let paused = fake.0.borrow().paused.clone();
    assert_eq!(paused, [ConnectionId(2)], "but for one that is closed");
    assert_eq!(ends.credit.taken(NodeId(4)), 0);
}

#[test]
fn a_client_node_gets_no_more_than_its_credit_while_others_wait_for_nothing() {
    let (parts, mut ends) = parts(0, None);
    let fake = Fake::default();
    let mut network = Network::new(parts, Box::new(fake.clone())).unwrap();
    let clock = Clock::start();
    join(&mut network, &fake, &clock, (1, 4), (0, 1));
    join(&mut network, &fake, &clock, (3, 2), (0, 1));
    ends.credit.take(NodeId(4), 1 << 20);
    step(&mut network, &fake, &clock, vec![received(1, large(FrameKind::Requests, 4))]);
    assert!(ends.clients.is_empty() && network.is_stalled() && !network.has_work());
    step(&mut network, &fake, &clock, vec![received(3, large(FrameKind::Forward, 2))]);
    assert_eq!(ends.clients.receive().map(|item| item.source), Some(Source::Forwards(ReplicaId(2))));
    ends.credit.give_back(NodeId(4), 1 << 20);
    assert!(network.has_work());
    step(&mut network, &fake, &clock, Vec::new());
    assert_eq!(ends.clients.receive().map(|item| item.source), Some(Source::Client(NodeId(4))));
}

/// Votes of a peer whose forwards nobody has time for are heard all the same.
#[test]
fn a_peer_that_forwards_too_much_is_not_paused() {
    let (parts, mut ends) = parts(0, None);
    let fake = Fake::default();
    let mut network = Network::new(parts, Box::new(fake.clone())).unwrap();
    let clock = Clock::start();
    join(&mut network, &fake, &clock, (3, 2), (0, 1));
    step(&mut network, &fake, &clock, (0..12).map(|_| received(3, large(FrameKind::Forward, 2))).collect());
    let vote = crate::wire::frame::encode_frame(FrameKind::Status, NodeId(2), 0, |_| {});
    step(&mut network, &fake, &clock, vec![received(3, vote)]);
    assert!(ends.frames.receive().is_some() && fake.0.borrow().paused.is_empty());
    let mut taken = 0;
    for _ in 0..12 {
        taken += verify_all(&mut ends);
        step(&mut network, &fake, &clock, Vec::new());
    }
    assert_eq!(taken as u64 + network.dropped["dropped_forwards_over_budget"], 12);
}

/// Two nodes over real sockets: what one sends takes its time there, and nothing on the way back.
#[test]
fn delay_is_one_way_between_two_nodes() {
    const DELAY_NS: u64 = 30_000_000;
    let clock = Clock::start();
    let open = |parts| Network::new(parts, probe::open(TransportChoice::Epoll).unwrap().0).unwrap();
    let ((mut near, mut near_ends), (mut far, mut far_ends)) = (parts(0, None), parts(1, Some("delay=30ms")));
    let address = near.listener.local_addr().unwrap();
    near.addresses[0] = address;
    far.addresses[0] = address;
    let (mut near, mut far) = (open(near), open(far));
    let patience = clock.now().after(20_000_000_000);
    while near.connections.standing().is_empty() || far.connections.standing().is_empty() {
        assert!(clock.now() < patience, "no connection");
        near.step(Duration::from_millis(1), &clock).unwrap();
        far.step(Duration::from_millis(1), &clock).unwrap();
    }

    let sent = clock.now();
    near_ends.outgoing.send(vec![message(1, 0)]);
    far_ends.outgoing.send(vec![message(0, 1)]);
    let (mut there, mut back) = (None, None);
    while there.is_none() || back.is_none() {
        assert!(clock.now() < patience, "a frame is missing: {there:?}, {back:?}");
        for network in [&mut near, &mut far] {
            network.take_outgoing(&clock);
            network.step(Duration::from_millis(1), &clock).unwrap();
        }
        there = there.or_else(|| near_ends.frames.receive().map(|frames| frames.received));
        back = back.or_else(|| far_ends.frames.receive().map(|frames| frames.received));
    }
    assert!(there.unwrap() >= sent.after(DELAY_NS));
    assert!(back < there, "nothing holds up what the other one sends");
}
