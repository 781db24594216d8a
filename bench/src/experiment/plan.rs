//! Which run comes when.
//!
//! A machine drifts: it is warmer, or busier, later than earlier. So all points run once, in an order drawn by chance,
//! before any runs a second time, in another order: drift is spread over all points alike, and none always follows the
//! same other one (a randomised complete block design; Box, Hunter and Hunter, "Statistics for Experimenters", 2005,
//! chapter 4).

use std::fs::File;

use anyhow::Context as _;
use hippodrome_analysis::report::Environment;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::{Map, Value, json};

use super::point::Point;
use crate::cli::run::RunOptions;
use crate::launch::environment;

/// What must not change between the runs of a plan, whatever it compares: the binary, and the machine.
///
/// # Errors
/// If the binary can not be read.
pub(crate) fn circumstances() -> anyhow::Result<Map<String, Value>> {
    let Environment { version, git_commit, build_profile, cpu, cores, kernel, .. } = environment();
    let mut hasher = blake3::Hasher::new();
    // A tree may have changed since its last commit.
    std::io::copy(&mut File::open("/proc/self/exe").context("this binary")?, &mut hasher).context("this binary")?;
    let binary = hasher.finalize().to_hex();
    let build = json!({
        "version": version, "git_commit": git_commit, "build_profile": build_profile, "binary": binary.as_str(),
    });
    let machine = json!({ "cpu": cpu, "cores": cores, "kernel": kernel });
    Ok(Map::from_iter([("build".to_owned(), build), ("machine".to_owned(), machine)]))
}

/// One run of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Its place among all runs, from 1.
    pub(crate) order: u32,
    /// Which point, from 0.
    pub(crate) point: usize,
    /// Which round, from 1.
    pub(crate) repeat: u32,
}

/// All runs of an experiment.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What is compared.
    pub(crate) points: Vec<Point>,
    /// How often each point runs.
    pub(crate) repeats: u32,
    /// What the order, and the load of each round, was drawn from.
    pub(crate) seed: u64,
    /// The runs in their order.
    pub(crate) slots: Vec<Slot>,
}

impl Plan {
    /// Draws the order: each round runs every point once, in an order of its own.
    pub(crate) fn new(points: Vec<Point>, repeats: u32, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut slots, mut order) = (Vec::new(), 0);
        for repeat in 1..=repeats {
            let mut round: Vec<usize> = (0..points.len()).collect();
            round.shuffle(&mut random);
            for point in round {
                order += 1;
                slots.push(Slot { order, point, repeat });
            }
        }
        Self { points, repeats, seed, slots }
    }

    /// The options of a run. Unless a seed was given, all points of a round have the same load, rounds have different
    /// ones.
    pub(crate) fn options(&self, slot: Slot) -> RunOptions {
        let mut options = self.points[slot.point].options.clone();
        // TOML's integers have a sign.
        let seed = self.seed.wrapping_add(u64::from(slot.repeat)) & (u64::MAX >> 1);
        options.load.seed.get_or_insert(seed);
        options
    }

    /// The name of a run's directory: `003-auth-mac-batch-fixed-10-r2`.
    pub(crate) fn name(&self, slot: Slot) -> String {
        let slug = slug(&self.points[slot.point].label());
        format!("{:03}-{slug}-r{}", slot.point + 1, slot.repeat)
    }
}

/// Longest part of a directory's name that tells a point's settings.
const SLUG_BYTES_MAX: usize = 80;

/// A text as a part of a path that no shell has to quote.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || c == '.' => slug.push(c),
            _ if slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug.truncate(SLUG_BYTES_MAX);
    slug.trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::experiment::point::Setting;

    fn plan(clients: &[&str], repeats: u32, seed: u64) -> Plan {
        let point = |value: &&str| Point::new(&[], vec![Setting::new("clients", value).unwrap()], Vec::new()).unwrap();
        Plan::new(clients.iter().map(point).collect(), repeats, seed)
    }

    #[test]
    fn each_round_runs_every_point_once() {
        let plan = plan(&["1", "2", "3", "4", "5"], 4, 7);
        assert_eq!(plan.slots.len(), 20);
        for (index, round) in plan.slots.chunks(5).enumerate() {
            assert_eq!(round.iter().map(|slot| slot.point).collect::<BTreeSet<_>>().len(), 5);
            assert!(round.iter().all(|slot| slot.repeat as usize == index + 1));
        }
        let orders: Vec<u32> = plan.slots.iter().map(|slot| slot.order).collect();
        assert_eq!(orders, (1..=20).collect::<Vec<_>>());
    }

    #[test]
    fn rounds_have_orders_of_their_own_that_the_seed_decides() {
        let points = |plan: &Plan| plan.slots.iter().map(|slot| slot.point).collect::<Vec<_>>();
        let (a, same, other) = (plan(&["1"; 1], 1, 7), plan(&["1"; 1], 1, 7), plan(&["1", "2", "3", "4", "5"], 4, 8));
        assert_eq!(points(&a), points(&same));
        let seven = points(&plan(&["1", "2", "3", "4", "5"], 4, 7));
        assert_eq!(seven, points(&plan(&["1", "2", "3", "4", "5"], 4, 7)));
        assert_ne!(seven, points(&other));
        assert_eq!(seven.chunks(5).collect::<BTreeSet<_>>().len(), 4, "{seven:?}");
    }

    #[test]
    fn points_of_a_round_have_the_same_load() {
        let plan = plan(&["1", "2"], 2, u64::MAX);
        let seeds: Vec<u64> = plan.slots.iter().map(|slot| plan.options(*slot).load.seed.unwrap()).collect();
        assert_eq!((seeds[0], seeds[2]), (seeds[1], seeds[3]));
        assert_ne!(seeds[0], seeds[2]);
        assert!(seeds.iter().all(|seed| *seed <= i64::MAX as u64));
        let given = Point::new(&[Setting::new("seed", "5").unwrap()], Vec::new(), Vec::new()).unwrap();
        let plan = Plan::new(vec![given], 2, 1);
        assert!(plan.slots.iter().all(|slot| plan.options(*slot).load.seed == Some(5)));
    }

    #[test]
    fn directories_have_names_that_tell_and_need_no_quotes() {
        assert_eq!(slug("auth=mac batch=time:100,2ms"), "auth-mac-batch-time-100-2ms");
        assert_eq!(slug("network=../../etc/x.toml"), "network-..-..-etc-x.toml");
        assert_eq!(slug(&"ä/".repeat(200)), "");
        let plan = plan(&["1"], 1, 1);
        assert_eq!(plan.name(plan.slots[0]), "001-clients-1-r1");
    }
}
