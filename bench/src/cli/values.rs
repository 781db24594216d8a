//! Values as people write them: `10s`, `64KiB`, `mac`.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;
use hippodrome_engine::emulation::NetworkSpec;
use hippodrome_engine::settings::{Authentication, OptionError};
use hippodrome_loadgen::generator::WorkloadKind;
use serde::{Serialize, Serializer};

/// A length of time, written `10s`, `500ms`, `1m 30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// A number of bytes, written `16`, `4kB`, `64KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Size(pub(crate) u64);

/// Strategies for all classes of links by one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Preset(pub(crate) Authentication);

/// A network to emulate, and how it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Network {
    text: String,
    /// What it is.
    pub(crate) spec: NetworkSpec,
}

/// The replicated application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum App {
    /// Nothing is done: requests and replies of chosen sizes
    Null,
    /// A key-value store under YCSB's mixes
    Kv,
}

/// How the sends of an open loop are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrivals {
    /// Evenly
    Constant,
    /// At random, as independent users would
    Poisson,
}

/// YCSB's core workloads (Cooper et al., SoCC'10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// Half reads, half updates
    A,
    /// 95 % reads, 5 % updates
    B,
    /// Reads only
    C,
    /// 95 % reads of recent records, 5 % inserts
    D,
    /// 95 % short scans, 5 % inserts
    E,
    /// Half reads, half read-modify-writes
    F,
}

impl From<Workload> for WorkloadKind {
    fn from(workload: Workload) -> Self {
        match workload {
            Workload::A => Self::A,
            Workload::B => Self::B,
            Workload::C => Self::C,
            Workload::D => Self::D,
            Workload::E => Self::E,
            Workload::F => Self::F,
        }
    }
}

/// Which operations are followed to tell where time goes, written `auto`, `off`, `1/1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sample {
    /// So many that the tail can be told, by how many there will be
    Auto,
    /// None
    Off,
    /// One in so many
    OneIn(u64),
}

impl Sample {
    /// One in most.
    const MOST: u64 = 1 << 30;
    /// Operations of a second that `auto` has followed: some thousands tell a p99.9 in seconds, and cost nothing.
    const WANTED_PER_S: f64 = 2000.0;
    /// In a closed loop each client has some hundred to some thousand operations a second.
    const CLIENTS_PER_SAMPLE: u64 = 4;

    /// One in how many operations is followed, of so many clients, at this rate if it is an open loop; 0 for none.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are 1 to 1e9")]
    pub(crate) fn one_in(self, clients: u32, rate: Option<f64>) -> u64 {
        match (self, rate) {
            (Self::Off, _) => 0,
            (Self::OneIn(many), _) => many,
            (Self::Auto, Some(rate)) => ((rate / Self::WANTED_PER_S).round() as u64).max(1),
            (Self::Auto, None) => (u64::from(clients) / Self::CLIENTS_PER_SAMPLE).max(1),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::OneIn(many) => write!(f, "1/{many}"),
        }
    }
}

impl std::str::FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let many = text.strip_prefix("1/").and_then(|many| many.parse().ok());
        let many = many.filter(|many| (1..=Self::MOST).contains(many));
        many.map(Self::OneIn).ok_or_else(|| format!("allowed: auto, off, or 1/N with N from 1 to {}", Self::MOST))
    }
}

impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number that may be left to the program, written `auto`, `4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// By the machine and the other options
    Auto,
    /// So many
    Of(u32),
}

impl Count {
    /// The number, if it is given.
    pub(crate) const fn given(self) -> Option<u32> {
        match self {
            Self::Auto => None,
            Self::Of(number) => Some(number),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Of(number) => number.fmt(f),
        }
    }
}

/// A number where it is one, so that files hold what they always did.
impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Of(number) => serializer.serialize_u32(*number),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Preset {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        text.parse().map(Self)
    }
}

impl Serialize for Preset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let spec = NetworkSpec::open(text).map_err(|error| error.to_string())?;
        Ok(Self { text: text.to_owned(), spec })
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// A value's name, as it is typed.
pub(crate) fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Reads a length of time between `min` and `max`.
pub(crate) fn span(min: Duration, max: Duration) -> impl Fn(&str) -> Result<Span, String> + Clone {
    move |text| {
        let allowed = || format!("allowed: {} to {}, for example 500ms", Span(min), Span(max));
        let value = humantime::parse_duration(text).map_err(|error| format!("{error}; {}", allowed()))?;
        if (min..=max).contains(&value) { Ok(Span(value)) } else { Err(allowed()) }
    }
}

/// Reads a number of whole seconds between `min` and `max`: throughput is judged second by second.
pub(crate) fn whole_seconds(min: u64, max: u64) -> impl Fn(&str) -> Result<Span, String> + Clone {
    move |text| {
        let allowed = || format!("allowed: whole seconds, {min}s to {max}s, for example 10s");
        let value = humantime::parse_duration(text).map_err(|error| format!("{error}; {}", allowed()))?;
        let whole = value.subsec_nanos() == 0 && (min..=max).contains(&value.as_secs());
        if whole { Ok(Span(value)) } else { Err(allowed()) }
    }
}

/// Reads a number of bytes up to `max`.
pub(crate) fn size(max: usize) -> impl Fn(&str) -> Result<Size, String> + Clone {
    size_between(0, max)
}

/// Reads a number of bytes between `min` and `max`.
pub(crate) fn size_between(min: usize, max: usize) -> impl Fn(&str) -> Result<Size, String> + Clone {
    move |text| {
        let allowed = || format!("allowed: {min} to {} ({max} bytes), for example 128 or 4KiB", ByteSize(max as u64));
        let value: ByteSize = text.parse().map_err(|error| format!("{error}; {}", allowed()))?;
        if (min as u64..=max as u64).contains(&value.0) { Ok(Size(value.0)) } else { Err(allowed()) }
    }
}

/// Reads a whole number between `min` and `max`.
pub(crate) fn whole<T: TryFrom<u64>>(min: u64, max: u64) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let value = text.replace('_', "").parse::<u64>().ok().filter(|value| (min..=max).contains(value));
        let value = value.and_then(|value| T::try_from(value).ok());
        value.ok_or_else(|| format!("allowed: a whole number from {min} to {max}"))
    }
}

/// Reads `auto`, or a whole number between 1 and `max`.
pub(crate) fn count(max: u32) -> impl Fn(&str) -> Result<Count, String> + Clone {
    move |text| {
        if text == "auto" {
            return Ok(Count::Auto);
        }
        whole(1, max.into())(text)
            .map(Count::Of)
            .map_err(|_| format!("allowed: auto, or a whole number from 1 to {max}"))
    }
}

/// Reads a real number between `min` and `max`.
pub(crate) fn real(min: f64, max: f64) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| {
        let value = text.replace('_', "").parse::<f64>().ok().filter(|value| (min..=max).contains(value));
        value.ok_or_else(|| format!("allowed: a number from {min} to {max}"))
    }
}

/// Reads a percentage between `min` and `max`: `5%` or `5`.
pub(crate) fn percent(min: f64, max: f64) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| {
        let value = real(min, max)(text.trim_end_matches('%').trim_end());
        value.map_err(|_| format!("allowed: {min}% to {max}%, for example 5%"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        let read = span(Duration::from_millis(1), Duration::from_secs(60));
        assert_eq!(read("250ms").unwrap().0, Duration::from_millis(250));
        assert_eq!(read("1m").unwrap().to_string(), "1m");
        for text in ["0s", "2m", "10", "fast", ""] {
            assert!(read(text).unwrap_err().contains("allowed: 1ms to 1m"), "{text}");
        }
        let read = whole_seconds(1, 60);
        assert_eq!(read("10s").unwrap().0, Duration::from_secs(10));
        for text in ["1500ms", "0s", "61s", "x"] {
            assert!(read(text).unwrap_err().contains("whole seconds, 1s to 60s"), "{text}");
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        let read = size(1 << 20);
        for (text, bytes) in [("0", 0), ("16", 16), ("4kB", 4000), ("64KiB", 65536), ("1MiB", 1 << 20)] {
            assert_eq!(read(text).unwrap().0, bytes, "{text}");
        }
        for text in ["-1", "2MiB", "many"] {
            assert!(read(text).unwrap_err().contains("(1048576 bytes)"), "{text}");
        }
    }

    #[test]
    fn samples_read_as_people_write_them() {
        for text in ["auto", "off", "1/1", "1/1000", "1/1073741824"] {
            assert_eq!(text.parse::<Sample>().unwrap().to_string(), text);
        }
        for text in ["", "1", "2/3", "1/0", "1/-1", "1/1073741825", "on"] {
            assert!(text.parse::<Sample>().unwrap_err().contains("auto, off, or 1/N with N from 1 to"), "{text}");
        }
        let one_in = |sample: Sample, clients, rate| sample.one_in(clients, rate);
        assert_eq!([one_in(Sample::Off, 4000, None), one_in(Sample::OneIn(7), 4000, Some(1.0))], [0, 7]);
        assert_eq!([1, 7, 8, 4000].map(|clients| one_in(Sample::Auto, clients, None)), [1, 1, 2, 1000]);
        assert_eq!([1.0, 2900.0, 1e6].map(|rate| one_in(Sample::Auto, 4000, Some(rate))), [1, 1, 500]);
    }

    #[test]
    fn numbers_are_bounded_and_finite() {
        let read = percent(0.0, 50.0);
        assert!((read("5%").unwrap() - 5.0).abs() < 1e-9 && (read("2.5").unwrap() - 2.5).abs() < 1e-9);
        for text in ["-1%", "51%", "%", "x%"] {
            assert!(read(text).unwrap_err().contains("0% to 50%"), "{text}");
        }
        let read = real(0.0, 2.0);
        assert!((read("0.99").unwrap() - 0.99).abs() < f64::EPSILON);
        assert!((real(1.0, 1e9)("1_000_000").unwrap() - 1e6).abs() < 1e-6);
        for text in ["NaN", "inf", "-1", "2.1", ""] {
            assert!(read(text).unwrap_err().contains("from 0 to 2"), "{text}");
        }
    }
}
