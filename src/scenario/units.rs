//! Quantities as people write them in a scenario: `"10ms"`, `"1.5s"`, `"100Mbit/s"`, `"2%"`.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A length of time: `"50ns"`, `"200us"`, `"10ms"`, `"1.5s"`, `"2m"`; may be negative where a key says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Span {
    /// In nanoseconds.
    pub ns: i64,
}

impl Span {
    /// In nanoseconds, for lengths that [`validated`](super::file) not to be negative.
    pub fn as_ns(self) -> u64 {
        self.ns.max(0) as u64
    }
}

const TIME_UNITS: [(&str, f64); 5] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
];

/// Splits `text` into a number and one of the units, and multiplies.
fn scale(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let at = text.find(|c: char| !(c.is_ascii_digit() || "+-._".contains(c)))?;
    let (number, unit) = text.split_at(at);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    let value = number.replace('_', "").parse::<f64>().ok()? * factor;
    value.is_finite().then_some(value)
}

macro_rules! from_text {
    ($type:ty, $expected:literal, $parse:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        let parse: fn(&str) -> Option<$type> = $parse;
                        parse(text)
                            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

from_text!(
    Span,
    "a duration such as \"200us\", \"10ms\", \"1.5s\" or \"2m\"",
    |text| {
        let ns = scale(text, &TIME_UNITS)?;
        (ns.abs() < 9e18).then(|| Span {
            ns: ns.round() as i64,
        })
    }
);

/// A rate of transmission: `"100Mbit/s"`, `"1Gbit/s"`, `"10MB/s"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bandwidth {
    /// In bytes a second.
    pub bytes_per_s: u64,
}

const BANDWIDTH_UNITS: [(&str, f64); 6] = [
    ("kbit/s", 125.0),
    ("Mbit/s", 125e3),
    ("Gbit/s", 125e6),
    ("kB/s", 1e3),
    ("MB/s", 1e6),
    ("GB/s", 1e9),
];

from_text!(
    Bandwidth,
    "a bandwidth such as \"100Mbit/s\" or \"10MB/s\"",
    |text| {
        let bytes = scale(text, &BANDWIDTH_UNITS)?;
        (1.0..1e18).contains(&bytes).then_some(Bandwidth {
            bytes_per_s: bytes as u64,
        })
    }
);

/// A probability: `"2%"`, `"0.1%"`, `"0%"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Share {
    /// In parts per million.
    pub ppm: u32,
}

impl Share {
    /// As a number from 0 to 1.
    pub fn probability(self) -> f64 {
        f64::from(self.ppm) / 1e6
    }
}

from_text!(
    Share,
    "a percentage from \"0%\" to \"100%\", in steps of 0.0001%",
    |text| {
        let ppm = scale(text, &[("%", 1e4)])?;
        (0.0..=1e6).contains(&ppm).then(|| Share {
            ppm: ppm.round() as u32,
        })
    }
);

/// A quantity that is fixed, or drawn for each seed uniformly from a range: `"8s"` or `["6s", "9s"]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(
    untagged,
    expecting = "a duration such as \"8s\", or a range such as [\"6s\", \"9s\"]"
)]
pub enum Ranged {
    /// Always this.
    Fixed(Span),
    /// From the first to the second.
    Range(Span, Span),
}

impl Ranged {
    /// The smallest and the largest value, in nanoseconds.
    pub fn bounds_ns(self) -> (i64, i64) {
        match self {
            Ranged::Fixed(span) => (span.ns, span.ns),
            Ranged::Range(low, high) => (low.ns, high.ns),
        }
    }
}

/// A whole number that is fixed, or drawn uniformly from a range: `5` or `[1, 50]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Deserialize)]
#[serde(
    untagged,
    expecting = "a whole number such as 5, or a range such as [1, 50]"
)]
pub enum Quantity {
    /// Always this.
    Fixed(u32),
    /// From the first to the second.
    Range(u32, u32),
}

impl Quantity {
    /// The smallest and the largest.
    pub fn bounds(self) -> (u32, u32) {
        match self {
            Quantity::Fixed(fixed) => (fixed, fixed),
            Quantity::Range(low, high) => (low, high),
        }
    }
}

/// Writes nanoseconds in the largest unit that keeps them whole or short: `1.5s`, `250ms`, `80us`.
pub fn human_ns(ns: u64) -> String {
    let ns_f = ns as f64;
    let (unit, factor) = *TIME_UNITS[..4]
        .iter()
        .rev()
        .find(|(_, factor)| ns_f >= *factor)
        .unwrap_or(&TIME_UNITS[0]);
    let value = ns_f / factor;
    let digits = if value >= 100.0 || unit == "ns" { 0 } else { 2 };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
        #[derive(serde::Deserialize)]
        struct Holder<T> {
            x: T,
        }
        toml::from_str::<Holder<T>>(&format!("x = {text}"))
            .map(|holder| holder.x)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn durations_are_read_in_every_unit_and_refused_without_one() {
        let ns = |text: &str| read::<Span>(&format!("{text:?}")).map(|span| span.ns);
        assert_eq!(ns("50ns"), Ok(50));
        assert_eq!(ns("200us"), Ok(200_000));
        assert_eq!(ns("1.5s"), Ok(1_500_000_000));
        assert_eq!(ns("2m"), Ok(120_000_000_000));
        assert_eq!(ns("-500ms"), Ok(-500_000_000));
        for bad in ["10", "10 parsecs", "ms", "1e9s", "", "9999999999999s"] {
            let message = ns(bad).expect_err(bad);
            assert!(message.contains("a duration such as"), "{message}");
        }
    }

    #[test]
    fn shares_and_bandwidths_are_read_in_their_units() {
        assert_eq!(read::<Share>("\"0.1%\"").map(|share| share.ppm), Ok(1_000));
        assert!(read::<Share>("\"101%\"").is_err());
        assert!(read::<Share>("0.02").is_err());
        assert_eq!(
            read::<Bandwidth>("\"1Gbit/s\"").map(|b| b.bytes_per_s),
            Ok(125_000_000)
        );
    }

    #[test]
    fn times_are_written_as_people_write_them() {
        let cases = [
            (0, "0ns"),
            (80_000, "80us"),
            (1_500_000_000, "1.5s"),
            (250_000_000, "250ms"),
        ];
        for (ns, text) in cases {
            assert_eq!(human_ns(ns), text);
        }
    }
}
