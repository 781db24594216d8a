//! An experiment: which settings are varied, on top of what, how often. Read from a TOML file (`docs/experiments.md`),
//! from the command line, or from both; then made into points.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use hippodrome_analysis::sweep::{Excluded, Varied};
use hippodrome_engine::limits::CORES_MAX;
use serde::Deserialize;
use toml::Spanned;

use super::point::{self, Point, Setting};
use crate::cli::options::refines_auth;
use crate::{config, shipped};

/// How often each point runs, unless something else is said.
pub(crate) const REPEATS: u32 = 3;
/// Most repeats.
pub(crate) const REPEATS_MAX: u32 = 1000;
/// Most points: more than anybody waits for is a slip.
pub(crate) const POINTS_MAX: usize = 1000;

/// An experiment that can be made into points.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Experiment {
    /// What it is called; letters, digits and hyphens.
    pub(crate) name: String,
    /// What it does, in a sentence; may be empty.
    pub(crate) description: String,
    /// The question that it answers; may be empty.
    pub(crate) question: String,
    /// How often each point runs.
    pub(crate) repeats: u32,
    /// What all points have in common.
    pub(crate) base: Vec<Setting>,
    /// The options of which all combinations run, the first one changing slowest.
    pub(crate) vary: Vec<Varied>,
    /// Points besides those combinations, listed one by one.
    listed: Vec<Vec<Setting>>,
    /// Combinations that do not run.
    exclude: Vec<Exclude>,
    /// What some points need of a machine.
    needs: Vec<Needs>,
    /// Cores that may be used, where it is to run; of any machine, all points can.
    cores: Option<usize>,
    /// What some points have besides.
    adjust: Vec<Adjust>,
}

/// Points that run only on machines with so many cores.
#[derive(Clone, Debug, PartialEq)]
struct Needs {
    these: Where,
    cores: usize,
}

/// Combinations that do not run.
#[derive(Clone, Debug, PartialEq)]
struct Exclude {
    these: Where,
    reason: String,
}

/// What some points have besides.
#[derive(Clone, Debug, PartialEq)]
struct Adjust {
    these: Where,
    set: Vec<Setting>,
}

/// The points of which each of these options has one of these values.
#[derive(Clone, Debug, PartialEq)]
struct Where(BTreeMap<String, Vec<String>>);

impl Where {
    fn holds(&self, settings: &[Setting]) -> bool {
        let of = |key: &str| settings.iter().find(|setting| setting.key == key);
        self.0.iter().all(|(key, values)| of(key).is_some_and(|setting| values.contains(&setting.value)))
    }
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    description: String,
    question: String,
    #[serde(default)]
    repeats: Option<i64>,
    #[serde(default)]
    base: toml::Table,
    /// With where in the file each key stands: the order is the writer's.
    #[serde(default)]
    vary: BTreeMap<String, Spanned<Vec<toml::Value>>>,
    #[serde(default)]
    point: Vec<BTreeMap<String, Spanned<toml::Value>>>,
    #[serde(default)]
    exclude: Vec<RawExclude>,
    #[serde(default)]
    needs: Vec<RawNeeds>,
    #[serde(default)]
    adjust: Vec<RawAdjust>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNeeds {
    r#where: BTreeMap<String, OneOrMany>,
    cores: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExclude {
    r#where: BTreeMap<String, OneOrMany>,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAdjust {
    r#where: BTreeMap<String, OneOrMany>,
    set: toml::Table,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<toml::Value>),
    One(toml::Value),
}

impl Experiment {
    /// One of the command line alone: nothing is varied yet.
    pub(crate) fn unnamed() -> Self {
        Self {
            name: "sweep".into(),
            description: String::new(),
            question: String::new(),
            repeats: REPEATS,
            base: Vec::new(),
            vary: Vec::new(),
            listed: Vec::new(),
            exclude: Vec::new(),
            needs: Vec::new(),
            cores: None,
            adjust: Vec::new(),
        }
    }

    /// The same on a machine of which so many cores may be used: points that need more are left out.
    pub(crate) fn on(self, cores: usize) -> Self {
        Self { cores: Some(cores), ..self }
    }

    /// Reads an experiment's file.
    ///
    /// # Errors
    /// Names the file, the key, its value and what is allowed.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        shipped::read(path, Self::parse)
    }

    /// Reads an experiment.
    ///
    /// # Errors
    /// Names the key, its value and what is allowed.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text)?;
        shipped::check_name(&file.name)?;
        let repeats = file.repeats.map_or(Ok(REPEATS), |n| {
            u32::try_from(n)
                .ok()
                .filter(|n| (1..=REPEATS_MAX).contains(n))
                .ok_or_else(|| anyhow!("repeats = {n}: allowed: a whole number from 1 to {REPEATS_MAX}"))
        })?;
        let base = table(&file.base).context("base")?;
        let mut vary: Vec<(String, Spanned<Vec<toml::Value>>)> = file.vary.into_iter().collect();
        vary.sort_by_key(|(_, values)| values.span().start);
        let vary = vary.into_iter().map(|(key, values)| varied(&key, values.get_ref()).context("vary"));
        let listed = (0..).zip(file.point).map(|(n, point)| listed(point).with_context(|| format!("point[{n}]")));
        let mut experiment = Self {
            name: file.name,
            description: file.description,
            question: file.question,
            repeats,
            base,
            vary: vary.collect::<anyhow::Result<_>>()?,
            listed: listed.collect::<anyhow::Result<_>>()?,
            ..Self::unnamed()
        };
        experiment.check_keys()?;
        for (n, raw) in file.exclude.into_iter().enumerate() {
            let these = experiment.read_where(raw.r#where).with_context(|| format!("exclude[{n}].where"))?;
            ensure!(!raw.reason.trim().is_empty(), "exclude[{n}].reason = \"\": allowed: why these are left out");
            experiment.exclude.push(Exclude { these, reason: raw.reason });
        }
        for (n, raw) in file.needs.into_iter().enumerate() {
            let these = experiment.read_where(raw.r#where).with_context(|| format!("needs[{n}].where"))?;
            let cores = usize::try_from(raw.cores).ok().filter(|cores| (1..=CORES_MAX).contains(cores));
            let cores = cores.ok_or_else(|| {
                anyhow!("needs[{n}].cores = {}: allowed: a whole number from 1 to {CORES_MAX}", raw.cores)
            })?;
            experiment.needs.push(Needs { these, cores });
        }
        for (n, raw) in file.adjust.into_iter().enumerate() {
            let these = experiment.read_where(raw.r#where).with_context(|| format!("adjust[{n}].where"))?;
            let set = table(&raw.set).with_context(|| format!("adjust[{n}].set"))?;
            let varied = experiment.varied();
            if let Some(Setting { key, .. }) = set.iter().find(|set| varied.iter().any(|one| one.key == set.key)) {
                bail!("adjust[{n}].set.{key}: it is varied; allowed: options that are not");
            }
            experiment.adjust.push(Adjust { these, set });
        }
        experiment.points()?;
        Ok(experiment)
    }

    /// Varies one more option, or other values of one that is varied already: what the command line says wins.
    ///
    /// # Errors
    /// If points that are listed one by one set it.
    pub(crate) fn vary(&mut self, varied: Varied) -> anyhow::Result<()> {
        match self.vary.iter_mut().find(|known| known.key == varied.key) {
            Some(known) => known.values = varied.values,
            None => self.vary.push(varied),
        }
        self.check_keys()
    }

    /// Sets options for all points: what the command line says wins, also over what single points have besides.
    ///
    /// # Errors
    /// If one of them is varied.
    pub(crate) fn set(&mut self, given: &[Setting]) -> anyhow::Result<()> {
        let varied = self.varied();
        for setting in given {
            let Setting { key, value } = setting;
            ensure!(
                varied.iter().all(|varied| varied.key != *key),
                "--{key} {value}: {key} is varied; allowed: --vary {key}={value}, or another option"
            );
            for adjust in &mut self.adjust {
                adjust.set.retain(|set| set.key != *key);
            }
        }
        self.base.extend(given.iter().cloned());
        self.check_keys()
    }

    /// The same with a configuration file: what is varied is varied all the same.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub(crate) fn set_where_free(&mut self, settings: Vec<Setting>) -> anyhow::Result<()> {
        let varied = self.varied();
        let stands_for = |varied: &Varied, key: &str| varied.key == key || varied.key == "auth" && refines_auth(key);
        let is_free = |setting: &Setting| !varied.iter().any(|varied| stands_for(varied, &setting.key));
        self.set(&settings.into_iter().filter(is_free).collect::<Vec<_>>())
    }

    /// The options that differ between points, each with its values in the order in which they were written.
    pub(crate) fn varied(&self) -> Vec<Varied> {
        let mut all = self.vary.clone();
        for Setting { key, value } in self.listed.iter().flatten() {
            match all.iter_mut().find(|varied| varied.key == *key) {
                Some(varied) if varied.values.contains(value) => {}
                Some(varied) => varied.values.push(value.clone()),
                None => all.push(Varied { key: key.clone(), values: vec![value.clone()] }),
            }
        }
        all
    }

    /// All points: the combinations of what is varied, but for those that are excluded, then those that are listed; of
    /// both those for which the machine has the cores.
    ///
    /// # Errors
    /// Names the point, the key, its value and what is allowed; also two points that are the same.
    pub(crate) fn points(&self) -> anyhow::Result<Vec<Point>> {
        let included = self.considered().filter(|(_, against)| against.is_none());
        let points = included.map(|(settings, _)| {
            let adjusting = self.adjust.iter().filter(|adjust| adjust.these.holds(&settings));
            let adjusted = adjusting.flat_map(|adjust| adjust.set.iter().cloned()).collect();
            Point::new(&self.base, settings, adjusted)
        });
        let points: Vec<Point> = points.collect::<anyhow::Result<_>>()?;
        ensure!(
            !points.is_empty(),
            "every combination is excluded{}: nothing is left to run; allowed: at least one that is not",
            self.cores.map(|cores| format!(", or needs more than {cores} cores")).unwrap_or_default()
        );
        for (index, point) in points.iter().enumerate() {
            if let Some(same) = points[..index].iter().find(|other| other.options == point.options) {
                bail!("'{}' and '{}' are the same run; allowed: each once", same.label(), point.label());
            }
        }
        Ok(points)
    }

    /// What was left out, and why.
    pub(crate) fn excluded(&self) -> Vec<Excluded> {
        let left_out = self.considered().filter_map(|(settings, against)| {
            let reason = against?;
            Some(Excluded { settings: settings.into_iter().map(|s| (s.key, s.value)).collect(), reason })
        });
        left_out.collect()
    }

    /// The combinations of what is varied, then what is listed, which no `exclude` is about; each with what speaks
    /// against running it here.
    fn considered(&self) -> impl Iterator<Item = (Vec<Setting>, Option<String>)> {
        let combinations = self.combinations().into_iter().map(|settings| {
            let excluded = self.exclude.iter().find(|exclude| exclude.these.holds(&settings));
            let against = excluded.map(|exclude| exclude.reason.clone()).or_else(|| self.lacking_cores(&settings));
            (settings, against)
        });
        let listed = self.listed.iter().map(|settings| (settings.clone(), self.lacking_cores(settings)));
        combinations.chain(listed)
    }

    fn lacking_cores(&self, settings: &[Setting]) -> Option<String> {
        let have = self.cores?;
        let needs = self.needs.iter().filter(|needs| needs.these.holds(settings)).map(|needs| needs.cores).max()?;
        (needs > have).then(|| format!("it needs {needs} cores, and {have} may be used here"))
    }

    /// Every value of each varied option with every value of the others.
    fn combinations(&self) -> Vec<Vec<Setting>> {
        if self.vary.is_empty() {
            return Vec::new();
        }
        let mut all = vec![Vec::new()];
        for Varied { key, values } in &self.vary {
            let longer = |head: &Vec<Setting>| {
                let settings = values.iter().map(|value| Setting { key: key.clone(), value: value.clone() });
                settings.map(|setting| head.iter().cloned().chain([setting]).collect()).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(longer).collect();
        }
        all
    }

    /// No more combinations than anybody waits for, and no option both varied and fixed.
    fn check_keys(&self) -> anyhow::Result<()> {
        let factors = self.vary.iter().map(|varied| varied.values.len());
        let product = factors.fold(1_usize, usize::saturating_mul).saturating_add(self.listed.len());
        ensure!(product <= POINTS_MAX, "{product} points; allowed: at most {POINTS_MAX}");
        if let Some(base) = self.base.iter().find(|base| self.vary.iter().any(|varied| varied.key == base.key)) {
            bail!("{base}: {} is varied; allowed: either one", base.key);
        }
        let presets = self.vary.iter().any(|varied| varied.key == "auth");
        if let Some(base) = self.base.iter().find(|base| presets && refines_auth(&base.key)) {
            bail!(
                "{base}: auth is varied, and stands for all links; allowed: auth-clients, auth-replicas and auth-replies varied instead"
            );
        }
        let keys = |settings: &Vec<Setting>| settings.iter().map(|setting| setting.key.clone()).collect();
        let sets: BTreeSet<BTreeSet<String>> = self.listed.iter().map(keys).collect();
        let of_product: BTreeSet<String> = self.vary.iter().map(|varied| varied.key.clone()).collect();
        let expected = if self.vary.is_empty() { sets.first() } else { Some(&of_product) };
        if let Some(other) = sets.iter().find(|keys| expected.is_some_and(|expected| *keys != expected)) {
            let list = |keys: &BTreeSet<String>| keys.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let expected = expected.map(list).unwrap_or_default();
            bail!("a point sets {}; allowed: the same options in all points ({expected})", list(other));
        }
        Ok(())
    }

    fn read_where(&self, raw: BTreeMap<String, OneOrMany>) -> anyhow::Result<Where> {
        ensure!(!raw.is_empty(), "empty; allowed: KEY = VALUE, or KEY = [VALUE, ..]");
        let mut these = BTreeMap::new();
        let all = self.varied();
        for (key, values) in raw {
            let values = match values {
                OneOrMany::Many(values) => values,
                OneOrMany::One(value) => vec![value],
            };
            let wanted = varied(&key, &values)?;
            let Some(known) = all.iter().find(|varied| varied.key == wanted.key) else {
                let keys: Vec<&str> = all.iter().map(|varied| varied.key.as_str()).collect();
                bail!("{key}: it is not varied; allowed: {}", keys.join(", "));
            };
            if let Some(other) = wanted.values.iter().find(|value| !known.values.contains(value)) {
                bail!("{key} = {other}: no point has it; allowed: {}", known.values.join(", "));
            }
            these.insert(wanted.key, wanted.values);
        }
        Ok(Where(these))
    }
}

/// A table of options.
fn table(table: &toml::Table) -> anyhow::Result<Vec<Setting>> {
    table.iter().map(|(key, value)| Setting::new(key, &config::typed(key, value)?)).collect()
}

/// A point that is listed, its settings in the order in which they are written.
fn listed(raw: BTreeMap<String, Spanned<toml::Value>>) -> anyhow::Result<Vec<Setting>> {
    ensure!(!raw.is_empty(), "empty; allowed: KEY = VALUE, one or more");
    let mut entries: Vec<(String, Spanned<toml::Value>)> = raw.into_iter().collect();
    entries.sort_by_key(|(_, value)| value.span().start);
    entries.iter().map(|(key, value)| Setting::new(key, &config::typed(key, value.get_ref())?)).collect()
}

/// An option with its values, each of them checked.
fn varied(key: &str, values: &[toml::Value]) -> anyhow::Result<Varied> {
    let values: Vec<String> = values.iter().map(|value| config::typed(key, value)).collect::<anyhow::Result<_>>()?;
    distinct(key, &values)
}

/// An option with its values, each of them checked, and none of them twice.
fn distinct(key: &str, values: &[String]) -> anyhow::Result<Varied> {
    let mut settings: Vec<Setting> = Vec::new();
    for value in values {
        let setting = Setting::new(key, value)?;
        ensure!(!settings.contains(&setting), "{setting}: given twice; allowed: each value once");
        settings.push(setting);
    }
    let Some(Setting { key, .. }) = settings.first() else {
        bail!("{} = []: allowed: one value or more", config::known_key(key)?);
    };
    Ok(Varied { key: key.clone(), values: settings.iter().map(|setting| setting.value.clone()).collect() })
}

/// Reads `KEY=VALUE,VALUE..` arguments of a command line, in order. Several of the same key add up.
///
/// Values are separated by commas; by `|` where there is one, so that values may contain commas
/// (`batch=fixed:100|time:100,2ms`). One value that contains commas has a `|` behind it.
///
/// # Errors
/// Names the argument, what is wrong with it and what is allowed.
pub(crate) fn vary_arguments(arguments: &[String]) -> anyhow::Result<Vec<Varied>> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for argument in arguments {
        let context = || format!("--vary {argument}");
        let (key, text) =
            argument.split_once('=').ok_or_else(|| anyhow!("allowed: KEY=VALUE[,VALUE..]")).with_context(context)?;
        let key = config::known_key(key).with_context(context)?;
        let bars = text.contains('|');
        let text = if bars { text.strip_suffix('|').unwrap_or(text) } else { text };
        for value in text.split(if bars { '|' } else { ',' }) {
            let checked = Setting::new(&key, value).map_err(|error| {
                let hint = "values are separated by commas; by | where there is one, for values that contain commas";
                if !bars && text.contains(',') { anyhow!("{error} ({hint})") } else { error }
            });
            let Setting { key, value } = checked.with_context(context)?;
            match all.iter_mut().find(|(known, _)| *known == key) {
                Some((_, values)) => values.push(value),
                None => all.push((key, vec![value])),
            }
        }
    }
    all.iter().map(|(key, values)| distinct(key, values).with_context(|| format!("--vary {key}"))).collect()
}

/// The options that all points have in common as they are resolved: without what is varied.
///
/// # Errors
/// Never for an experiment that has points.
pub(crate) fn resolved_base(experiment: &Experiment) -> anyhow::Result<serde_json::Value> {
    let mut base = serde_json::to_value(point::options(&experiment.base)?)?;
    if let Some(table) = base.as_object_mut() {
        for varied in experiment.varied() {
            table.remove(&varied.key.replace('-', "_"));
        }
    }
    Ok(base)
}

#[cfg(test)]
mod tests;
