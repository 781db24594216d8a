//! Placement: which stages share a thread, and which core each thread is pinned to.

use crate::ring::wait::Wait;
use crate::settings::{Placement, WaitChoice};

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
    /// Its name.
    pub name: String,
    /// The core that it is pinned to.
    pub core: Option<usize>,
    /// Its stages, in data-path order.
    pub roles: Vec<Role>,
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

impl Plan {
    /// Decides.
    ///
    /// `cores` are those that the process may use, `replicas_here` how many replicas share the machine and `index`
    /// which of them this is. One core is left to the load generator where there are enough.
    #[must_use]
    pub fn new(choice: &Placement, wait: WaitChoice, cores: &[usize], replicas_here: usize, index: usize) -> Self {
        let replicas_here = replicas_here.max(1);
        let share = cores.len().saturating_sub(usize::from(replicas_here > 1)) / replicas_here;
        let mine: Vec<usize> = cores.iter().copied().skip((index % replicas_here) * share).take(share).collect();
        let available = format!("{} cores for {replicas_here} replicas on this machine", cores.len());
        let (threads, what) = match choice {
            Placement::Fused => (fused(None), "fused: asked for".to_owned()),
            Placement::Cores(cores) => (explicit(cores), "explicit cores: asked for".to_owned()),
            Placement::Pipelined => {
                let verify = share.saturating_sub(OTHER_STAGES).clamp(1, VERIFY_MAX);
                let pin = if share >= OTHER_STAGES + verify { Some(&mine[..]) } else { None };
                (pipelined(verify, pin), format!("pipelined: asked for; {available}"))
            }
            Placement::Auto => match share {
                0 | 1 => (fused(None), format!("fused, unpinned: {available}")),
                2..=4 => (partly_fused(&mine), format!("partly fused, pinned to {mine:?}: {available}")),
                _ => {
                    let verify = (share - OTHER_STAGES).min(VERIFY_MAX);
                    (pipelined(verify, Some(&mine)), format!("pipelined, pinned to {mine:?}: {available}"))
                }
            },
        };
        let wait = resolve_wait(wait, &threads);
        let idle = match wait {
            Wait::Spin => "spinning",
            Wait::Yield => "yielding",
            Wait::Park => "parked",
        };
        let count = threads.len();
        let explanation =
            format!("{what}; {count} thread{} a replica, {idle} while idle", if count == 1 { "" } else { "s" });
        Self { threads, wait, explanation }
    }

    /// With the persist stage, on a thread of its own that is pinned to no core: it waits for the disk most of the
    /// time.
    #[must_use]
    pub fn with_persist(mut self) -> Self {
        self.threads.push(thread("persist", None, vec![Role::Persist]));
        self.explanation.push_str("; one more that writes the log");
        self
    }

    /// How many verify stages there are.
    #[must_use]
    pub fn verify_stages(&self) -> usize {
        self.threads.iter().flat_map(|thread| &thread.roles).filter(|role| matches!(role, Role::Verify(_))).count()
    }
}

/// Spinning pays only for a thread that has a core to itself; anywhere else it takes the core that its neighbour needs.
fn resolve_wait(choice: WaitChoice, threads: &[Thread]) -> Wait {
    let core_each = threads.len() > 1 && threads.iter().all(|thread| thread.core.is_some());
    match choice {
        WaitChoice::Spin => Wait::Spin,
        WaitChoice::Yield => Wait::Yield,
        WaitChoice::Auto if core_each => Wait::Spin,
        WaitChoice::Auto | WaitChoice::Park => Wait::Park,
    }
}

fn thread(name: &str, core: Option<usize>, roles: Vec<Role>) -> Thread {
    Thread { name: name.to_owned(), core, roles }
}

fn fused(core: Option<usize>) -> Vec<Thread> {
    vec![thread("fused", core, vec![Role::Network, Role::Verify(0), Role::Order, Role::Execute, Role::Egress])]
}

fn partly_fused(cores: &[usize]) -> Vec<Thread> {
    use Role::{Egress, Execute, Network, Order, Verify};
    match *cores {
        [a, b] => vec![
            thread("network", Some(a), vec![Network, Egress]),
            thread("order", Some(b), vec![Verify(0), Order, Execute]),
        ],
        [a, b, c] => vec![
            thread("network", Some(a), vec![Network, Egress]),
            thread("verify", Some(b), vec![Verify(0)]),
            thread("order", Some(c), vec![Order, Execute]),
        ],
        [a, b, c, d] => vec![
            thread("network", Some(a), vec![Network]),
            thread("verify", Some(b), vec![Verify(0)]),
            thread("order", Some(c), vec![Order, Execute]),
            thread("egress", Some(d), vec![Egress]),
        ],
        _ => fused(cores.first().copied()),
    }
}

fn pipelined(verify: usize, cores: Option<&[usize]>) -> Vec<Thread> {
    let core = |at: usize| cores.map(|cores| cores[at]);
    let mut threads = vec![
        thread("network", core(0), vec![Role::Network]),
        thread("order", core(1), vec![Role::Order]),
        thread("execute", core(2), vec![Role::Execute]),
        thread("egress", core(3), vec![Role::Egress]),
    ];
    threads.extend((0..verify).map(|i| thread(&format!("verify-{i}"), core(OTHER_STAGES + i), vec![Role::Verify(i)])));
    threads
}

/// Network, order, execute, egress, verify..: stages with the same core share a thread.
fn explicit(cores: &[usize]) -> Vec<Thread> {
    let roles = [Role::Network, Role::Order, Role::Execute, Role::Egress];
    let roles = roles.into_iter().chain((0..cores.len() - OTHER_STAGES).map(Role::Verify));
    let mut threads: Vec<Thread> = Vec::new();
    for (role, &core) in roles.zip(cores) {
        match threads.iter_mut().find(|thread| thread.core == Some(core)) {
            Some(thread) => thread.roles.push(role),
            None => threads.push(thread(&format!("core-{core}"), Some(core), vec![role])),
        }
    }
    for thread in &mut threads {
        // The derived order of roles is the data path's.
        thread.roles.sort_unstable();
    }
    threads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(choice: &Placement, cores: usize, replicas: usize, index: usize) -> Plan {
        Plan::new(choice, WaitChoice::Auto, &(0..cores).collect::<Vec<_>>(), replicas, index)
    }

    fn check(plan: &Plan) {
        let mut roles: Vec<Role> = plan.threads.iter().flat_map(|thread| thread.roles.clone()).collect();
        roles.sort_unstable();
        let mut expected = vec![Role::Network];
        expected.extend((0..plan.verify_stages()).map(Role::Verify));
        expected.extend([Role::Order, Role::Execute, Role::Egress]);
        assert_eq!(roles, expected, "every stage runs exactly once");
    }

    #[test]
    fn few_cores_fuse_and_park() {
        for index in 0..4 {
            let plan = plan(&Placement::Auto, 2, 4, index);
            check(&plan);
            assert_eq!(plan.threads.len(), 1);
            assert_eq!(plan.threads[0].core, None);
            assert_eq!(plan.wait, Wait::Park);
        }
    }

    #[test]
    fn many_cores_pipeline_on_cores_of_their_own_and_spin() {
        let mut used = Vec::new();
        for index in 0..4 {
            let plan = plan(&Placement::Auto, 32, 4, index);
            check(&plan);
            assert_eq!(plan.wait, Wait::Spin);
            assert_eq!(plan.verify_stages(), 3);
            used.extend(plan.threads.iter().map(|thread| thread.core.unwrap()));
        }
        let cores = used.len();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), cores, "no core is shared");
    }

    #[test]
    fn one_replica_on_sixteen_cores_fans_verify_out() {
        let plan = plan(&Placement::Auto, 16, 1, 0);
        check(&plan);
        assert_eq!(plan.verify_stages(), VERIFY_MAX);
    }

    #[test]
    fn every_number_of_cores_gives_a_whole_pipeline() {
        for cores in 0..40 {
            for replicas in [1, 2, 4, 7] {
                check(&plan(&Placement::Auto, cores, replicas, replicas - 1));
                check(&plan(&Placement::Pipelined, cores, replicas, 0));
            }
        }
    }

    #[test]
    fn persist_always_has_a_thread_of_its_own() {
        let choices = [Placement::Auto, Placement::Fused, Placement::Pipelined, Placement::Cores(vec![0; 5])];
        for (choice, cores) in choices.iter().flat_map(|choice| [1, 4, 32].map(|cores| (choice, cores))) {
            let without = plan(choice, cores, 4, 0);
            let with = without.clone().with_persist();
            assert_eq!(with.threads.split_last().unwrap().1, without.threads);
            assert_eq!(with.threads.last().unwrap().roles, [Role::Persist]);
            assert_eq!(with.wait, without.wait, "it does not keep the others from spinning");
        }
    }

    #[test]
    fn equal_cores_fuse_in_data_path_order() {
        let plan = plan(&Placement::Cores(vec![0, 1, 1, 0, 2, 1]), 4, 1, 0);
        check(&plan);
        assert_eq!(plan.threads.len(), 3);
        assert_eq!(plan.threads[0].roles, [Role::Network, Role::Egress]);
        assert_eq!(plan.threads[1].roles, [Role::Verify(1), Role::Order, Role::Execute]);
    }
}
