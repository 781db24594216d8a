//! What the emulated links of replicas are to do, asked for over their control ports.
//!
//! What is wanted is kept for each replica: one that stands still or is dead when links change is told when it goes on
//! or has been started anew.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde::Serialize;

use super::fleet::Fleet;

/// What a scenario wants of one replica's links to the other replicas, besides what the run was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Values that differ, by key: `delay` is `50ms`.
    values: BTreeMap<String, String>,
    /// Whom nothing reaches.
    cut: BTreeSet<u16>,
    /// Whether any of this was ever changed.
    ever: bool,
}

/// A change of what is wanted of one replica's links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish<'a> {
    /// What it sends to these is lost, as what it sends to others may be already.
    Cut(Vec<u16>),
    /// Nothing is lost by a cut any more.
    Heal,
    /// Its links to all others behave like this: `delay=50ms,loss=1%`; values that are not named stay.
    Values(&'a str),
    /// They behave as they did in the beginning.
    Reset,
}

impl Wanted {
    fn change(&mut self, wish: Wish<'_>) {
        self.ever = true;
        match wish {
            Wish::Cut(to) => self.cut.extend(to),
            Wish::Heal => self.cut.clear(),
            Wish::Reset => self.values.clear(),
            Wish::Values(text) => {
                let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
                self.values.extend(pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())));
            }
        }
    }

    /// The questions that make the links of replica `own`, of `n`, what is wanted, whatever they are now. Each is done
    /// at once, so that no link is for a moment what nobody wants.
    fn questions(&self, own: u16, n: u16) -> Vec<LinkChange> {
        let values: Vec<String> = self.values.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let link = (!values.is_empty()).then(|| values.join(","));
        let others = (0..n).filter(|other| *other != own);
        let (cut, whole): (Vec<u16>, Vec<u16>) = others.partition(|other| self.cut.contains(other));
        let both = [(cut, Some(true)), (whole, None)].into_iter().filter(|(to, _)| !to.is_empty());
        both.map(|(to, block)| LinkChange { ask: "network", to, reset: true, link: link.clone(), block }).collect()
    }
}

/// The question that changes the emulation of a replica's outgoing links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct LinkChange {
    ask: &'static str,
    to: Vec<u16>,
    reset: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<bool>,
}

impl Fleet {
    /// Changes what is wanted of every replica's links, by its number and the number of replicas, and tells those that
    /// are up. `None` changes nothing.
    ///
    /// # Errors
    /// If one refuses or does not answer.
    pub(super) fn links<'a>(&mut self, wish: impl Fn(u16, u16) -> Option<Wish<'a>>) -> anyhow::Result<()> {
        self.disturbed = true;
        let n = self.size();
        for id in 0..n {
            let Some(wish) = wish(id, n) else { continue };
            let member = &mut self.members[usize::from(id)];
            member.links.change(wish);
            if member.is_up() {
                self.make_links(id)?;
            }
        }
        Ok(())
    }

    /// Makes a replica's links what is wanted of them, if they were ever to change.
    ///
    /// # Errors
    /// If it refuses or does not answer.
    pub(super) fn make_links(&self, id: u16) -> anyhow::Result<()> {
        let member = &self.members[usize::from(id)];
        if !member.links.ever {
            return Ok(());
        }
        for question in member.links.questions(id, self.size()) {
            let answer: serde_json::Value =
                member.control.ask_json(&question).with_context(|| format!("replica {id}: links"))?;
            if let Some(error) = answer.get("error") {
                anyhow::bail!("replica {id} refuses to change its links: {error}");
            }
        }
        Ok(())
    }

    fn size(&self) -> u16 {
        u16::try_from(self.members.len()).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions(wishes: &[Wish<'_>]) -> Vec<String> {
        let mut wanted = Wanted::default();
        wishes.iter().cloned().for_each(|wish| wanted.change(wish));
        wanted.questions(2, 4).iter().map(|question| serde_json::to_string(question).unwrap()).collect()
    }

    #[test]
    fn questions_are_as_the_control_port_reads_them() {
        let all = r#"{"ask":"network","to":[0,1,3],"reset":true"#;
        assert_eq!(questions(&[Wish::Reset]), [format!("{all}}}")]);
        assert_eq!(questions(&[Wish::Values("delay=5ms")]), [format!(r#"{all},"link":"delay=5ms"}}"#)]);
        assert_eq!(questions(&[Wish::Cut(vec![0, 1, 3])]), [format!(r#"{all},"block":true}}"#)]);
    }

    #[test]
    fn wishes_add_up_until_they_are_taken_back() {
        let (delay, more) = (Wish::Values("delay=5ms, loss=1%"), Wish::Values("delay=7ms"));
        let (cut, too) = (Wish::Cut(vec![0]), Wish::Cut(vec![3]));
        let ask = |to: &str, rest: &str| format!(r#"{{"ask":"network","to":{to},"reset":true{rest}}}"#);
        let both = r#","link":"delay=7ms,loss=1%""#;
        assert_eq!(
            questions(&[delay.clone(), cut.clone(), more.clone(), too.clone()]),
            [ask("[0,3]", &format!(r#"{both},"block":true"#)), ask("[1]", both)]
        );
        assert_eq!(
            questions(&[delay.clone(), cut.clone(), more.clone(), too.clone(), Wish::Heal]),
            [ask("[0,1,3]", both)]
        );
        let reset = [delay, cut, more, too, Wish::Reset];
        assert_eq!(questions(&reset), [ask("[0,3]", r#","block":true"#), ask("[1]", "")]);
    }
}
