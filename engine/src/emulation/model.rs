//! How one link behaves.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution as _, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::limits::{LINK_BITS_PER_S_MIN, LINK_DELAY_MAX};
use crate::named::named_enum;
use crate::settings::OptionError;
use crate::types::nanos;

named_enum! {
    /// How the random part of a delay is distributed. It is never negative: a frame is never early.
    Distribution {
        /// The absolute value of a normal distribution whose standard deviation is the jitter, cut off at four times
        /// the jitter: most frames are hardly late, a few are.
        Normal = "normal",
        /// Uniform from 0 to the jitter.
        Uniform = "uniform",
    }
}

/// What one link does to frames, in one direction. Written `delay=20ms,jitter=2ms,loss=0.1%,bandwidth=100Mbit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkModel {
    /// Every frame arrives at least this much later.
    pub delay: Duration,
    /// Scale of a random addition to the delay of each frame; see [`Distribution`].
    pub jitter: Duration,
    /// How that addition is distributed.
    pub distribution: Distribution,
    /// Whether frames may overtake each other where jitter lets them. Otherwise, as over one TCP connection, a late
    /// frame holds up those behind it.
    pub reorder: bool,
    /// Chance of each frame to be lost, percent.
    pub loss_percent: f64,
    /// How fast frames can be put on the link, bits a second; `None` for at once.
    pub bandwidth: Option<u64>,
    /// Nothing passes.
    pub blocked: bool,
}

impl LinkModel {
    /// A link that does nothing to frames.
    pub const CLEAR: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        distribution: Distribution::Normal,
        reorder: false,
        loss_percent: 0.0,
        bandwidth: None,
        blocked: false,
    };
    /// What its text may hold.
    pub const ALLOWED: &str = "delay=TIME, jitter=TIME (up to 1m, for example 20ms), distribution=normal|uniform, \
         loss=PERCENT% (0% to 100%), bandwidth=RATE (from 1kbit, for example 100Mbit, or unlimited), reorder=on|off, \
         blocked=on|off";

    /// Whether it does nothing to frames.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.delay.is_zero()
            && self.jitter.is_zero()
            && self.loss_percent <= 0.0
            && self.bandwidth.is_none()
            && !self.blocked
    }

    /// This model with what `text` says changed.
    ///
    /// # Errors
    /// Names what can not be read, and what is allowed.
    pub fn with(mut self, text: &str) -> Result<Self, OptionError> {
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            self.set(part).ok_or_else(|| OptionError {
                option: "network",
                value: part.to_owned(),
                allowed: Self::ALLOWED.to_owned(),
            })?;
        }
        Ok(self)
    }

    fn set(&mut self, part: &str) -> Option<()> {
        let (key, value) = part.split_once('=')?;
        let time = |text: &str| humantime::parse_duration(text).ok().filter(|time| *time <= LINK_DELAY_MAX);
        match key.trim() {
            "delay" => self.delay = time(value)?,
            "jitter" => self.jitter = time(value)?,
            "distribution" => self.distribution = *Distribution::ALL.iter().find(|known| known.name() == value)?,
            "loss" => self.loss_percent = percent(value)?,
            "bandwidth" => self.bandwidth = bandwidth(value)?,
            "reorder" => self.reorder = switch(value)?,
            "blocked" => self.blocked = switch(value)?,
            _ => return None,
        }
        Some(())
    }

    /// How long a frame of `bytes` bytes takes to be put on the link, ns: rounded up, so that the rate is never
    /// exceeded.
    #[must_use]
    pub fn serialisation_ns(&self, bytes: usize) -> u64 {
        let Some(bits_per_s) = self.bandwidth else { return 0 };
        let ns = (bytes as u128 * 8 * 1_000_000_000).div_ceil(u128::from(bits_per_s.max(1)));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// Delay and jitter of the next frame, ns.
    pub(super) fn draw_delay_ns(&self, rng: &mut Xoshiro256PlusPlus) -> u64 {
        nanos(self.delay).saturating_add(if self.jitter.is_zero() { 0 } else { self.draw_jitter_ns(rng) })
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn draw_jitter_ns(&self, rng: &mut Xoshiro256PlusPlus) -> u64 {
        let jitter_ns = nanos(self.jitter) as f64;
        let factor: f64 = match self.distribution {
            Distribution::Normal => {
                let deviations: f64 = StandardNormal.sample(rng);
                deviations.abs().min(4.0)
            }
            Distribution::Uniform => rng.random(),
        };
        (jitter_ns * factor) as u64
    }

    /// Whether the next frame is lost.
    pub(super) fn draw_loss(&self, rng: &mut Xoshiro256PlusPlus) -> bool {
        self.loss_percent > 0.0 && rng.random::<f64>() * 100.0 < self.loss_percent
    }
}

impl Default for LinkModel {
    fn default() -> Self {
        Self::CLEAR
    }
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn percent(text: &str) -> Option<f64> {
    let value: f64 = text.strip_suffix('%')?.trim().parse().ok()?;
    (0.0..=100.0).contains(&value).then_some(value)
}

/// Units of bandwidth, the largest first.
const UNITS: [(&str, u64); 4] = [("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1000), ("bit", 1)];

/// `Some(None)`: unlimited.
fn bandwidth(text: &str) -> Option<Option<u64>> {
    if text == "unlimited" {
        return Some(None);
    }
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    let value: f64 = number.trim().parse().ok()?;
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bits_per_s = (value * unit as f64).clamp(0.0, 1e15).round() as u64;
    (value.is_finite() && bits_per_s >= LINK_BITS_PER_S_MIN).then_some(Some(bits_per_s))
}

impl FromStr for LinkModel {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        Self::CLEAR.with(text)
    }
}

impl fmt::Display for LinkModel {
    /// What differs from a clear link; `delay=0s` for a clear one, so that the text is never empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (key, time) in [("delay", self.delay), ("jitter", self.jitter)] {
            if !time.is_zero() {
                parts.push(format!("{key}={}", humantime::format_duration(time)));
            }
        }
        if self.distribution != Self::CLEAR.distribution {
            parts.push(format!("distribution={}", self.distribution));
        }
        if self.loss_percent > 0.0 {
            parts.push(format!("loss={}%", self.loss_percent));
        }
        if let Some(bits_per_s) = self.bandwidth {
            let (name, unit) = UNITS.iter().find(|(_, unit)| bits_per_s % unit == 0).unwrap_or(&("bit", 1));
            parts.push(format!("bandwidth={}{name}", bits_per_s / unit));
        }
        for (key, on) in [("reorder", self.reorder), ("blocked", self.blocked)] {
            if on {
                parts.push(format!("{key}=on"));
            }
        }
        if parts.is_empty() {
            parts.push("delay=0s".into());
        }
        f.write_str(&parts.join(","))
    }
}

impl Serialize for LinkModel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LinkModel {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn models_read_as_people_write_them() {
        let model: LinkModel =
            "delay=20ms, jitter=2ms,loss=0.1%,bandwidth=1.5Mbit,distribution=uniform".parse().unwrap();
        assert_eq!((model.delay, model.jitter), (Duration::from_millis(20), Duration::from_millis(2)));
        assert_eq!((model.bandwidth, model.distribution), (Some(1_500_000), Distribution::Uniform));
        assert!((model.loss_percent - 0.1).abs() < 1e-12 && !model.blocked && !model.reorder);
        assert_eq!(model.to_string(), "delay=20ms,jitter=2ms,distribution=uniform,loss=0.1%,bandwidth=1500kbit");
        let model = model.with("bandwidth=unlimited,blocked=on,loss=0%").unwrap();
        assert_eq!((model.bandwidth, model.blocked), (None, true));
        assert!("".parse::<LinkModel>().unwrap().is_clear() && !model.is_clear());
    }

    #[test]
    fn what_can_not_be_is_named() {
        for text in [
            "delay",
            "delay=2m",
            "delay=-1s",
            "latency=1ms",
            "loss=1",
            "loss=101%",
            "loss=NaN%",
            "bandwidth=10",
            "bandwidth=0Mbit",
            "bandwidth=1bit",
            "bandwidth=NaNbit",
            "reorder=yes",
            "distribution=pareto",
        ] {
            let error = format!("delay=1ms,{text}").parse::<LinkModel>().unwrap_err();
            assert_eq!(error.value, text);
            assert!(error.to_string().contains("allowed: delay=TIME"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(
            times in (0u64..60_000_000_000, 0u64..60_000_000_000),
            loss_percent in prop_oneof![Just(0.0), 0.0..=100.0f64],
            bandwidth in proptest::option::of(LINK_BITS_PER_S_MIN..1_000_000_000_000),
            switches in (any::<bool>(), any::<bool>(), any::<bool>()),
        ) {
            let model = LinkModel {
                delay: Duration::from_nanos(times.0),
                jitter: Duration::from_nanos(times.1),
                distribution: if switches.0 { Distribution::Normal } else { Distribution::Uniform },
                reorder: switches.1,
                loss_percent,
                bandwidth,
                blocked: switches.2,
            };
            prop_assert_eq!(model.to_string().parse::<LinkModel>().unwrap(), model);
        }

        #[test]
        fn garbage_never_panics(text in "\\PC*") {
            let _ = text.parse::<LinkModel>();
        }
    }
}
