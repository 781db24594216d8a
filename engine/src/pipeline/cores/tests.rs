//! Machines as the kernel tells of them.

use std::collections::HashMap;
use std::ops::Range;

use proptest::prelude::*;

use super::*;

/// The files of `/sys/devices/system` of some machine.
#[derive(Clone, Debug, Default)]
pub(in crate::pipeline) struct Sysfs(HashMap<String, String>);

impl Sysfs {
    /// A machine of `nodes` nodes, each of so many physical cores with so many hardware threads each, numbered as Linux
    /// does: first one thread of each physical core, node by node, then the others in the same order.
    pub(in crate::pipeline) fn machine(nodes: usize, physical: usize, threads: usize) -> Self {
        let cores = nodes * physical;
        let mut files = Self::default();
        files.set("cpu/online", &format!("0-{}", cores * threads - 1));
        files.set("node/online", &format!("0-{}", nodes - 1));
        let of = |core: usize| (0..threads).map(|thread| (core + thread * cores).to_string()).collect::<Vec<_>>();
        for core in 0..cores {
            for thread in of(core) {
                files.set(&format!("cpu/cpu{thread}/topology/thread_siblings_list"), &of(core).join(","));
                files.set(&format!("cpu/cpu{thread}/topology/core_id"), &(core % physical).to_string());
                files.set(&format!("cpu/cpu{thread}/topology/physical_package_id"), &(core / physical).to_string());
            }
        }
        for node in 0..nodes {
            let ranges = (0..threads).map(|thread| {
                let first = node * physical + thread * cores;
                format!("{first}-{}", first + physical - 1)
            });
            files.set(&format!("node/node{node}/cpulist"), &ranges.collect::<Vec<_>>().join(","));
        }
        files
    }

    fn set(&mut self, file: &str, text: &str) {
        self.0.insert(file.to_owned(), format!("{text}\n"));
    }

    fn without(mut self, part: &str) -> Self {
        self.0.retain(|file, _| !file.contains(part));
        self
    }

    fn with(mut self, file: &str, text: &str) -> Self {
        self.set(file, text);
        self
    }

    pub(in crate::pipeline) fn cores(&self, allowed: impl IntoIterator<Item = usize>) -> Cores {
        Cores::read(&allowed.into_iter().collect::<Vec<_>>(), |file| self.0.get(file).cloned())
    }
}

/// The hardware threads of each physical core of a share.
fn threads(share: &[PhysicalCore]) -> Vec<&[usize]> {
    share.iter().map(|core| &core.threads[..]).collect()
}

fn nodes_of(share: &[PhysicalCore]) -> Vec<usize> {
    let mut nodes: Vec<usize> = share.iter().map(|core| core.node).collect();
    nodes.dedup();
    nodes
}

#[test]
fn two_cores_are_two_physical_ones_and_too_few_for_four_replicas() {
    let cores = Sysfs::machine(1, 2, 1).cores(0..2);
    assert_eq!(cores, Cores::flat(&[0, 1]));
    assert_eq!((cores.in_words().as_str(), cores.has_nodes()), ("2 cores", false));
    assert_eq!(cores.share(4, 0, 12), []);
    assert_eq!(threads(&cores.share(1, 0, 12)), [[0], [1]], "one replica has all of them");
}

#[test]
fn hardware_threads_stay_with_their_physical_core() {
    let cores = Sysfs::machine(1, 8, 2).cores(0..16);
    assert_eq!(cores.doubt, None);
    assert_eq!(cores.in_words(), "16 cores (8 physical)");
    assert_eq!(cores.get(11), Some(&Core { id: 11, physical: 3, node: 0 }));
    for replica in 0..4 {
        assert_eq!(threads(&cores.share(4, replica, 12)), [[replica, replica + 8]]);
    }
    assert_eq!(threads(&cores.share(2, 1, 12)), [[3, 11], [4, 12], [5, 13]]);
}

#[test]
fn shares_stay_on_one_node_where_they_fit() {
    let cores = Sysfs::machine(2, 16, 2).cores(0..64);
    assert_eq!((cores.in_words().as_str(), cores.has_nodes()), ("64 cores (32 physical) on 2 nodes", true));
    // Seven each, two replicas a node, by turns.
    let shares: Vec<_> = (0..4).map(|replica| cores.share(4, replica, 12)).collect();
    assert_eq!(shares.iter().map(|share| nodes_of(share)).collect::<Vec<_>>(), [[0], [1], [0], [1]]);
    assert!(shares.iter().all(|share| share.len() == 7));
    assert_eq!(threads(&shares[3])[0], [23, 55]);
    // Ten each would not fit: eight do.
    let shares: Vec<_> = (0..3).map(|replica| cores.share(3, replica, 12)).collect();
    assert!(shares.iter().all(|share| share.len() == 8 && nodes_of(share).len() == 1), "{shares:?}");
    // One replica takes what it has a use for, on one node.
    assert_eq!(threads(&cores.share(1, 0, 12)).len(), 12);
    assert_eq!(nodes_of(&cores.share(1, 0, 20)), [0], "sixteen of one node instead of twenty of two");
    // Nodes of one core each: half of what there is does not fit on one.
    let tiny = Sysfs::machine(8, 1, 1).cores(0..8);
    assert_eq!((tiny.share(1, 0, 12).len(), nodes_of(&tiny.share(1, 0, 12)).len()), (8, 8));
}

#[test]
fn cores_that_are_offline_or_forbidden_do_not_count() {
    let files = Sysfs::machine(1, 8, 2).with("cpu/online", "0-5,8-13");
    let cores = files.cores(0..16);
    assert_eq!((cores.doubt.as_ref(), cores.in_words().as_str()), (None, "12 cores (6 physical)"));
    assert_eq!(cores.get(6), None);
    // A cpuset that leaves one thread of most physical cores, on both nodes.
    let cores = Sysfs::machine(2, 4, 2).cores([1, 2, 3, 9, 13, 14, 6]);
    assert_eq!((cores.doubt.as_ref(), cores.in_words().as_str()), (None, "7 cores (5 physical) on 2 nodes"));
    assert_eq!(threads(&cores.share(1, 0, 12)), [&[1, 9][..], &[2], &[3]], "the node that has more");
    assert_eq!(cores.get(14), Some(&Core { id: 14, physical: 6, node: 1 }));
    let halves = Sysfs::machine(1, 4, 2).cores(4..8);
    assert_eq!(halves.get(5), Some(&Core { id: 5, physical: 1, node: 0 }), "its other half is somebody else's");
    assert_eq!(halves.in_words(), "4 cores");
}

#[test]
fn kernels_without_nodes_tell_of_sockets_and_new_ones_use_another_name() {
    let files = Sysfs::machine(2, 4, 1).without("node/");
    assert!(files.cores(0..8).has_nodes());
    let unknown = (0..8)
        .fold(files.clone(), |files, core| files.with(&format!("cpu/cpu{core}/topology/physical_package_id"), "-1"));
    assert_eq!(unknown.cores(0..8), Cores::flat(&[0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(files.without("physical_package_id").cores(0..2), Cores::flat(&[0, 1]));
    let mut newer = Sysfs::machine(1, 4, 2);
    newer.0 = newer.0.into_iter().map(|(file, text)| (file.replace("thread_siblings", "core_cpus"), text)).collect();
    assert_eq!(newer.cores(0..8), Sysfs::machine(1, 4, 2).cores(0..8));
    // A node of memory alone.
    let memory = Sysfs::machine(1, 4, 1).with("node/online", "0-1").with("node/node1/cpulist", "");
    assert_eq!(memory.cores(0..4), Cores::flat(&[0, 1, 2, 3]));
}

#[test]
fn nonsense_is_told_and_makes_all_cores_alike() {
    let machine = || Sysfs::machine(2, 2, 2);
    let threads = |core: usize| format!("cpu/cpu{core}/topology/thread_siblings_list");
    for (files, part) in [
        (machine().with(&threads(3), "x"), "thread_siblings_list is 'x'"),
        (machine().with(&threads(3), "7-3"), "thread_siblings_list is '7-3'"),
        (machine().with(&threads(3), "3,99999999999"), "is '3,99999999999'"),
        (machine().with(&threads(3), "0-4096"), "is '0-4096'"),
        (machine().with(&threads(3), "7"), "does not list core 3 itself"),
        (machine().with(&threads(3), "3"), "cores 7 and 3 disagree"),
        (machine().without("cpu2/topology"), "cpu/cpu2/topology/thread_siblings_list is missing"),
        (machine().with("cpu/online", "all"), "cpu/online is 'all'"),
        (machine().with("node/online", "0"), "core 2 is on no node"),
        (machine().with("node/node1/cpulist", "1-3,6-7"), "core 1 is on nodes 0 and 1"),
        (machine().without("node1/"), "node/node1/cpulist is missing"),
        (
            machine().without("node/").with("cpu/cpu0/topology/physical_package_id", "one"),
            "physical_package_id is 'one'",
        ),
        (
            machine().with("node/node0/cpulist", "0-1,4,6-7").with("node/node1/cpulist", "2-3,5"),
            "are one physical core on two nodes",
        ),
        (Sysfs::default(), "cpu/cpu0/topology/thread_siblings_list is missing"),
    ] {
        let cores = files.cores(0..8);
        let doubt = cores.doubt.clone().unwrap_or_default();
        assert!(doubt.contains(part), "'{doubt}' lacks '{part}'");
        assert_eq!(Cores { doubt: None, ..cores }, Cores::flat(&[0, 1, 2, 3, 4, 5, 6, 7]), "{part}");
    }
}

#[test]
fn this_machine_tells_of_all_cores_that_may_be_used() {
    let cores = Cores::here();
    let ids: Vec<usize> = cores.all().iter().map(|core| core.id).collect();
    let mut allowed = platform::cores();
    allowed.sort_unstable();
    assert_eq!(ids, allowed);
}

#[test]
fn replicas_without_a_share_are_dealt_out_to_all_cores() {
    let seats = |(nodes, physical, threads): (usize, usize, usize), replicas: usize| {
        let cores = Sysfs::machine(nodes, physical, threads).cores(0..nodes * physical * threads);
        (0..replicas).map(|index| cores.seat(replicas, index).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(seats((1, 2, 1), 4), [0, 0, 1, 1]);
    assert_eq!(seats((1, 2, 1), 7), [0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(seats((1, 3, 1), 4), [0, 1, 2, 2], "the first one is the primary");
    assert_eq!(seats((1, 4, 1), 4), [0, 1, 2, 3], "one for each, though none is left");
    // 0 and 2 are one physical core, 1 and 3 the other.
    assert_eq!(seats((1, 2, 2), 4), [0, 1, 2, 3]);
    assert_eq!(seats((1, 4, 2), 4), [0, 1, 2, 3], "physical cores first");
    assert_eq!(Sysfs::machine(1, 1, 1).cores([0]).seat(4, 1), None);
    assert_eq!(Cores::flat(&[]).seat(4, 1), None);
}

/// What of a machine a process may use.
fn some(cores: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::sample::subsequence((0..cores).collect::<Vec<_>>(), 1..=cores)
}

fn machines() -> impl Strategy<Value = (Sysfs, Vec<usize>)> {
    let shape: (Range<usize>, Range<usize>, Range<usize>) = (1..4, 1..9, 1..4);
    shape.prop_flat_map(|(nodes, physical, threads)| {
        (Just(Sysfs::machine(nodes, physical, threads)), some(nodes * physical * threads))
    })
}

proptest! {
    #[test]
    fn no_two_replicas_share_a_physical_core((files, allowed) in machines(), replicas in 1usize..8, most in 1usize..13) {
        let cores = files.cores(allowed.iter().copied());
        prop_assert_eq!(&cores.doubt, &None);
        let shares: Vec<_> = (0..replicas).map(|replica| cores.share(replicas, replica, most)).collect();
        prop_assert!(shares.iter().all(|share| share.len() == shares[0].len() && share.len() <= most));
        let mut used: Vec<usize> = Vec::new();
        for thread in shares.iter().flatten().flat_map(|core| &core.threads) {
            used.push(cores.get(*thread).unwrap().id);
        }
        let count = used.len();
        used.sort_unstable();
        used.dedup();
        prop_assert_eq!(used.len(), count);
        let physical = cores.by_node().concat().len();
        let given: usize = shares.iter().map(Vec::len).sum();
        prop_assert!(given + usize::from(replicas > 1) <= physical || given == 0);
        // As large as they can be, or on one node each.
        let even = (physical - usize::from(replicas > 1)) / replicas;
        let local = shares.iter().all(|share| nodes_of(share).len() <= 1);
        prop_assert!(shares[0].len() == even.min(most) || local && 2 * shares[0].len() >= even.min(most));
    }

    #[test]
    fn seats_are_shared_evenly((files, allowed) in machines(), replicas in 1usize..32) {
        let cores = files.cores(allowed.iter().copied());
        let seats: Option<Vec<usize>> = (0..replicas).map(|index| cores.seat(replicas, index)).collect();
        prop_assert_eq!(seats.is_some(), allowed.len() > 1);
        let seats = seats.unwrap_or_default();
        prop_assert!(seats.iter().all(|seat| allowed.contains(seat)));
        let counts = || allowed.iter().map(|core| seats.iter().filter(|seat| *seat == core).count());
        let most = counts().max().unwrap();
        prop_assert!(most <= replicas.div_ceil(allowed.len()).max(1));
    }
}
