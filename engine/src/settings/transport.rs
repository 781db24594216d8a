//! Which transport moves the bytes, as people write it (`epoll`, `io-uring:sqpoll,napi=50us`).

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::options::{OptionError, text_serde};

/// Which backend moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportChoice {
    /// What measures best: `epoll`.
    Auto,
    /// `io_uring` by way of `tokio-uring`.
    TokioUring,
    /// Readiness by epoll.
    Epoll,
    /// `io_uring` by its own operations: multishot receives into provided buffers, one system call a turn.
    IoUring(RingOptions),
}

/// How the ring of [`TransportChoice::IoUring`] works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RingOptions {
    /// A thread of the kernel takes what is submitted, without a system call while it is awake. It needs a core of its
    /// own: for a while it spins.
    pub sqpoll: bool,
    /// How long a wait polls the network card before it sleeps, µs.
    pub napi_us: Option<u32>,
}

/// What a wait may poll the network card for, µs.
const NAPI_US: RangeInclusive<u32> = 1..=10_000;

impl TransportChoice {
    /// What [`FromStr`] takes.
    pub const ALLOWED: &str = "auto, epoll, tokio-uring, io-uring, or io-uring:OPTION[,OPTION] with the options \
                               sqpoll and napi=TIME (1us to 10ms), for example io-uring:sqpoll,napi=50us";

    /// The backend's name, without options.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::TokioUring => "tokio-uring",
            Self::Epoll => "epoll",
            Self::IoUring(_) => "io-uring",
        }
    }
}

impl FromStr for TransportChoice {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let choice = match text {
            "auto" => Some(Self::Auto),
            "tokio-uring" => Some(Self::TokioUring),
            "epoll" => Some(Self::Epoll),
            "io-uring" => Some(Self::IoUring(RingOptions::default())),
            _ => text.strip_prefix("io-uring:").and_then(ring_options).map(Self::IoUring),
        };
        choice.ok_or_else(|| OptionError::new("transport", text, Self::ALLOWED))
    }
}

/// Each option at most once.
fn ring_options(text: &str) -> Option<RingOptions> {
    let mut options = RingOptions::default();
    for option in text.split(',') {
        match option.split_once('=') {
            None if option == "sqpoll" && !options.sqpoll => options.sqpoll = true,
            Some(("napi", time)) if options.napi_us.is_none() => options.napi_us = Some(napi_us(time)?),
            _ => return None,
        }
    }
    Some(options)
}

/// Whole microseconds.
fn napi_us(text: &str) -> Option<u32> {
    let time = humantime::parse_duration(text).ok()?;
    let us = u32::try_from(time.as_micros()).ok().filter(|us| NAPI_US.contains(us))?;
    (Duration::from_micros(us.into()) == time).then_some(us)
}

impl fmt::Display for TransportChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::IoUring(RingOptions { sqpoll, napi_us }) = *self else { return f.pad(self.name()) };
        let named = sqpoll.then(|| "sqpoll".to_owned()).into_iter();
        let napi = napi_us.map(|us| format!("napi={}", humantime::format_duration(Duration::from_micros(us.into()))));
        // Two units, as in 1ms 500us, are read without the space between them too.
        let options: Vec<String> = named.chain(napi.map(|napi| napi.replace(' ', ""))).collect();
        let colon = if options.is_empty() { "" } else { ":" };
        f.pad(&format!("{}{colon}{}", self.name(), options.join(",")))
    }
}

text_serde!(TransportChoice);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_what_they_write() {
        for text in [
            "auto",
            "tokio-uring",
            "epoll",
            "io-uring",
            "io-uring:sqpoll",
            "io-uring:napi=50us",
            "io-uring:napi=1ms500us",
            "io-uring:sqpoll,napi=10ms",
        ] {
            assert_eq!(text.parse::<TransportChoice>().unwrap().to_string(), text);
        }
        let both = TransportChoice::IoUring(RingOptions { sqpoll: true, napi_us: Some(50) });
        assert_eq!("io-uring:napi=50us,sqpoll".parse::<TransportChoice>().unwrap(), both);
        assert_eq!(both.name(), "io-uring");
        assert_eq!(format!("{:<8}|", TransportChoice::Epoll), "epoll   |");
    }

    #[test]
    fn what_is_not_allowed_is_told_with_what_is() {
        for text in [
            "kqueue",
            "",
            "io-uring:",
            "io-uring:iopoll",
            "io-uring:sqpoll,sqpoll",
            "io-uring:sqpoll=2",
            "io-uring:napi",
            "io-uring:napi=0us",
            "io-uring:napi=11ms",
            "io-uring:napi=1500ns",
            "io-uring:napi=5us,napi=6us",
            "io-uring:napi=99999days",
            "tokio-uring:sqpoll",
        ] {
            let error = text.parse::<TransportChoice>().unwrap_err().to_string();
            let allowed = TransportChoice::ALLOWED;
            assert_eq!(error, format!("transport: '{text}' is not allowed; allowed: {allowed}"));
        }
    }
}
