//! How texts for people are decorated, and how they write numbers.

/// How the text is decorated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    Plain,
    /// With ANSI colours, for terminals.
    Colour,
}

impl Style {
    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What is as it should be.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// What is not.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// A whole number with commas: `1,234,567`.
#[must_use]
pub fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    if value <= -0.5 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds in the unit that reads best, with three digits.
#[must_use]
pub fn time(us: f64) -> String {
    let (value, unit) = if us < 999.5 {
        (us, "µs")
    } else if us < 999_500.0 {
        (us / 1e3, "ms")
    } else {
        (us / 1e6, "s")
    };
    let decimals = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {unit}")
}

/// A number with three digits, however small it is: `0.0489`, `28.0`, `1,234`.
pub(crate) fn digits(value: f64) -> String {
    if value.abs() >= 99.95 {
        return count(value);
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let decimals = (2.0 - value.abs().max(1e-9).log10().floor()).clamp(0.0, 9.0) as usize;
    if value == 0.0 { "0".to_owned() } else { format!("{value:.decimals$}") }
}

/// A difference in percent with its sign: `+1.2 %`. What rounds to nothing has a plus.
pub(crate) fn signed_percent(percent: f64) -> String {
    // Adding it makes the zero that is negative the other one.
    let rounded = (percent * 10.0).round() / 10.0 + 0.0;
    format!("{rounded:+.1} %")
}

/// The version in what a kernel calls its release, which whoever built it has lengthened at will: `6.18.44` of
/// `6.18.44-fc-v657`.
pub(crate) fn version(release: &str) -> &str {
    release.split('-').next().unwrap_or(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0.0, 999.0, 1000.0, 1_234_567.4, -5_000.0].map(count),
            ["0", "999", "1,000", "1,234,567", "-5,000"]
        );
        assert_eq!(
            [0.5, 12.34, 999.6, 45_678.0, 2.5e6].map(time),
            ["0.50 µs", "12.3 µs", "1.00 ms", "45.7 ms", "2.50 s"]
        );
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(
            [0.0, 0.048_86, 0.5, 28.0, 99.9, 123.4, 1234.5].map(digits),
            ["0", "0.0489", "0.500", "28.0", "99.9", "123", "1,234"]
        );
    }

    #[test]
    fn nothing_has_a_plus() {
        assert_eq!(
            [1.24, -40.0, 0.0, -0.01, 99.94].map(signed_percent),
            ["+1.2 %", "-40.0 %", "+0.0 %", "+0.0 %", "+99.9 %"]
        );
    }

    #[test]
    fn kernels_are_told_by_their_version() {
        assert_eq!(["6.18.44-fc-v657", "6.1.0", ""].map(version), ["6.18.44", "6.1.0", ""]);
    }
}
