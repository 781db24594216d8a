//! The parts in which the cost of an operation is told, and the tally of what each has allocated.

use std::hint::black_box;

use crate::allocations::{self, Spent};

/// Makes the parts, and for each a function of its own that its work is done in: so whoever counts instructions by
/// function can tell them apart.
macro_rules! parts {
    ($($(#[$doc:meta])* $part:ident = ($mark:ident, $name:literal, $nodes:literal),)*) => {
        /// A part of the way of an operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Part { $($(#[$doc])* $part,)* }

        impl Part {
            /// All, in data-path order.
            pub(crate) const ALL: &[Self] = &[$(Self::$part,)*];

            /// Its name in tables.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$part => $name,)* }
            }

            /// How many nodes have it. What is told of it is one node's.
            pub(crate) const fn nodes(self) -> u64 {
                match self { $(Self::$part => $nodes,)* }
            }

            /// What is in the symbol of its function, and in no other's.
            pub(crate) const fn mark(self) -> &'static str {
                match self { $(Self::$part => stringify!($mark),)* }
            }

            fn run(self, work: &mut dyn FnMut()) {
                match self { $(Self::$part => $mark(work),)* }
            }
        }

        $(
            #[inline(never)]
            fn $mark(work: &mut dyn FnMut()) {
                // With its name in it no two of these functions are the same, which could make one of them.
                black_box(stringify!($mark));
                work();
                // It is returned to: the work is no tail of it.
                black_box(stringify!($mark));
            }
        )*
    };
}

parts! {
    /// The load generator begins operations and makes frames of them.
    ClientSends = (cost_of_client_sending, "client: send", 1),
    /// The thread with the sockets, both ways; the backups' likewise.
    PrimaryIngress = (cost_of_primary_ingress, "primary: ingress", 1),
    PrimaryVerify = (cost_of_primary_verify, "primary: verify", 1),
    PrimaryOrder = (cost_of_primary_order, "primary: order", 1),
    PrimaryExecute = (cost_of_primary_execute, "primary: execute", 1),
    PrimaryEgress = (cost_of_primary_egress, "primary: egress", 1),
    BackupIngress = (cost_of_backup_ingress, "backup: ingress", 3),
    BackupVerify = (cost_of_backup_verify, "backup: verify", 3),
    BackupOrder = (cost_of_backup_order, "backup: order", 3),
    BackupExecute = (cost_of_backup_execute, "backup: execute", 3),
    BackupEgress = (cost_of_backup_egress, "backup: egress", 3),
    /// The load generator counts replies.
    ClientReceives = (cost_of_client_receiving, "client: receive", 1),
}

/// What each part has allocated since the tally was started.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    is_on: bool,
    spent: [Spent; Part::ALL.len()],
}

impl Tally {
    /// From here on everything counts.
    pub(crate) const fn start(&mut self) {
        self.is_on = true;
    }

    /// Does some of a part's work.
    pub(crate) fn measure<T>(&mut self, part: Part, work: impl FnOnce() -> T) -> T {
        if !self.is_on {
            return work();
        }
        let (mut work, mut done) = (Some(work), None);
        let before = allocations::so_far();
        part.run(&mut || done = work.take().map(|work| work()));
        self.spent[part as usize] += allocations::so_far() - before;
        done.expect("it ran")
    }

    /// In the order of [`Part::ALL`].
    pub(crate) const fn spent(&self) -> [Spent; Part::ALL.len()] {
        self.spent
    }
}
