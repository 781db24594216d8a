//! Drawing a plan from a seed.

use hippodrome_engine::byzantine::Kind;
use hippodrome_engine::protocol::batching::{Batching, STRATEGIES};
use hippodrome_engine::settings::options::{Dissemination, ExecutionChoice, Granularity, Reads, Replies};

use super::{Clients, Disk, Fault, Faulty, Hostile, HostileKind, Network, Plan, What};
use crate::random::Random;

const MS: u64 = 1_000_000;

impl Plan {
    /// The plan of this seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let random = &mut Random::new(seed, "plan", 0);
        let replicas = random.pick(&[4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 6, 6, 7, 7, 7, 10]);
        let checkpoint_interval = random.pick(&[2, 3, 4, 4, 8, 16]);
        let window = checkpoint_interval * random.range(2, 4);
        let network = network(random);
        // Long enough for a round or two, or no view would ever last.
        let view_timeout_ns = (12 * network.delay_max_ns).max(random.range(60, 250) * MS);
        let heal_ns = random.pick(&[800, 2000, 5000]) * MS / random.range(1, 3);
        let disk = if random.chance(600) { Some(disk(random)) } else { None };
        let mut plan = Self {
            seed,
            replicas,
            window,
            checkpoint_interval,
            batching: batching(seed),
            auth_granularity: granularity(seed),
            dissemination: Random::new(seed, "dissemination", 0).pick(Dissemination::ALL),
            execution: Random::new(seed, "execution", 0).pick(ExecutionChoice::ALL),
            status_interval_ns: random.range(10, 40) * MS,
            view_timeout_ns,
            view_timeout_max_ns: view_timeout_ns * random.pick(&[4, 8, 16]),
            history_batches: random.pick(&[0, 2, 8, 32, 4096]),
            chunk_bytes: Random::new(seed, "chunks", 0).pick(&[100, 400, 1 << 20]),
            clients: Clients {
                count: u32::try_from(random.range(1, 6)).unwrap_or(1),
                operations: u32::try_from(random.range(3, 40)).unwrap_or(3),
                think_ns: random.pick(&[0, MS, 30 * MS, 120 * MS]),
                retry_ns: random.pick(&[3, 40, 40, 100, 100, 150]) * MS,
            },
            hostile: Vec::new(),
            signed_requests: random.chance(300),
            replies: Replies::Full,
            reads: Reads::Ordered,
            network,
            disk,
            faulty: Vec::new(),
            timeline: Vec::new(),
            heal_ns,
        };
        plan.faulty = faulty(&plan, random);
        plan.hostile = hostile(&plan, random);
        plan.timeline = timeline(&plan, random);
        fail_again(&mut plan);
        choose_strategies(&mut plan);
        plan
    }
}

/// How clients are answered. Some Byzantine replicas help whoever is behind to outvote those who are not.
fn choose_strategies(plan: &mut Plan) {
    let random = &mut Random::new(plan.seed, "strategies", 0);
    if random.chance(400) {
        plan.replies = Replies::Digest;
    } else if Random::new(plan.seed, "batch digests", 0).chance(700) {
        plan.replies = Replies::BatchDigest;
    }
    if random.chance(500) {
        plan.reads = Reads::ReadOnly;
        for faulty in &mut plan.faulty {
            faulty.stale_reads = random.chance(600);
        }
    }
}

fn network(random: &mut Random) -> Network {
    let delay_min_ns = random.pick(&[50_000, 200_000, MS]);
    Network {
        delay_min_ns,
        delay_max_ns: delay_min_ns * random.range(1, 12),
        stray_permille: random.pick(&[0, 0, 5, 30]),
        loss_permille: random.pick(&[0, 0, 5, 20, 60]),
        repeat_permille: random.pick(&[0, 0, 10, 100]),
        ordered: random.chance(300),
        drift_ppm: random.pick(&[0, 200, 20_000]),
    }
}

/// One of the strategies that there are, each as likely as the others. Drawn apart from the rest, so that another
/// strategy changes nothing else in the plans of seeds.
fn batching(seed: u64) -> Batching {
    let random = &mut Random::new(seed, "batching", 0);
    let samples = STRATEGIES[random.index(STRATEGIES.len())].samples;
    random.pick(samples).parse().expect("a sample is a strategy")
}

/// Groups in three plans of ten. Drawn apart as well.
fn granularity(seed: u64) -> Granularity {
    if Random::new(seed, "granularity", 0).chance(300) { Granularity::Frame } else { Granularity::Request }
}

fn disk(random: &mut Random) -> Disk {
    let sync_min_ns = random.pick(&[20_000, 100_000, MS]);
    Disk { sync_min_ns, sync_max_ns: sync_min_ns * random.range(1, 10), snapshot_every: random.range(1, 4) }
}

/// Up to f Byzantine replicas, often the primaries of the first views.
fn faulty(plan: &Plan, random: &mut Random) -> Vec<Faulty> {
    if random.chance(300) {
        return Vec::new();
    }
    let f = plan.quorums().f();
    let many = if random.chance(600) { f } else { random.index(f) + 1 };
    let mut replicas: Vec<u16> = (0..).take(plan.replicas).collect();
    if random.chance(500) {
        random.shuffle(&mut replicas);
    }
    replicas.truncate(many);
    replicas.sort_unstable();
    replicas.into_iter().map(|replica| behaviour(replica, random)).collect()
}

fn behaviour(replica: u16, random: &mut Random) -> Faulty {
    let correct =
        Faulty { replica, kinds: Vec::new(), twins: false, mutate_permille: 0, false_state: false, stale_reads: false };
    match random.below(10) {
        0 | 1 => Faulty { twins: true, ..correct },
        2 => Faulty { mutate_permille: random.pick(&[20, 200, 600]), ..correct },
        3 => Faulty { false_state: true, mutate_permille: random.pick(&[0, 0, 50]), ..correct },
        4 => Faulty { twins: true, mutate_permille: random.pick(&[20, 200]), ..correct },
        5..=7 => Faulty { kinds: vec![random.pick(Kind::ALL)], ..correct },
        _ => Faulty {
            kinds: (0..random.range(1, 3)).map(|_| random.pick(Kind::ALL)).collect(),
            mutate_permille: random.pick(&[0, 20, 200]),
            false_state: random.chance(200),
            ..correct
        },
    }
}

fn hostile(plan: &Plan, random: &mut Random) -> Vec<Hostile> {
    if random.chance(600) {
        return Vec::new();
    }
    let kinds = [
        if plan.signed_requests { HostileKind::Torsion } else { HostileKind::Partial },
        HostileKind::Replay,
        HostileKind::TwoFaced,
        HostileKind::Invalid,
        HostileKind::Unknown,
    ];
    let one = |random: &mut Random| Hostile { kind: random.pick(&kinds), every_ns: random.range(10, 120) * MS };
    (0..random.range(1, 2)).map(|_| one(random)).collect()
}

fn timeline(plan: &Plan, random: &mut Random) -> Vec<Fault> {
    let mut timeline = Vec::new();
    let mut unreliable = plan.unreliable();
    for _ in 0..random.pick(&[0, 1, 2, 3, 4, 6, 10]) {
        let at_ns = random.below(plan.heal_ns * 9 / 10);
        let for_ns = random.range(5 * MS, 4 * plan.view_timeout_ns).min(plan.heal_ns - at_ns);
        let what = what(plan, random);
        if let What::Crash(replica) | What::Loss(replica) = what {
            let forgets = matches!(what, What::Loss(_)) || plan.disk.is_none();
            let allowed = unreliable.len() < plan.quorums().f() || unreliable.contains(&replica);
            if !plan.is_honest(replica) || (forgets && !allowed) {
                continue;
            }
            if forgets && !unreliable.contains(&replica) {
                unreliable.push(replica);
            }
        }
        timeline.push(Fault { at_ns, for_ns, what });
    }
    timeline.sort_by_key(|fault| fault.at_ns);
    timeline
}

/// Some processes that die have more bad luck: while they are down or soon after they are back, the power fails, and
/// their disks are slow all that time, so that there is something to lose. Some with slow disks die for a moment, so
/// that what they had not synced still matters to the others when they are back.
fn fail_again(plan: &mut Plan) {
    let random = &mut Random::new(plan.seed, "power", 0);
    let mut failures = Vec::new();
    for crash in plan.timeline.iter().filter(|_| plan.disk.is_some()) {
        let What::Crash(replica) = crash.what else { continue };
        let after = random.pick(&[200_000, 2 * MS, 20 * MS, 100 * MS]);
        let (down, back) = (random.below(crash.for_ns), crash.for_ns + random.below(after));
        if random.chance(500) {
            let before = random.below(20 * MS).min(crash.at_ns);
            failures.push((crash.at_ns - before, before + crash.for_ns + after, What::SlowDisk(replica)));
        }
        if random.chance(400) {
            let at_ns = crash.at_ns + if random.chance(300) { down } else { back };
            failures.push((at_ns, random.range(MS, plan.view_timeout_ns), What::PowerFailure));
        }
    }
    let slow = plan.timeline.iter().filter(|fault| plan.disk.is_some() && matches!(fault.what, What::SlowDisk(_)));
    let slow = slow.map(|fault| (fault.at_ns, fault.for_ns, fault.what.clone())).chain(failures.clone());
    let mut moments = Vec::new();
    for (at_ns, for_ns, what) in slow {
        if let What::SlowDisk(replica) = what
            && random.chance(700)
        {
            let at_ns = at_ns + random.below(for_ns.min(60 * MS));
            moments.push((at_ns, random.range(MS, 10 * MS), What::Crash(replica)));
        }
    }
    let heal_ns = plan.heal_ns;
    let failures = failures.into_iter().chain(moments).filter(|(at_ns, ..)| *at_ns < heal_ns);
    let failures = failures.map(|(at_ns, for_ns, what)| Fault { at_ns, for_ns: for_ns.min(heal_ns - at_ns), what });
    plan.timeline.extend(failures);
    plan.timeline.sort_by_key(|fault| fault.at_ns);
}

fn what(plan: &Plan, random: &mut Random) -> What {
    // One of the first more often: they are the primaries.
    let among = if random.chance(500) { 2 } else { plan.replicas };
    let replica = u16::try_from(random.index(among)).unwrap_or(0);
    match random.below(13) {
        0..=2 => What::Crash(replica),
        3 => What::Loss(replica),
        4..=6 => partition(plan, random),
        7 | 8 => What::Pause(replica),
        9 => What::Drop(random.pick(&[100, 300, 800])),
        10 => What::Slow(random.pick(&[3, 10, 30])),
        _ if plan.disk.is_none() => What::Pause(replica),
        11 => What::PowerFailure,
        _ => What::SlowDisk(replica),
    }
}

/// A part of the replicas, mostly one, that does not hear the others, is not heard by them, or both.
fn partition(plan: &Plan, random: &mut Random) -> What {
    let mut part: Vec<u16> = (0..).take(plan.replicas).collect();
    if random.chance(500) {
        random.shuffle(&mut part);
    }
    let few = random.index(plan.replicas / 2) + 1;
    let rest = part.split_off(if random.chance(600) { 1 } else { few });
    match random.below(4) {
        0 => What::OneWay(part, rest),
        1 => What::OneWay(rest, part),
        _ => What::Partition(part),
    }
}
