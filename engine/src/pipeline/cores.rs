//! The cores that a process may use, as far as placement goes: which of them are hardware threads of one physical core,
//! and on which NUMA node each is.
//!
//! Linux tells in `/sys/devices/system` (its Documentation/ABI/stable/sysfs-devices-system-cpu and
//! sysfs-devices-node). Which cores the process may use is its affinity mask, in which the kernel has left out what
//! cpusets of control groups forbid. All that follows is a pure function of these texts, so that other machines than
//! the own one can be tested.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::limits::CORES_MAX;
use crate::platform;

/// Where the kernel tells of cores and nodes.
const SYSTEM: &str = "/sys/devices/system";

/// What the kernel calls a CPU: a core, or a hardware thread of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// Its number.
    pub id: usize,
    /// The lowest number among the hardware threads of its physical core, whether the process may use that one or not.
    pub physical: usize,
    /// Its NUMA node; its socket where the kernel knows no nodes.
    pub node: usize,
}

/// A physical core with those of its hardware threads that the process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysicalCore {
    /// Its NUMA node.
    pub node: usize,
    /// Numbers of the hardware threads, ascending; one at least.
    pub threads: Vec<usize>,
}

/// All cores that the process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    all: Vec<Core>,
    /// Why the kernel's word on physical cores and nodes is not taken, if it is not: then each core counts as a
    /// physical one, and all are on node 0.
    pub doubt: Option<String>,
}

impl Cores {
    /// Of this process.
    #[must_use]
    pub fn here() -> Self {
        Self::read(&platform::cores(), |file| fs::read_to_string(Path::new(SYSTEM).join(file)).ok())
    }

    /// Of a process that may use the cores `allowed`, where `read` gives the text of a file of `/sys/devices/system`.
    #[must_use]
    pub fn read(allowed: &[usize], read: impl Fn(&str) -> Option<String>) -> Self {
        let mut allowed = allowed.to_vec();
        allowed.sort_unstable();
        allowed.dedup();
        match Told::of(&allowed, &read) {
            Ok(Told(all)) => Self { all, doubt: None },
            Err(doubt) => Self { doubt: Some(doubt), ..Self::flat(&allowed) },
        }
    }

    /// Each a physical core of its own, all on one node.
    #[must_use]
    pub fn flat(ids: &[usize]) -> Self {
        Self { all: ids.iter().map(|&id| Core { id, physical: id, node: 0 }).collect(), doubt: None }
    }

    /// In order of their numbers.
    #[must_use]
    pub fn all(&self) -> &[Core] {
        &self.all
    }

    /// The one with this number, if the process may use it.
    #[must_use]
    pub fn get(&self, id: usize) -> Option<&Core> {
        self.all.iter().find(|core| core.id == id)
    }

    /// Each node's physical cores in order, the nodes in order.
    fn by_node(&self) -> Vec<Vec<PhysicalCore>> {
        let mut nodes: BTreeMap<usize, BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
        for Core { id, physical, node } in &self.all {
            nodes.entry(*node).or_default().entry(*physical).or_default().push(*id);
        }
        let of_node = |(node, cores): (usize, BTreeMap<usize, Vec<usize>>)| {
            cores.into_values().map(|threads| PhysicalCore { node, threads }).collect()
        };
        nodes.into_iter().map(of_node).collect()
    }

    /// The physical cores of replica number `index` of `replicas` that share this machine; none if there are not
    /// enough for all of them. No two replicas share one. One of all is left to the load generator, unless there is but
    /// one replica.
    ///
    /// All have as many, and no more than `most`. They are on one node, so that a replica's threads share memory and
    /// the last cache: if not all shares fit on nodes, smaller ones are cut, down to half. Only beyond that a share
    /// spans nodes. Each goes to the node that has most left.
    ///
    /// # Panics
    /// If there is no replica.
    #[must_use]
    pub fn share(&self, replicas: usize, index: usize, most: usize) -> Vec<PhysicalCore> {
        let mut nodes = self.by_node();
        let physical: usize = nodes.iter().map(Vec::len).sum();
        let even = (physical.saturating_sub(usize::from(replicas > 1)) / replicas).min(most);
        let fits = |size: &usize| nodes.iter().map(|node| node.len() / size).sum::<usize>() >= replicas;
        let local = (even.div_ceil(2).max(1)..=even).rev().find(fits);
        let Some(size) = local else {
            return nodes.concat().into_iter().skip(index * even).take(even).collect();
        };
        for _ in 0..index {
            take(&mut nodes, size);
        }
        take(&mut nodes, size)
    }

    /// The core for the only thread of replica number `index` of `replicas` that have no [share](Self::share) of this
    /// machine: all cores are dealt out in order, and shared by replicas with neighbouring numbers. Hardware threads of
    /// physical cores that are taken come last. `None` if there are not two cores: then there is nothing to choose.
    ///
    /// # Panics
    /// If there is no replica.
    #[must_use]
    pub fn seat(&self, replicas: usize, index: usize) -> Option<usize> {
        if self.all.len() < 2 {
            return None;
        }
        let physical = self.by_node().concat();
        let deepest = physical.iter().map(|core| core.threads.len()).max()?;
        let by_depth = |depth| physical.iter().filter_map(move |core: &PhysicalCore| core.threads.get(depth).copied());
        let mut dealt: Vec<usize> = (0..deepest).flat_map(by_depth).collect();
        dealt.truncate(replicas);
        // The first replica is the first primary, which has most to do: where it does not come out even, others share.
        dealt.get(dealt.len() - 1 - (replicas - 1 - index) * dealt.len() / replicas).copied()
    }

    /// `16 cores (8 physical) on 2 nodes`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let nodes = self.by_node();
        let (all, physical): (usize, usize) = (self.all.len(), nodes.iter().map(Vec::len).sum());
        let mut words = format!("{all} cores");
        if physical < all {
            words.push_str(&format!(" ({physical} physical)"));
        }
        if nodes.len() > 1 {
            words.push_str(&format!(" on {} nodes", nodes.len()));
        }
        words
    }

    /// Whether there is more than one node.
    #[must_use]
    pub fn has_nodes(&self) -> bool {
        self.all.iter().any(|core| core.node != self.all[0].node)
    }
}

/// Takes `size` physical cores off the node that has most left, the first of several.
fn take(nodes: &mut [Vec<PhysicalCore>], size: usize) -> Vec<PhysicalCore> {
    let node = nodes.iter_mut().min_by_key(|node| Reverse(node.len()));
    node.map(|node| node.drain(..size.min(node.len())).collect()).unwrap_or_default()
}

/// What the kernel tells, checked.
struct Told(Vec<Core>);

impl Told {
    /// # Errors
    /// Names what is missing or can not be true.
    fn of(allowed: &[usize], read: &impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut allowed = allowed.to_vec();
        if let Some(online) = listed("cpu/online", read)? {
            // A mask may hold what was taken offline since.
            allowed.retain(|core| online.contains(core));
        }
        let siblings = siblings(&allowed, read)?;
        let nodes = nodes(&allowed, read)?;
        let core = |id: &usize| Core { id: *id, physical: siblings[id][0], node: nodes[id] };
        let all: Vec<Core> = allowed.iter().map(core).collect();
        let mut firsts: BTreeMap<usize, Core> = BTreeMap::new();
        for core in &all {
            let first = *firsts.entry(core.physical).or_insert(*core);
            if first.node != core.node {
                return Err(format!("cores {} and {} are one physical core on two nodes", first.id, core.id));
            }
        }
        Ok(Self(all))
    }
}

/// Each core with all hardware threads of its physical core, ascending.
fn siblings(allowed: &[usize], read: &impl Fn(&str) -> Option<String>) -> Result<BTreeMap<usize, Vec<usize>>, String> {
    let mut siblings = BTreeMap::new();
    for &core in allowed {
        // The newer name of the same, and the older one.
        let [newer, older] =
            ["core_cpus_list", "thread_siblings_list"].map(|name| format!("cpu/cpu{core}/topology/{name}"));
        let threads = match listed(&older, read)? {
            Some(threads) => threads,
            None => listed(&newer, read)?.ok_or_else(|| format!("{older} is missing"))?,
        };
        if !threads.contains(&core) {
            return Err(format!("{older} does not list core {core} itself"));
        }
        siblings.insert(core, threads);
    }
    for (core, threads) in &siblings {
        if let Some(other) = threads.iter().find(|other| siblings.get(other).is_some_and(|own| own != threads)) {
            return Err(format!(
                "cores {core} and {other} disagree on which hardware threads share their physical core"
            ));
        }
    }
    Ok(siblings)
}

/// Each core's node.
fn nodes(allowed: &[usize], read: &impl Fn(&str) -> Option<String>) -> Result<BTreeMap<usize, usize>, String> {
    let mut node_of = BTreeMap::new();
    let Some(nodes) = listed("node/online", read)? else {
        // A kernel without NUMA still tells of sockets; -1 where it does not know.
        for &core in allowed {
            let file = format!("cpu/cpu{core}/topology/physical_package_id");
            let package = read(&file)
                .map_or(Ok(0), |text| text.trim().parse::<i32>().map_err(|_| format!("{file} is {}", shown(&text))))?;
            node_of.insert(core, usize::try_from(package).unwrap_or(0));
        }
        return Ok(node_of);
    };
    for node in nodes {
        let file = format!("node/node{node}/cpulist");
        for core in listed(&file, read)?.ok_or_else(|| format!("{file} is missing"))? {
            if let Some(other) = node_of.insert(core, node) {
                return Err(format!("core {core} is on nodes {other} and {node}"));
            }
        }
    }
    match allowed.iter().find(|core| !node_of.contains_key(core)) {
        Some(core) => Err(format!("core {core} is on no node")),
        None => Ok(node_of),
    }
}

/// The numbers in a file that lists them, ascending; `None` if there is no such file.
fn listed(file: &str, read: &impl Fn(&str) -> Option<String>) -> Result<Option<Vec<usize>>, String> {
    let Some(text) = read(file) else { return Ok(None) };
    list(text.trim()).map(Some).ok_or_else(|| format!("{file} is {}", shown(&text)))
}

/// `0-3,8`; nothing at all is an empty list, of a node that has memory alone.
fn list(text: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CORES_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

/// The beginning of a text, in quotes.
fn shown(text: &str) -> String {
    format!("'{}'", text.trim().chars().take(40).collect::<String>())
}

#[cfg(test)]
pub(super) mod tests;
