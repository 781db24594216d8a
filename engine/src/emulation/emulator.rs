//! The emulated links of one process, and how they are changed while it runs.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::emulation::model::LinkModel;
use crate::emulation::shaper::{Dropped, LinkCounts, Shaper};
use crate::settings::OptionError;
use crate::types::{NodeId, Time};

/// What a process is told to do to its outgoing links, one for each node of the cluster. That to itself is never used.
#[derive(Clone, Debug, PartialEq)]
pub struct OutgoingLinks {
    /// Whose links.
    pub own: NodeId,
    /// By destination.
    pub models: Vec<LinkModel>,
    /// Of all that is random.
    pub seed: u64,
}

/// A change to the links of one process, as a line of JSON: `{"to":[1,2],"block":true}`. What it holds is done in this
/// order; nothing at all changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// Links to these nodes only. The process's own number is passed over, so that all may be told the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<NodeId>>,
    /// Back to what the process was started with.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// Values that change, `delay=50ms,loss=1%`; the others stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Block or unblock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<bool>,
}

/// Why a change can not be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ChangeError {
    /// There is no such node.
    #[error("to = {node}: allowed: nodes 0 to {last}")]
    UnknownNode {
        /// Which.
        node: NodeId,
        /// The last one that there is.
        last: usize,
    },
    /// The values can not be read.
    #[error(transparent)]
    Link(#[from] OptionError),
}

/// The links of one process as they are now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InForce {
    /// Whose links.
    pub own: NodeId,
    /// Those to all other nodes, in order.
    pub links: Vec<LinkInForce>,
}

/// One link as it is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkInForce {
    /// Where it goes.
    pub to: NodeId,
    /// What it does.
    pub link: LinkModel,
    /// Frames handed on.
    pub passed: u64,
    /// Frames lost by chance.
    pub lost: u64,
    /// Frames stopped by a block.
    pub blocked: u64,
    /// Frames dropped because too many bytes waited or were under way.
    pub full: u64,
    /// Bytes under way.
    pub bytes: usize,
}

impl Change {
    /// Whether it only asks.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.reset && self.link.is_none() && self.block.is_none()
    }

    /// Whether a process of a cluster of `nodes` nodes can make it.
    ///
    /// # Errors
    /// Names what can not be done, and what is allowed.
    pub fn check(&self, nodes: usize) -> Result<(), ChangeError> {
        if let Some(node) = self.to.iter().flatten().find(|node| usize::from(node.0) >= nodes) {
            return Err(ChangeError::UnknownNode { node: *node, last: nodes.saturating_sub(1) });
        }
        LinkModel::CLEAR.with(self.link.as_deref().unwrap_or_default())?;
        Ok(())
    }
}

/// The shaper of one process, or of one thread of it, by node.
pub struct Emulator<T> {
    started_with: OutgoingLinks,
    /// As they are now, by destination.
    models: Vec<LinkModel>,
    threads: u64,
    /// With this thread's part of their bandwidth.
    shaper: Shaper<T>,
}

impl<T> Emulator<T> {
    /// For thread `thread` of `threads` that share the links: each one gets an equal part of their bandwidth.
    #[must_use]
    pub fn new(links: OutgoingLinks, thread: u32, threads: u32) -> Self {
        let threads = u64::from(threads.max(1));
        let seed = links.seed.wrapping_add(u64::from(links.own.0) << 48).wrapping_add(u64::from(thread) << 40);
        let models: Vec<LinkModel> = links.models.iter().map(|model| part(*model, threads)).collect();
        let shaper = Shaper::new(&models, seed);
        Self { models: links.models.clone(), started_with: links, threads, shaper }
    }

    /// Links that do nothing yet.
    #[must_use]
    pub fn clear(own: NodeId, nodes: usize, seed: u64) -> Self {
        Self::new(OutgoingLinks { own, models: vec![LinkModel::CLEAR; nodes], seed }, 0, 1)
    }

    /// A frame of `bytes` bytes for `to`.
    ///
    /// # Errors
    /// Why it was dropped.
    pub fn push(&mut self, now: Time, to: NodeId, bytes: usize, item: T) -> Result<(), Dropped> {
        self.shaper.push(now, usize::from(to.0), bytes, item)
    }

    /// The next frame that is due.
    pub fn pop_due(&mut self, now: Time) -> Option<T> {
        self.shaper.pop_due(now).map(|(_, item)| item)
    }

    /// When the next frame is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.shaper.next_due()
    }

    /// Changes links.
    ///
    /// # Errors
    /// Names what can not be done; nothing has changed then.
    pub fn apply(&mut self, change: &Change) -> Result<(), ChangeError> {
        change.check(self.models.len())?;
        for (node, index) in (0u16..).zip(0..self.models.len()) {
            if change.to.as_ref().is_some_and(|to| !to.contains(&NodeId(node))) {
                continue;
            }
            let mut model = if change.reset { self.started_with.models[index] } else { self.models[index] };
            model = model.with(change.link.as_deref().unwrap_or_default())?;
            model.blocked = change.block.unwrap_or(model.blocked);
            if model != self.models[index] {
                self.models[index] = model;
                self.shaper.set(index, part(model, self.threads));
            }
        }
        Ok(())
    }

    /// The links as they are.
    #[must_use]
    pub fn in_force(&self) -> InForce {
        let own = self.started_with.own;
        let others = (0u16..).zip(self.models.iter().enumerate()).filter(|(node, _)| *node != own.0);
        let links = others.map(|(node, (index, link))| {
            let LinkCounts { passed, lost, blocked, full } = self.shaper.counts(index);
            LinkInForce { to: NodeId(node), link: *link, passed, lost, blocked, full, bytes: self.shaper.bytes(index) }
        });
        InForce { own, links: links.collect() }
    }

    /// Frames dropped for this reason on all links.
    #[must_use]
    pub fn dropped(&self, dropped: Dropped) -> u64 {
        (0..self.models.len()).map(|index| self.shaper.counts(index).of(dropped)).sum()
    }
}

fn part(model: LinkModel, threads: u64) -> LinkModel {
    LinkModel { bandwidth: model.bandwidth.map(|bits_per_s| (bits_per_s / threads).max(1)), ..model }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emulator(link: &str) -> Emulator<u8> {
        let models = vec![link.parse().unwrap(); 4];
        Emulator::new(OutgoingLinks { own: NodeId(1), models, seed: 3 }, 0, 2)
    }

    fn change(json: &str) -> Change {
        serde_json::from_str(json).unwrap()
    }

    fn texts<T>(emulator: &Emulator<T>) -> Vec<String> {
        emulator.in_force().links.iter().map(|link| format!("{} {}", link.to, link.link)).collect()
    }

    #[test]
    fn changes_touch_what_they_name() {
        let mut emulator = emulator("delay=10ms,bandwidth=2Mbit");
        let before = "delay=10ms,bandwidth=2Mbit";
        assert_eq!(texts(&emulator), [0, 2, 3].map(|to| format!("{to} {before}")));
        emulator.apply(&change(r#"{"to":[0,1],"block":true}"#)).unwrap();
        emulator.apply(&change(r#"{"to":[2],"link":"loss=5%","block":true}"#)).unwrap();
        let expected = [format!("0 {before},blocked=on"), "2 delay=10ms,loss=5%,bandwidth=2Mbit,blocked=on".into()];
        assert_eq!(texts(&emulator)[..2], expected);
        emulator.apply(&change(r#"{"block":false}"#)).unwrap();
        emulator.apply(&change(r#"{"to":[3],"link":"bandwidth=10Mbit,delay=0s"}"#)).unwrap();
        let expected =
            [format!("0 {before}"), "2 delay=10ms,loss=5%,bandwidth=2Mbit".into(), "3 bandwidth=10Mbit".into()];
        assert_eq!(texts(&emulator), expected);
        // Two threads share the link.
        assert_eq!(emulator.shaper.model(3).unwrap().bandwidth, Some(5_000_000));
        emulator.apply(&change(r#"{"reset":true}"#)).unwrap();
        assert_eq!(texts(&emulator), [0, 2, 3].map(|to| format!("{to} {before}")));
        assert!(change("{}").is_nothing() && change(r#"{"to":[1]}"#).is_nothing());
    }

    #[test]
    fn what_can_not_be_changed_changes_nothing() {
        let mut emulator = emulator("delay=10ms");
        for (json, part) in [
            (r#"{"to":[0,4],"block":true}"#, "to = 4: allowed: nodes 0 to 3"),
            (r#"{"block":true,"link":"loss=much"}"#, "'loss=much' is not allowed; allowed: delay=TIME"),
        ] {
            let error = emulator.apply(&change(json)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(texts(&emulator), [0, 2, 3].map(|to| format!("{to} delay=10ms")));
        assert!(serde_json::from_str::<Change>(r#"{"blok":true}"#).is_err());
    }

    #[test]
    fn answers_survive_json() {
        let mut emulator = emulator("delay=10ms");
        emulator.apply(&change(r#"{"to":[3],"block":true}"#)).unwrap();
        emulator.push(Time(0), NodeId(0), 100, 7).unwrap();
        assert_eq!(emulator.push(Time(0), NodeId(3), 100, 8), Err(Dropped::Blocked));
        assert_eq!((emulator.pop_due(Time(9_999_999)), emulator.pop_due(Time(10_000_000))), (None, Some(7)));
        assert_eq!((emulator.dropped(Dropped::Blocked), emulator.dropped(Dropped::Lost)), (1, 0));
        let answer = emulator.in_force();
        assert_eq!((answer.links[0].passed, answer.links[2].blocked), (1, 1));
        let json = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<InForce>(&json).unwrap(), answer);
    }
}
