//! How many replicas are faulty at one time.
//!
//! A cluster of n replicas survives f faulty ones: a scenario that makes more of them shows nothing, unless it is meant
//! to show that. Who was killed and starts anew without a log has forgotten its votes and stays faulty for good.

use std::collections::BTreeSet;

use anyhow::bail;
use hippodrome_engine::quorum::Quorums;

use super::events::{Action, Event, Links, Target, Whom};

/// Replicas with one kind of fault. Of some it is only known at run time who they are.
#[derive(Clone, Debug, Default)]
struct Faulty {
    known: BTreeSet<u16>,
    unknown: usize,
}

impl Faulty {
    fn add(&mut self, targets: &[Target]) {
        for target in targets {
            match target {
                Target::Replica(id) => {
                    self.known.insert(*id);
                }
                Target::Primary | Target::Backup => self.unknown += 1,
            }
        }
    }

    /// Takes out whom an event names; what was taken out.
    fn take(&mut self, whom: &Whom) -> Option<Self> {
        match whom {
            Whom::All if self.known.is_empty() && self.unknown == 0 => None,
            Whom::All => Some(std::mem::take(self)),
            Whom::These(ids) => {
                let ids: BTreeSet<u16> = ids.iter().copied().collect();
                if !ids.is_subset(&self.known) {
                    return None;
                }
                self.known.retain(|id| !ids.contains(id));
                Some(Self { known: ids, unknown: 0 })
            }
        }
    }

    fn join(&mut self, other: &Self) {
        self.known.extend(&other.known);
        self.unknown += other.unknown;
    }
}

/// Checks that at no time more than f replicas are faulty, of which `misbehaving` are from the beginning, and that
/// nobody is started or resumed who was not killed or stopped. Events come with their places in the file.
///
/// # Errors
/// Names the event.
pub(super) fn check(
    events: &[(usize, Event)],
    quorums: &Quorums,
    durable: bool,
    misbehaving: BTreeSet<u16>,
) -> anyhow::Result<()> {
    let (n, f) = (quorums.n(), quorums.f());
    if misbehaving.len() > f {
        let count = misbehaving.len();
        bail!("{count} replicas would misbehave from the beginning; allowed: at most f = {f}, or beyond_f = true");
    }
    let (mut killed, mut stopped, mut cut) = (Faulty::default(), Faulty::default(), Faulty::default());
    let mut for_good = Faulty { known: misbehaving, unknown: 0 };
    for (index, Event { s, action }) in events {
        match action {
            Action::Kill(targets) => killed.add(targets),
            Action::Stop(targets) => stopped.add(targets),
            Action::Restart(whom) => match killed.take(whom) {
                None => bail!(
                    "at[{index}]: restart at {s} s: allowed: replicas that were killed by number before, or \"killed\""
                ),
                Some(_) if durable => {}
                Some(forgetful) => for_good.join(&forgetful),
            },
            Action::Resume(whom) => {
                if stopped.take(whom).is_none() {
                    bail!(
                        "at[{index}]: resume at {s} s: allowed: replicas that were stopped by number before, or \"stopped\""
                    );
                }
            }
            Action::Byzantine(target, _) => for_good.add(&[*target]),
            Action::Partition(links) => cut.join(&cut_off(links, n)),
            Action::Heal => cut = Faulty::default(),
            Action::Clients(_) | Action::Network(_) => {}
        }
        let mut all = Faulty::default();
        [&killed, &stopped, &cut, &for_good].into_iter().for_each(|faulty| all.join(faulty));
        let count = all.known.len() + all.unknown;
        if count > f {
            let durable = if durable { "" } else { " (who was killed without a log stays faulty)" };
            bail!(
                "at[{index}]: {} at {s} s: {count} replicas would be faulty at one time{durable}; allowed: at most f = {f}, or beyond_f = true",
                action.kind()
            );
        }
    }
    Ok(())
}

/// Who counts as faulty while links are cut: all but the largest side, or the fewer of those who no longer hear each
/// other one way.
fn cut_off(links: &Links, n: usize) -> Faulty {
    let mut faulty = Faulty::default();
    match links {
        Links::Between(groups) => {
            let unnamed = n.saturating_sub(groups.iter().map(Vec::len).sum());
            let largest = groups.iter().enumerate().max_by_key(|(_, group)| group.len());
            let largest = largest.filter(|(_, group)| group.len() > unnamed).map(|(index, _)| index);
            for (_, group) in groups.iter().enumerate().filter(|(index, _)| Some(*index) != largest) {
                faulty.add(group);
            }
            faulty.unknown += if largest.is_some() { unnamed } else { 0 };
        }
        Links::OneWay { from, to } => faulty.add(if from.len() <= to.len() { from } else { to }),
    }
    faulty
}
