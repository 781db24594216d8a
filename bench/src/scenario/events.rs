//! What can happen in a scenario.

use std::fmt;

use anyhow::{anyhow, bail, ensure};
use hippodrome_engine::byzantine::Kind;
use hippodrome_engine::emulation::LinkModel;
use hippodrome_loadgen::hostile;
use serde::Deserialize;
use toml::Value;

use crate::cli::faulty::Hostile;
use crate::cli::run::RunOptions;

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// Seconds since the measured load began.
    pub(crate) s: f64,
    /// What happens.
    pub(crate) action: Action,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// SIGKILL.
    Kill(Vec<Target>),
    /// Killed replicas are started anew at their old addresses, with what they kept on disk.
    Restart(Whom),
    /// SIGSTOP.
    Stop(Vec<Target>),
    /// SIGCONT.
    Resume(Whom),
    /// A replica misbehaves from now on: it is started anew as one that does.
    Byzantine(Target, String),
    /// Clients misbehave beside the load.
    Clients(Hostile),
    /// Frames on some links are lost.
    Partition(Links),
    /// No link loses frames because of a partition any more.
    Heal,
    /// All links between replicas change: `delay=50ms,loss=1%`; `none` makes them as they were.
    Network(String),
}

/// A replica, perhaps one that is only known when the time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Whoever is the primary then, and lives.
    Primary,
    /// A living replica that is not, the highest number first.
    Backup,
    /// This one.
    Replica(u16),
}

/// Whom a fault is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// All who have it.
    All,
    /// These.
    These(Vec<u16>),
}

/// Which links a partition cuts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Those between groups, both ways. Replicas that no group names are one more group.
    Between(Vec<Vec<Target>>),
    /// Those from some to others, one way.
    OneWay {
        /// Who is no longer heard ..
        from: Vec<Target>,
        /// .. by whom.
        to: Vec<Target>,
    },
}

/// An event as it is written: a time and one action.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvent {
    s: f64,
    kill: Option<Value>,
    restart: Option<Value>,
    stop: Option<Value>,
    resume: Option<Value>,
    byzantine: Option<Value>,
    clients: Option<Value>,
    partition: Option<Value>,
    heal: Option<Value>,
    network: Option<Value>,
}

/// Reads an event of a cluster of `n` replicas.
///
/// # Errors
/// Names the key, its value and what is allowed.
pub(super) fn read_event(raw: &RawEvent, n: u16) -> anyhow::Result<Event> {
    let RawEvent { s, kill, restart, stop, resume, byzantine, clients, partition, heal, network } = raw;
    ensure!(s.is_finite() && *s >= 0.0, "s = {s}: allowed: seconds since the measured load began, 0 or more");
    let actions = [
        ("kill", kill),
        ("restart", restart),
        ("stop", stop),
        ("resume", resume),
        ("byzantine", byzantine),
        ("clients", clients),
        ("partition", partition),
        ("heal", heal),
        ("network", network),
    ];
    let given: Vec<(&str, &Value)> =
        actions.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))).collect();
    let &[(name, value)] = given.as_slice() else {
        let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
        let allowed = actions.map(|(name, _)| name).join(", ");
        let what = if names.is_empty() { "no action".to_owned() } else { names.join(" and ") };
        bail!("s = {s}: {what}; allowed: exactly one of {allowed}");
    };
    let action = match name {
        "kill" => targets(value, n).map(Action::Kill),
        "stop" => targets(value, n).map(Action::Stop),
        "restart" => whom(value, "killed", n).map(Action::Restart),
        "resume" => whom(value, "stopped", n).map(Action::Resume),
        "byzantine" => misbehaving(value, n),
        "clients" => hostile_clients(value, *s),
        "partition" => links(value, n).map(Action::Partition),
        "heal" => truth(value).map(|()| Action::Heal),
        _ => link_values(value).map(Action::Network),
    };
    let action = action.map_err(|allowed| anyhow!("{name} = {}: allowed: {allowed}", value.to_string().trim_end()))?;
    Ok(Event { s: *s, action })
}

impl Event {
    /// Makes an option of the run of an event that lasts from its beginning; false if it is none.
    pub(super) fn is_an_option(&self, options: &mut RunOptions) -> bool {
        match &self.action {
            Action::Byzantine(Target::Replica(id), kinds) if self.s <= 0.0 => {
                let kinds = kinds.split(',').filter_map(|kind| kind.parse().ok());
                options.byzantine.get_or_insert_default().add(*id, kinds);
                true
            }
            Action::Clients(Hostile(kinds)) => {
                options.hostile.get_or_insert_default().0.extend(kinds);
                true
            }
            _ => false,
        }
    }
}

impl Action {
    /// What reports call it.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Restart(_) => "restart",
            Self::Stop(_) => "stop",
            Self::Resume(_) => "resume",
            Self::Byzantine(..) => "byzantine",
            Self::Clients(_) => "clients",
            Self::Partition(_) => "partition",
            Self::Heal => "heal",
            Self::Network(_) => "network",
        }
    }

    /// Whether it is a fault, and not the end of one.
    pub(crate) fn is_fault(&self) -> bool {
        match self {
            Self::Kill(_) | Self::Stop(_) | Self::Byzantine(..) | Self::Clients(_) | Self::Partition(_) => true,
            Self::Network(link) => link != "none",
            Self::Restart(_) | Self::Resume(_) | Self::Heal => false,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("primary"),
            Self::Backup => f.write_str("backup"),
            Self::Replica(id) => id.fmt(f),
        }
    }
}

/// What is allowed, where something else was found.
type Allowed = String;

fn one_target(value: &Value, n: u16) -> Result<Target, Allowed> {
    let id = |id: &i64| u16::try_from(*id).ok().filter(|id| *id < n);
    match value {
        Value::String(name) if name == "primary" => Ok(Target::Primary),
        Value::String(name) if name == "backup" => Ok(Target::Backup),
        Value::Integer(number) => id(number).map(Target::Replica).ok_or_else(|| allowed_targets(n)),
        _ => Err(allowed_targets(n)),
    }
}

fn allowed_targets(n: u16) -> Allowed {
    format!("\"primary\", \"backup\", a replica (0 to {}), or a list of these", n - 1)
}

fn targets(value: &Value, n: u16) -> Result<Vec<Target>, Allowed> {
    let Value::Array(list) = value else { return Ok(vec![one_target(value, n)?]) };
    let targets = list.iter().map(|value| one_target(value, n)).collect::<Result<Vec<_>, _>>()?;
    let distinct = targets.iter().enumerate().all(|(index, target)| !targets[..index].contains(target));
    if targets.is_empty() || !distinct {
        return Err(format!("{}, each once", allowed_targets(n)));
    }
    Ok(targets)
}

fn whom(value: &Value, all: &str, n: u16) -> Result<Whom, Allowed> {
    let allowed = || format!("\"{all}\" (all who are), a replica (0 to {}), or a list of replicas", n - 1);
    match value {
        Value::String(name) if name == all => Ok(Whom::All),
        Value::String(_) => Err(allowed()),
        _ => {
            let targets = targets(value, n).map_err(|_| allowed())?;
            let ids = targets.into_iter().map(|target| match target {
                Target::Replica(id) => Ok(id),
                Target::Primary | Target::Backup => Err(allowed()),
            });
            ids.collect::<Result<_, _>>().map(Whom::These)
        }
    }
}

fn misbehaving(value: &Value, n: u16) -> Result<Action, Allowed> {
    let allowed = || {
        let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("{{ replica = .., kind = \"..\" }}, one or several (by commas) of the kinds {}", kinds.join(", "))
    };
    let Value::Table(table) = value else { return Err(allowed()) };
    match (table.get("replica"), table.get("kind"), table.len()) {
        (Some(replica), Some(Value::String(kind)), 2) if kind.split(',').all(|kind| kind.parse::<Kind>().is_ok()) => {
            Ok(Action::Byzantine(one_target(replica, n).map_err(|_| allowed())?, kind.clone()))
        }
        _ => Err(allowed()),
    }
}

fn hostile_clients(value: &Value, s: f64) -> Result<Action, Allowed> {
    let kinds = value.as_str().and_then(|kinds| kinds.parse::<Hostile>().ok()).filter(|_| s <= 0.0);
    kinds.map(Action::Clients).ok_or_else(|| {
        let kinds: Vec<&str> = hostile::Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("one or several (by commas) of the kinds {}, from s = 0 on", kinds.join(", "))
    })
}

fn links(value: &Value, n: u16) -> Result<Links, Allowed> {
    let allowed = || {
        format!(
            "a list of groups ([[0, 1], [2]]), or {{ from = .., to = .. }} for one direction; members: {}",
            allowed_targets(n)
        )
    };
    match value {
        Value::Array(groups) if !groups.is_empty() && groups.iter().all(Value::is_array) => {
            let groups = groups.iter().map(|group| targets(group, n)).collect::<Result<Vec<_>, _>>();
            let groups = groups.map_err(|_| allowed())?;
            let all: Vec<Target> = groups.iter().flatten().copied().collect();
            let distinct = all.iter().enumerate().all(|(index, target)| !all[..index].contains(target));
            if distinct { Ok(Links::Between(groups)) } else { Err(format!("{}, each in one group", allowed())) }
        }
        Value::Table(table) => match (table.get("from"), table.get("to"), table.len()) {
            (Some(from), Some(to), 2) => Ok(Links::OneWay {
                from: targets(from, n).map_err(|_| allowed())?,
                to: targets(to, n).map_err(|_| allowed())?,
            }),
            _ => Err(allowed()),
        },
        _ => Err(allowed()),
    }
}

fn truth(value: &Value) -> Result<(), Allowed> {
    if value.as_bool() == Some(true) { Ok(()) } else { Err("true".to_owned()) }
}

/// The description of links, once it is known that it can be read.
fn link_values(value: &Value) -> Result<String, Allowed> {
    let allowed = || format!("a description of links ({}), or \"none\"", LinkModel::ALLOWED);
    match value.as_str() {
        Some("none") => Ok("none".to_owned()),
        Some(text) if !text.trim().is_empty() && LinkModel::CLEAR.with(text).is_ok() => Ok(text.to_owned()),
        _ => Err(allowed()),
    }
}
