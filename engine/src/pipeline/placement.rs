//! Placement: which stages share a thread, and which core each thread is pinned to.
//!
//! Of the cores ([`cores`](crate::pipeline::cores)) each replica of a machine has a share for itself, physical cores on
//! one NUMA node where they fit. Each thread gets a physical core of its own while there are any. What is left over
//! then are hardware threads of cores that are taken: they go to the cold stages (network, execute, egress), beside a
//! stage that they exchange data with. Hot stages, which compute all the time under load (verify, order), never share a
//! physical core: with fewer of them some stages share a thread instead. Where there are not even cores enough for a
//! thread of each replica, replicas share cores, each always the same one, so that what wakes it is near.
//!
//! Which stages share a thread goes by the [`WorkProfile`] that there is. Where verification is nearly all of it,
//! physical cores go to verify stages, and the others share a thread.

use std::collections::BTreeSet;
use std::fmt;

use crate::pipeline::cores::{Cores, PhysicalCore};
use crate::ring::wait::Wait;
use crate::settings::{ClusterSettings, Granularity, Group, PlacedStage, Placement, WaitChoice};

/// A stage by its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sockets both ways.
    Network,
    /// Verify stage number i.
    Verify(usize),
    /// Order.
    Order,
    /// Persist, where votes are made durable.
    Persist,
    /// Execute.
    Execute,
    /// Egress.
    Egress,
}

/// One thread of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its name. The first 15 bytes, which are what the kernel keeps, are no other thread's.
    pub name: String,
    /// The core that it is pinned to.
    pub core: Option<usize>,
    /// Its stages, in data-path order.
    pub roles: Vec<Role>,
}

/// What the stages of a replica have to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkProfile {
    /// Something of everything.
    Mixed,
    /// Verification nearly alone: a public-key signature for each request, which takes more than nine tenths of a
    /// replica's time.
    VerifyBound,
}

impl WorkProfile {
    /// In a cluster with these settings. The requests decide, since there are many of them for each message between
    /// replicas. What is signed for many requests at a time, a frame or a tree, is no longer nearly all there is to do.
    #[must_use]
    pub fn of(settings: &ClusterSettings) -> Self {
        let signed_each =
            settings.auth_granularity == Granularity::Request && settings.authentication.clients.is_heavy_for_each();
        if signed_each { Self::VerifyBound } else { Self::Mixed }
    }
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The threads; exactly one holds [`Role::Network`].
    pub threads: Vec<Thread>,
    /// How threads wait.
    pub wait: Wait,
    /// What was chosen and why, for a person.
    pub explanation: String,
}

/// Most verify stages that `auto` and `pipelined` make.
const VERIFY_MAX: usize = 8;
/// Stages beside verify.
const OTHER_STAGES: usize = 4;
/// Physical cores that `auto` and `pipelined` have a use for.
const CORES_USED_MAX: usize = VERIFY_MAX + OTHER_STAGES;

impl Plan {
    /// Decides, for a replica that has this `work`.
    ///
    /// `replicas_here` is how many replicas share the machine and `index` which of them this is. One physical core is
    /// left to the load generator where there are enough. Cores that the process may not use are told, and not pinned
    /// to.
    #[must_use]
    pub fn new(
        choice: &Placement,
        wait: WaitChoice,
        work: WorkProfile,
        cores: &Cores,
        replicas_here: usize,
        index: usize,
    ) -> Self {
        let replicas_here = replicas_here.max(1);
        let share = cores.share(replicas_here, index % replicas_here, CORES_USED_MAX);
        let available = format!("{} for {replicas_here} replicas on this machine", cores.in_words());
        let (mut threads, what, why) = match choice {
            Placement::Fused => (fused(), "fused", "asked for".to_owned()),
            Placement::Groups(groups) => (grouped(groups), "groups", "asked for".to_owned()),
            Placement::Cores(cores) => (by_cores(cores), "explicit cores", "asked for".to_owned()),
            Placement::Pipelined => {
                let threads = pipelined(share.len().saturating_sub(OTHER_STAGES).clamp(1, VERIFY_MAX));
                let threads = seat_on(&threads, &share).unwrap_or(threads);
                (threads, "pipelined", format!("asked for; {available}"))
            }
            Placement::Auto => {
                let own = share.first().and_then(|core| core.threads.first().copied());
                let seat = own.or_else(|| cores.seat(replicas_here, index % replicas_here));
                let (threads, what, note) = auto(&share, work, seat);
                (threads, what, available + note)
            }
        };
        let unusable = unpin_unusable(&mut threads, cores);
        // What somebody asked for may be asked of every replica on this machine.
        let is_own = !matches!(choice, Placement::Groups(_) | Placement::Cores(_)) || replicas_here == 1;
        let wait = resolve_wait(wait, is_own && have_physical_cores(&threads, cores));
        let idle = match wait {
            Wait::Spin => "spinning",
            Wait::Yield => "yielding",
            Wait::Park => "parked",
        };
        let count = threads.len();
        let plural = if count == 1 { "" } else { "s" };
        let mut explanation = format!("{what}: {why}; {count} thread{plural} a replica, {idle} while idle");
        for note in seats_in_words(&threads, cores).into_iter().chain(unusable) {
            explanation.push_str("; ");
            explanation.push_str(&note);
        }
        if let Some(doubt) = &cores.doubt {
            explanation.push_str(&format!("; which cores share what is not known, so all count alike: {doubt}"));
        }
        Self { threads, wait, explanation }
    }

    /// With the persist stage, on a thread of its own that is pinned to no core: it waits for the disk most of the
    /// time.
    #[must_use]
    pub fn with_persist(mut self) -> Self {
        self.threads.push(thread(None, vec![Role::Persist]));
        self.explanation.push_str("; one more that writes the log");
        self
    }

    /// How many verify stages there are.
    #[must_use]
    pub fn verify_stages(&self) -> usize {
        self.threads.iter().flat_map(|thread| &thread.roles).filter(|role| matches!(role, Role::Verify(_))).count()
    }
}

/// How many physical cores are left to others, such as a load generator, where `replicas` replicas that are given the
/// same `choice` share a machine of these `cores`: those that no thread of theirs is pinned to, less one for each
/// thread that is pinned to none, which takes whichever it finds. The persist stage, which waits for the disk, does not
/// count.
#[must_use]
pub fn cores_left(choice: &Placement, work: WorkProfile, cores: &Cores, replicas: usize) -> usize {
    let plans = (0..replicas).map(|index| Plan::new(choice, WaitChoice::Auto, work, cores, replicas, index));
    let threads: Vec<Thread> = plans.flat_map(|plan| plan.threads).collect();
    let taken: BTreeSet<usize> = threads.iter().filter_map(|thread| physical_of(thread.core?, cores)).collect();
    let unpinned = threads.iter().filter(|thread| thread.core.is_none()).count();
    let all: BTreeSet<usize> = cores.all().iter().map(|core| core.physical).collect();
    all.len().saturating_sub(taken.len() + unpinned)
}

/// The finest arrangement for which the share has room, its kind, and what else there is to say of why; without any,
/// one thread, on the core `seat`.
fn auto(share: &[PhysicalCore], work: WorkProfile, seat: Option<usize>) -> (Vec<Thread>, &'static str, &'static str) {
    use Role::{Egress, Execute, Network, Order, Verify};
    let verify = share.len().saturating_sub(OTHER_STAGES).clamp(1, VERIFY_MAX);
    let finest_first = [
        (pipelined(verify), "pipelined"),
        (partly(&[&[Network], &[Verify(0)], &[Order, Execute], &[Egress]]), "partly fused"),
        (partly(&[&[Network, Egress], &[Verify(0)], &[Order, Execute]]), "partly fused"),
        (partly(&[&[Network, Egress], &[Verify(0), Order, Execute]]), "partly fused"),
    ];
    let one = || fused().into_iter().map(|thread| Thread { core: seat, ..thread }).collect();
    let to_verify = (work == WorkProfile::VerifyBound).then(|| verifying(share)).flatten();
    to_verify.unwrap_or_else(|| {
        let seated = finest_first.iter().find_map(|(threads, what)| Some((seat_on(threads, share)?, *what, "")));
        seated.unwrap_or_else(|| (one(), "fused", ""))
    })
}

/// A verify stage on each core of the share but those that the other stages need: one, as long as there are more verify
/// stages to be had. `None` if the share is no more than that one.
///
/// Each of these threads has a physical core, and hardware threads that are left over stay idle: what would run there
/// takes the time of a stage that verifies.
fn verifying(share: &[PhysicalCore]) -> Option<(Vec<Thread>, &'static str, &'static str)> {
    use Role::{Egress, Execute, Network, Order};
    let (mut threads, note) = match share.len() {
        0 | 1 => return None,
        cores if cores <= VERIFY_MAX + 1 => (
            partly(&[&[Network, Order, Execute, Egress]]),
            ", all of a replica's but one to verify signatures of requests, which is most of its work",
        ),
        _ => (
            partly(&[&[Network, Egress], &[Order, Execute]]),
            ", as many of a replica's as can be used to verify signatures of requests, which is most of its work",
        ),
    };
    let verify = (share.len() - threads.len()).min(VERIFY_MAX);
    threads.extend((0..verify).map(|stage| thread(None, vec![Role::Verify(stage)])));
    Some((seat_on(&threads, share)?, "partly fused", note))
}

/// A thread for each group of roles, not pinned yet.
fn partly(groups: &[&[Role]]) -> Vec<Thread> {
    groups.iter().map(|roles| thread(None, roles.to_vec())).collect()
}

/// These threads, each pinned to a core of the share; `None` if it has no room for them: hot stages need physical cores
/// of their own.
fn seat_on(threads: &[Thread], share: &[PhysicalCore]) -> Option<Vec<Thread>> {
    let mut order: Vec<&Thread> = threads.iter().collect();
    if threads.len() > share.len() {
        order.sort_by_key(|thread| !thread.is_hot());
    }
    let (first, rest) = order.split_at(share.len().min(threads.len()));
    if rest.iter().any(|thread| thread.is_hot()) {
        return None;
    }
    let mut seats: Vec<(&Thread, usize)> = Vec::new();
    // Hardware threads of physical cores that are taken, each with who is there.
    let mut siblings: Vec<(&Thread, usize)> = Vec::new();
    for (&thread, core) in first.iter().zip(share) {
        let (own, others) = core.threads.split_first()?;
        seats.push((thread, *own));
        siblings.extend(others.iter().map(|other| (thread, *other)));
    }
    for &thread in rest {
        let rank = |(other, _): &(&Thread, usize)| (!thread.exchanges_data_with(other), other.is_hot());
        let best = (0..siblings.len()).min_by_key(|at| rank(&siblings[*at]))?;
        seats.push((thread, siblings.remove(best).1));
    }
    let core_of = |thread: &Thread| seats.iter().find(|(seated, _)| *seated == thread).map(|(_, core)| *core);
    Some(threads.iter().map(|thread| Thread { core: core_of(thread), ..thread.clone() }).collect())
}

impl Thread {
    /// Whether it runs a stage that computes all the time under load.
    fn is_hot(&self) -> bool {
        self.roles.iter().any(|role| matches!(role, Role::Verify(_) | Role::Order))
    }

    /// Whether one of its stages is the other one's neighbour on the data path, so that they gain by common caches.
    fn exchanges_data_with(&self, other: &Self) -> bool {
        let neighbours = |role: &Role, other: &Role| match role {
            Role::Network => matches!(other, Role::Verify(_)),
            Role::Execute => *other == Role::Order,
            Role::Egress => *other == Role::Network,
            Role::Verify(_) | Role::Order | Role::Persist => false,
        };
        self.roles.iter().any(|role| other.roles.iter().any(|other| neighbours(role, other)))
    }
}

/// Unpins threads from cores that the process may not use, and tells of them.
fn unpin_unusable(threads: &mut [Thread], cores: &Cores) -> Vec<String> {
    if cores.all().is_empty() {
        // The system does not tell.
        return Vec::new();
    }
    let mut notes = Vec::new();
    for thread in threads {
        if let Some(core) = thread.core.take_if(|core| cores.get(*core).is_none()) {
            notes
                .push(format!("{} is not pinned, since core {core} is not one that this process may use", thread.name));
        }
    }
    notes
}

/// Whether there are several threads, each on a physical core of its own.
fn have_physical_cores(threads: &[Thread], cores: &Cores) -> bool {
    let mut physical: Vec<usize> = threads.iter().filter_map(|thread| physical_of(thread.core?, cores)).collect();
    physical.sort_unstable();
    physical.dedup();
    threads.len() > 1 && physical.len() == threads.len()
}

fn physical_of(core: usize, cores: &Cores) -> Option<usize> {
    cores.get(core).map(|core| core.physical)
}

/// Which threads there are, where they are pinned, on which nodes that is, and which of them share a physical core.
fn seats_in_words(threads: &[Thread], cores: &Cores) -> Vec<String> {
    if threads.len() == 1 && threads[0].core.is_none() {
        return Vec::new();
    }
    let seats: Vec<(&Thread, usize)> = threads.iter().filter_map(|thread| Some((thread, thread.core?))).collect();
    let pinned: Vec<String> = seats.iter().map(|(thread, core)| format!("{} to {core}", thread.name)).collect();
    let unpinned: Vec<&str> = threads.iter().filter(|t| t.core.is_none()).map(|t| t.name.as_str()).collect();
    let mut nodes: Vec<usize> = seats.iter().filter_map(|(_, core)| Some(cores.get(*core)?.node)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let nodes: Vec<String> = nodes.iter().map(usize::to_string).collect();
    let on = match nodes.len() {
        _ if !cores.has_nodes() || nodes.is_empty() => String::new(),
        1 => format!(" (node {})", nodes[0]),
        _ => format!(" (nodes {})", nodes.join(", ")),
    };
    let mut notes = Vec::new();
    if !pinned.is_empty() {
        notes.push(format!("pinned: {}{on}", pinned.join(", ")));
    }
    if !unpinned.is_empty() {
        notes.push(format!("unpinned: {}", unpinned.join(", ")));
    }
    for (at, (thread, core)) in seats.iter().enumerate() {
        for (other, others) in &seats[at + 1..] {
            let physical = physical_of(*core, cores);
            if core == others {
                notes.push(format!("{} and {} share core {core}", thread.name, other.name));
            } else if physical.is_some() && physical == physical_of(*others, cores) {
                notes.push(format!("{} and {} share a physical core", thread.name, other.name));
            }
        }
    }
    notes
}

/// Spinning pays only for a thread that has a core to itself; anywhere else it takes the core that its neighbour needs.
const fn resolve_wait(choice: WaitChoice, core_each: bool) -> Wait {
    match choice {
        WaitChoice::Spin => Wait::Spin,
        WaitChoice::Yield => Wait::Yield,
        WaitChoice::Auto if core_each => Wait::Spin,
        WaitChoice::Auto | WaitChoice::Park => Wait::Park,
    }
}

/// A thread with these roles, called by them.
fn thread(core: Option<usize>, mut roles: Vec<Role>) -> Thread {
    // The derived order of roles is the data path's.
    roles.sort_unstable();
    let name = roles.iter().map(Role::to_string).collect::<Vec<_>>().join("+");
    Thread { name, core, roles }
}

fn fused() -> Vec<Thread> {
    let roles = vec![Role::Network, Role::Verify(0), Role::Order, Role::Execute, Role::Egress];
    vec![Thread { name: "fused".to_owned(), ..thread(None, roles) }]
}

fn pipelined(verify: usize) -> Vec<Thread> {
    let others = [Role::Network, Role::Order, Role::Execute, Role::Egress];
    others.into_iter().chain((0..verify).map(Role::Verify)).map(|role| thread(None, vec![role])).collect()
}

/// A thread for each group; verify stages are numbered as they come.
fn grouped(groups: &[Group]) -> Vec<Thread> {
    let mut verify = 0..;
    let mut role = |stage: &PlacedStage| match stage {
        PlacedStage::Network => Role::Network,
        PlacedStage::Verify => Role::Verify(verify.next().unwrap_or_default()),
        PlacedStage::Order => Role::Order,
        PlacedStage::Execute => Role::Execute,
        PlacedStage::Egress => Role::Egress,
    };
    groups.iter().map(|group| thread(group.core, group.stages.iter().map(&mut role).collect())).collect()
}

/// Network, order, execute, egress, verify..: stages with the same core share a thread.
fn by_cores(cores: &[usize]) -> Vec<Thread> {
    let roles = [Role::Network, Role::Order, Role::Execute, Role::Egress];
    let roles = roles.into_iter().chain((0..cores.len() - OTHER_STAGES).map(Role::Verify));
    let mut threads: Vec<(usize, Vec<Role>)> = Vec::new();
    for (role, &core) in roles.zip(cores) {
        match threads.iter_mut().find(|(other, _)| *other == core) {
            Some((_, roles)) => roles.push(role),
            None => threads.push((core, vec![role])),
        }
    }
    threads.into_iter().map(|(core, roles)| thread(Some(core), roles)).collect()
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str("network"),
            Self::Verify(index) => write!(f, "verify-{index}"),
            Self::Order => f.write_str("order"),
            Self::Persist => f.write_str("persist"),
            Self::Execute => f.write_str("execute"),
            Self::Egress => f.write_str("egress"),
        }
    }
}

#[cfg(test)]
mod tests;
