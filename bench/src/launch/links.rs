//! Changes to the emulated links of replicas, asked for over their control ports.

use anyhow::Context as _;
use serde::Serialize;

use super::fleet::Fleet;

/// The question that changes the emulation of a replica's outgoing links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LinkChange {
    ask: &'static str,
    to: Vec<u16>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reset: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<bool>,
}

impl LinkChange {
    /// No change to the links to these replicas.
    fn none(to: Vec<u16>) -> Self {
        Self { ask: "network", to, reset: false, link: None, block: None }
    }

    /// All frames on these links are lost, or no longer.
    pub(super) fn block(to: Vec<u16>, block: bool) -> Self {
        Self { block: Some(block), ..Self::none(to) }
    }

    /// These links behave like this: `delay=50ms,loss=1%`.
    pub(super) fn link(to: Vec<u16>, link: &str) -> Self {
        Self { link: Some(link.to_owned()), ..Self::none(to) }
    }

    /// These links behave as they did in the beginning.
    pub(super) fn reset(to: Vec<u16>) -> Self {
        Self { reset: true, ..Self::none(to) }
    }
}

impl Fleet {
    /// Asks every replica that is up to change its links, each as `change` says for its number and the number of
    /// replicas. Who is asked to change no link is not asked.
    ///
    /// # Errors
    /// If one refuses or does not answer.
    pub(super) fn links(&mut self, change: impl Fn(u16, u16) -> LinkChange) -> anyhow::Result<()> {
        self.disturbed = true;
        let n = u16::try_from(self.members.len()).unwrap_or(u16::MAX);
        for (id, member) in (0..n).zip(&self.members).filter(|(_, member)| member.is_up()) {
            let change = change(id, n);
            if change.to.is_empty() {
                continue;
            }
            let answer: serde_json::Value =
                member.control.ask_json(&change).with_context(|| format!("replica {id}"))?;
            if let Some(error) = answer.get("error") {
                anyhow::bail!("replica {id} refuses to change its links: {error}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_as_the_control_port_reads_them() {
        let json = |change: LinkChange| serde_json::to_string(&change).unwrap();
        assert_eq!(json(LinkChange::block(vec![1, 2], true)), r#"{"ask":"network","to":[1,2],"block":true}"#);
        assert_eq!(json(LinkChange::link(vec![0], "delay=5ms")), r#"{"ask":"network","to":[0],"link":"delay=5ms"}"#);
        assert_eq!(json(LinkChange::reset(vec![3])), r#"{"ask":"network","to":[3],"reset":true}"#);
    }
}
