//! The option `--placement`: which stages share a thread, and which core each thread is pinned to.

use std::fmt;
use std::str::FromStr;

use super::options::{OptionError, text_serde};
use crate::limits::{CORES_MAX, VERIFY_STAGES_MAX};
use crate::named::named_enum;

/// Which stages share a thread, and which core each thread is pinned to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Placement {
    /// By the cores that the process may use and how many replicas share the machine.
    #[default]
    Auto,
    /// All stages in one loop on one thread.
    Fused,
    /// Each stage on a thread of its own, unpinned unless there are enough cores; verify as wide as the cores allow.
    Pipelined,
    /// A thread for each group of stages. Among them each stage is once, but verify once or more.
    Groups(Vec<Group>),
    /// Each stage on a thread pinned to a core: network, order, execute, egress, then one core for each verify stage.
    /// The same core twice fuses the stages on it into one thread.
    Cores(Vec<usize>),
}

named_enum! {
    /// A stage that can be placed. Persist, where there is one, has a thread of its own.
    PlacedStage {
        /// Sockets both ways.
        Network = "network",
        /// One verify stage.
        Verify = "verify",
        /// Order.
        Order = "order",
        /// Execute.
        Execute = "execute",
        /// Egress.
        Egress = "egress",
    }
}

/// Stages that share a thread.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// The stages, in the order in which they were given.
    pub stages: Vec<PlacedStage>,
    /// The core that the thread is pinned to, if it is.
    pub core: Option<usize>,
}

impl Placement {
    /// What [`FromStr`] takes.
    pub const ALLOWED: &str = "auto, fused, pipelined, STAGE[+STAGE..][@CORE],.. with each of network, order, execute \
         and egress once and verify once or more (for example network+egress@2,verify@3,verify@4,order+execute@5), or \
         cores as NETWORK,ORDER,EXECUTE,EGRESS,VERIFY[,VERIFY..] (for example 0,1,2,2,3,4)";

    /// An error about `text`, with what is wrong with it in particular.
    fn error(text: &str, what: &str) -> OptionError {
        OptionError::new("placement", text, format!("{} ({what})", Self::ALLOWED))
    }

    fn cores(text: &str) -> Result<Self, OptionError> {
        let cores: Result<Vec<usize>, String> = text.split(',').map(core).collect();
        let cores = cores.map_err(|what| Self::error(text, &what))?;
        match cores.len().checked_sub(OTHER_STAGES) {
            None | Some(0) => Err(Self::error(text, &format!("{} cores are too few", cores.len()))),
            Some(verify) => check_verify(verify).map_err(|what| Self::error(text, &what)).map(|()| Self::Cores(cores)),
        }
    }

    fn groups(text: &str) -> Result<Self, OptionError> {
        let groups: Result<Vec<Group>, String> = text.split(',').map(Group::read).collect();
        let groups = groups.and_then(|groups| check_groups(&groups).map(|()| groups));
        groups.map(Self::Groups).map_err(|what| Self::error(text, &what))
    }
}

/// Stages beside verify.
const OTHER_STAGES: usize = PlacedStage::ALL.len() - 1;

impl Group {
    fn read(text: &str) -> Result<Self, String> {
        let (stages, core) = match text.split_once('@') {
            Some((stages, number)) => (stages, Some(core(number)?)),
            None => (text, None),
        };
        let stage = |name: &str| {
            let known = PlacedStage::ALL.iter().copied().find(|stage| stage.name() == name.trim());
            known.ok_or_else(|| format!("'{}' is no stage", name.trim()))
        };
        Ok(Self { stages: stages.split('+').map(stage).collect::<Result<_, _>>()?, core })
    }
}

fn core(text: &str) -> Result<usize, String> {
    let core = text.trim().parse().ok().filter(|core| *core < CORES_MAX);
    core.ok_or_else(|| format!("'{}' is no core from 0 to {}", text.trim(), CORES_MAX - 1))
}

fn check_groups(groups: &[Group]) -> Result<(), String> {
    for stage in PlacedStage::ALL {
        let times = groups.iter().flat_map(|group| &group.stages).filter(|other| *other == stage).count();
        match (stage, times) {
            (_, 0) => return Err(format!("{stage} is missing")),
            (PlacedStage::Verify, times) => check_verify(times)?,
            (_, 1) => {}
            (_, times) => return Err(format!("{stage} is there {times} times")),
        }
    }
    Ok(())
}

fn check_verify(stages: usize) -> Result<(), String> {
    match stages {
        0..=VERIFY_STAGES_MAX => Ok(()),
        more => Err(format!("{more} verify stages are more than {VERIFY_STAGES_MAX}")),
    }
}

impl FromStr for Placement {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        match text {
            "auto" => Ok(Self::Auto),
            "fused" => Ok(Self::Fused),
            "pipelined" => Ok(Self::Pipelined),
            list if list.trim_start().starts_with(|c: char| c.is_ascii_digit()) => Self::cores(list),
            list => Self::groups(list),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fused => f.write_str("fused"),
            Self::Pipelined => f.write_str("pipelined"),
            Self::Groups(groups) => {
                let groups: Vec<String> = groups.iter().map(Group::to_string).collect();
                f.write_str(&groups.join(","))
            }
            Self::Cores(cores) => {
                let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
                f.write_str(&cores.join(","))
            }
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages: Vec<&str> = self.stages.iter().map(|stage| stage.name()).collect();
        f.write_str(&stages.join("+"))?;
        self.core.map_or(Ok(()), |core| write!(f, "@{core}"))
    }
}

text_serde!(Placement);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placements_read_what_they_write() {
        for text in [
            "auto",
            "fused",
            "pipelined",
            "0,1,2,2,3,4",
            "network+egress@2,verify@3,verify@4,order+execute@5",
            "network,verify+order+execute+egress",
            "egress+verify,verify+network@0,order+execute@0",
        ] {
            assert_eq!(text.parse::<Placement>().unwrap().to_string(), text);
        }
        let spaced = " network + egress @2, verify@ 3,order+execute";
        assert_eq!(spaced.parse::<Placement>().unwrap().to_string(), "network+egress@2,verify@3,order+execute");
        assert_eq!("0, 1,2,2,3".parse::<Placement>().unwrap().to_string(), "0,1,2,2,3");
    }

    #[test]
    fn errors_name_the_value_what_is_allowed_and_what_is_wrong() {
        let verify = ["verify"; VERIFY_STAGES_MAX + 1].join("+");
        for (text, what) in [
            ("", "'' is no stage"),
            ("fuse", "'fuse' is no stage"),
            ("network,verify,order+execute+persist", "'persist' is no stage"),
            ("network+verify+order,execute", "egress is missing"),
            ("network,order,execute,egress", "verify is missing"),
            ("network,verify,order,execute,egress,order", "order is there 2 times"),
            ("network@,verify,order,execute,egress", "'' is no core from 0 to 4095"),
            ("network@4096,verify,order,execute,egress", "'4096' is no core"),
            ("network@1@2,verify,order,execute,egress", "'1@2' is no core"),
            ("network,,verify,order,execute,egress", "'' is no stage"),
            ("0,1", "2 cores are too few"),
            ("0,1,2,3", "4 cores are too few"),
            ("0,1,2,3,x", "'x' is no core"),
            ("0,1,2,3,99999", "'99999' is no core"),
            ("0,1,2,3,-1", "'-1' is no core"),
            (&format!("{}0", "0,".repeat(OTHER_STAGES + VERIFY_STAGES_MAX)), "65 verify stages are more than 64"),
            (&format!("network+order+execute+egress,{verify}"), "65 verify stages are more than 64"),
        ] {
            let error = text.parse::<Placement>().unwrap_err().to_string();
            let start = format!("placement: '{text}' is not allowed; allowed: {}", Placement::ALLOWED);
            assert!(error.starts_with(&start) && error.contains(&format!("({what}")), "{error}");
        }
    }
}
