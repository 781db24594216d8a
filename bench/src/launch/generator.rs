//! How many threads the load generator of a run has, and how many connections to each replica, where that is left to
//! the machine.
//!
//! A replica decides for itself where its threads run, by what all replicas of the machine know
//! ([placement](hippodrome_engine::pipeline::placement)). The launcher knows the same, and decides what they leave.

use hippodrome_engine::pipeline::cores::Cores;
use hippodrome_engine::pipeline::placement::{WorkProfile, cores_left};

use crate::cli::run::RunOptions;

/// Most threads that a load generator has unless more are asked for: on 16 cores, each of four was busy for less than
/// half of the time, with tags and with signatures (`hippodrome run`).
const THREADS_AUTO_MAX: usize = 4;

/// The threads and connections of a run's load generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generator {
    /// Connections to each replica, at least one for each thread.
    pub(crate) connections: u32,
    /// Threads.
    pub(crate) threads: u32,
}

impl Generator {
    /// For a run with these options, which have been checked, whose processes may use `cores`.
    pub(crate) fn of(options: &RunOptions, cores: &Cores) -> Self {
        let (connections, threads) = (options.generator.connections.given(), options.generator.load_threads.given());
        let threads = threads.unwrap_or_else(|| {
            let work = WorkProfile::of(&options.cluster.settings());
            let left = cores_left(&options.replica.placement, work, cores, usize::from(options.replicas));
            let threads = u32::try_from(left.clamp(1, THREADS_AUTO_MAX)).unwrap_or(1);
            threads.min(options.clients).min(connections.unwrap_or(u32::MAX))
        });
        Self { connections: connections.unwrap_or(threads), threads }
    }

    /// What `auto` came to, as a comment for a configuration file; empty if both numbers were given.
    pub(super) fn remark(self, options: &RunOptions) -> String {
        let given = options.generator;
        if given.connections.given().and(given.load_threads.given()).is_some() {
            return String::new();
        }
        let Self { connections, threads } = self;
        format!("# What auto came to in this run: connections = {connections}, load_threads = {threads}\n")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::run::RunFile;

    /// Threads and connections on a machine of so many cores that are all alike.
    fn on(cores: usize, flags: &[&str]) -> (u32, u32) {
        let options = RunFile::try_parse_from(flags).unwrap().options;
        options.load.check().unwrap();
        options.generator.check(options.clients).unwrap();
        let Generator { connections, threads } = Generator::of(&options, &Cores::flat(&(0..cores).collect::<Vec<_>>()));
        (threads, connections)
    }

    #[test]
    fn the_load_generator_has_the_cores_that_replicas_leave() {
        // Four replicas share what there is but for one core: one core each, three each, four each, 12 at most.
        for (cores, threads) in [(0, 1), (1, 1), (2, 1), (4, 1), (5, 1), (7, 3), (16, 4), (17, 1), (19, 3), (64, 4)] {
            assert_eq!(on(cores, &[]), (threads, threads), "{cores} cores");
        }
        // Ten cores of a replica are enough to verify.
        assert_eq!([on(49, &[]), on(49, &["--auth", "ed25519"])], [(1, 1), (4, 4)]);
        assert_eq!([on(16, &["--placement", "fused"]), on(7, &["--placement", "fused"])], [(4, 4), (3, 3)]);
        assert_eq!(on(16, &["--placement", "network+egress,verify,verify,order+execute"]), (1, 1));
        assert_eq!(on(16, &["--placement", "network+egress@2,verify@3,order+execute@4"]), (4, 4));
    }

    #[test]
    fn what_is_given_is_taken_and_the_other_follows() {
        assert_eq!(on(2, &["--load-threads", "4"]), (4, 4));
        assert_eq!(on(16, &["--load-threads", "2"]), (2, 2));
        assert_eq!(on(16, &["--connections", "3"]), (3, 3));
        assert_eq!(on(16, &["--connections", "8"]), (4, 8));
        assert_eq!(on(16, &["--connections", "8", "--load-threads", "1"]), (1, 8));
        assert_eq!(on(16, &["--clients", "2"]), (2, 2));
        assert_eq!(on(16, &["--load-threads", "auto", "--connections", "auto"]), (4, 4));
    }

    #[test]
    fn what_auto_came_to_is_remarked() {
        let remark = |flags: &[&str]| {
            let options = RunFile::try_parse_from(flags).unwrap().options;
            Generator { connections: 3, threads: 2 }.remark(&options)
        };
        let expected = "# What auto came to in this run: connections = 3, load_threads = 2\n";
        assert_eq!([remark(&[]), remark(&["--connections", "3"])], [expected, expected]);
        assert_eq!(remark(&["--connections", "3", "--load-threads", "2"]), "");
    }
}
