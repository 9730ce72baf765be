//! Options. What each may be is part of its type, so a value that means nothing is refused where it is written.
//! Nothing that goes over all options can leave one out: the listing, the reference, the tests at the edges of
//! every range, and the campaign that tries every value.
//!
//! [`declare!`] declares a struct of options once: documentation, types and defaults.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::process::Delay;

/// Longest duration of an option: a day, as everywhere in a scenario.
pub const DAY_MS: u64 = 86_400_000;

const NS_PER_MS: u64 = 1_000_000;

/// A length of time in whole milliseconds, from `LEAST` to `MOST`. `LEAST` is 0 where 0 has a meaning of its own,
/// which the option's documentation gives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Millis<const LEAST: u64 = 1, const MOST: u64 = DAY_MS>(u64);

impl<const LEAST: u64, const MOST: u64> Millis<LEAST, MOST> {
    /// That many milliseconds.
    ///
    /// # Panics
    ///
    /// When they are out of range.
    pub const fn new(ms: u64) -> Self {
        // The largest half as much again is still far from the end of 64 bits of nanoseconds.
        const { assert!(LEAST <= MOST && MOST <= DAY_MS) };
        assert!(LEAST <= ms && ms <= MOST, "the option is out of range");
        Self(ms)
    }

    /// In nanoseconds.
    pub const fn ns(self) -> u64 {
        self.0 * NS_PER_MS
    }

    /// In nanoseconds; `None` for 0, where that says never.
    pub fn unless_never(self) -> Option<u64> {
        (self.0 > 0).then(|| self.ns())
    }

    /// Exactly this long.
    pub fn exactly(self) -> Delay {
        Delay::exactly(self.ns())
    }

    /// From this long to half as much again: retries of different transactions spread out.
    pub fn about(self) -> Delay {
        self.about_times(1)
    }

    /// From `times` this long to half as much again.
    pub fn about_times(self, times: u64) -> Delay {
        let ns = self.ns().saturating_mul(times);
        Delay::between(ns, ns.saturating_add(ns / 2))
    }
}

/// A duration drawn anew each time, in whole milliseconds: `[min, max]`, both from `LEAST` to `MOST`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MillisRange<const LEAST: u64 = 1, const MOST: u64 = DAY_MS> {
    min_ms: u64,
    max_ms: u64,
}

impl<const LEAST: u64, const MOST: u64> MillisRange<LEAST, MOST> {
    /// From `min_ms` to `max_ms`.
    ///
    /// # Panics
    ///
    /// When they are out of range, or the wrong way round.
    pub const fn new(min_ms: u64, max_ms: u64) -> Self {
        const { assert!(LEAST <= MOST && MOST <= DAY_MS) };
        assert!(LEAST <= min_ms && min_ms <= max_ms && max_ms <= MOST);
        Self { min_ms, max_ms }
    }

    /// The smallest, in nanoseconds.
    pub const fn min_ns(self) -> u64 {
        self.min_ms * NS_PER_MS
    }

    /// The largest, in nanoseconds.
    pub const fn max_ns(self) -> u64 {
        self.max_ms * NS_PER_MS
    }

    /// As wide, and beginning where this one ends.
    pub const fn afterwards(self) -> Self {
        Self {
            min_ms: self.max_ms,
            max_ms: 2 * self.max_ms - self.min_ms,
        }
    }

    /// As a timer takes it.
    pub fn delay(self) -> Delay {
        Delay::between(self.min_ns(), self.max_ns())
    }
}

/// A number from `LEAST` to `MOST`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Number<const LEAST: u64, const MOST: u64>(u64);

impl<const LEAST: u64, const MOST: u64> Number<LEAST, MOST> {
    /// That number.
    ///
    /// # Panics
    ///
    /// When it is out of range.
    pub const fn new(number: u64) -> Self {
        const { assert!(LEAST <= MOST && MOST <= i64::MAX as u64) };
        assert!(
            LEAST <= number && number <= MOST,
            "the option is out of range"
        );
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number, as a length.
    pub const fn size(self) -> usize {
        self.0 as usize
    }
}

/// The name of something in the scenario (a region, say). What the empty name means, the option's documentation says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// The name; nothing if it is empty.
    pub fn get(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl<const LEAST: u64, const MOST: u64> Serialize for Millis<LEAST, MOST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<const LEAST: u64, const MOST: u64> Serialize for MillisRange<LEAST, MOST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.min_ms, self.max_ms].serialize(serializer)
    }
}

impl<const LEAST: u64, const MOST: u64> Serialize for Number<LEAST, MOST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Reads a whole number within a range, and says what it expected instead.
struct Within {
    domain: Domain,
}

impl Visitor<'_> for Within {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.domain)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        let (least, most) = self.domain.bounds().expect("only numbers are read here");
        match (least..=most).contains(&number) {
            true => Ok(number),
            false => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Millis<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (least, most) = (LEAST, MOST);
        let domain = Domain::Milliseconds { least, most };
        deserializer.deserialize_u64(Within { domain }).map(Self)
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Number<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (least, most) = (LEAST, MOST);
        let domain = Domain::Number { least, most };
        deserializer.deserialize_u64(Within { domain }).map(Self)
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for MillisRange<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [min, max] = <[Millis<LEAST, MOST>; 2]>::deserialize(deserializer)?;
        match min <= max {
            true => Ok(Self::new(min.0, max.0)),
            false => Err(de::Error::custom(format!(
                "[{}, {}] is no range: write the smaller one first",
                min.0, max.0
            ))),
        }
    }
}

/// What an option may be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Domain {
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice {
        /// The words.
        values: &'static [&'static str],
    },
    /// A whole number of milliseconds.
    Milliseconds {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// Two whole numbers of milliseconds, the smaller one first.
    MillisecondsRange {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// A whole number.
    Number {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// A name of the scenario.
    Name,
}

impl Domain {
    /// The smallest and the largest number, where it is one of numbers.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        match *self {
            Domain::Flag | Domain::Choice { .. } | Domain::Name => None,
            Domain::Milliseconds { least, most }
            | Domain::MillisecondsRange { least, most }
            | Domain::Number { least, most } => Some((least, most)),
        }
    }
}

impl Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domain::Flag => f.write_str("`true` or `false`"),
            Domain::Name => f.write_str("a name of the scenario"),
            Domain::Choice { values } => {
                let quoted: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
                write!(f, "one of {}", quoted.join(", "))
            }
            Domain::Milliseconds { least, most } => {
                write!(f, "whole milliseconds from {least} to {most}")
            }
            Domain::MillisecondsRange { least, most } => {
                write!(f, "[min, max] in whole milliseconds from {least} to {most}")
            }
            Domain::Number { least, most } => write!(f, "a whole number from {least} to {most}"),
        }
    }
}

/// A value of an option.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OptionValue {
    /// Of a flag.
    Flag(bool),
    /// Of a number, or a number of milliseconds.
    Number(u64),
    /// Of a range of milliseconds.
    Range([u64; 2]),
    /// Of a choice.
    Word(String),
}

impl Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionValue::Flag(flag) => write!(f, "{flag}"),
            OptionValue::Number(number) => write!(f, "{number}"),
            OptionValue::Range([min, max]) => write!(f, "[{min}, {max}]"),
            OptionValue::Word(word) => write!(f, "{word:?}"),
        }
    }
}

impl From<&OptionValue> for toml::Value {
    fn from(value: &OptionValue) -> Self {
        // Larger numbers than TOML's are no option's: see `Number::new`.
        let number = |number: &u64| toml::Value::Integer((*number).min(i64::MAX as u64) as i64);
        match value {
            OptionValue::Flag(flag) => toml::Value::Boolean(*flag),
            OptionValue::Number(one) => number(one),
            OptionValue::Range(two) => toml::Value::Array(two.iter().map(number).collect()),
            OptionValue::Word(word) => toml::Value::String(word.clone()),
        }
    }
}

/// Values by the options' dotted names, as in `log.algorithm`.
pub type Chosen = BTreeMap<String, OptionValue>;

/// Writes values into a table of options, over what it says.
pub fn write_into(table: &mut toml::Table, chosen: &Chosen) {
    for (name, value) in chosen {
        let mut at = &mut *table;
        let (parents, key) = match name.rsplit_once('.') {
            Some((parents, key)) => (parents.split('.').collect(), key),
            None => (Vec::new(), name.as_str()),
        };
        for parent in parents {
            let empty = || toml::Value::Table(toml::Table::new());
            at = { at.entry(parent).or_insert_with(empty) }
                .as_table_mut()
                .expect("an option with a dot in its name lies in a table");
        }
        at.insert(key.to_owned(), value.into());
    }
}

/// Whether a table of options says something about the option of this dotted name.
pub fn is_stated(table: &toml::Table, name: &str) -> bool {
    match name.split_once('.') {
        None => table.contains_key(name),
        Some((parent, rest)) => {
            let inner = table.get(parent).and_then(toml::Value::as_table);
            inner.is_some_and(|inner| is_stated(inner, rest))
        }
    }
}

/// An option as it is listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Described {
    /// Its name, dotted where it lies in a table of its own.
    pub name: String,
    /// What it is.
    pub about: String,
    /// What it is unless a scenario says otherwise.
    pub default: OptionValue,
    /// What it may be.
    #[serde(flatten)]
    pub domain: Domain,
}

impl Described {
    /// The values that a campaign tries: each word of a choice; of a number the least, a small one and the default; of
    /// a duration the default, a much shorter and a longer one, and 0 where that says never. Of a name the default alone:
    /// which others there are, only the scenario knows.
    pub fn tried(&self) -> Vec<OptionValue> {
        let mut values = match (&self.domain, &self.default) {
            (Domain::Flag, _) => [false, true].map(OptionValue::Flag).to_vec(),
            (Domain::Name, name) => vec![name.clone()],
            (Domain::Choice { values }, _) => {
                let words = values
                    .iter()
                    .map(|word| OptionValue::Word((*word).to_owned()));
                words.collect()
            }
            (Domain::Number { least, most }, OptionValue::Number(default)) => {
                let few = [*least, least + 1, least + 15, *default];
                let within = few.into_iter().filter(|number| number <= most);
                within.map(OptionValue::Number).collect()
            }
            (Domain::Milliseconds { least, most }, OptionValue::Number(default)) => {
                let usual = match default {
                    // What says never says nothing about what would be short.
                    0 => [0, 300, 3_000],
                    default => [default / 8, *default, default * 2],
                };
                let never = usual.iter().copied().chain((*least == 0).then_some(0));
                never
                    .map(|ms| OptionValue::Number(ms.clamp(*least, *most)))
                    .collect()
            }
            (Domain::MillisecondsRange { least, most }, OptionValue::Range(default)) => {
                let scaled =
                    |up: u64, down: u64| default.map(|ms| (ms * up / down).clamp(*least, *most));
                let usual = [scaled(1, 4), *default, scaled(2, 1)];
                usual.map(OptionValue::Range).to_vec()
            }
            (domain, default) => unreachable!("{default} is not of the kind {domain}"),
        };
        values.sort();
        values.dedup();
        values
    }
}

/// A type that an option may have.
pub trait OptionType {
    /// Adds the option of this name, whose default is `self`; a table of options adds each of its own.
    fn describe(&self, name: &str, about: &str, into: &mut Vec<Described>);
}

fn described(name: &str, about: &str, default: OptionValue, domain: Domain) -> Described {
    Described {
        name: name.to_owned(),
        about: about.trim().to_owned(),
        default,
        domain,
    }
}

impl OptionType for bool {
    fn describe(&self, name: &str, about: &str, into: &mut Vec<Described>) {
        let default = OptionValue::Flag(*self);
        into.push(described(name, about, default, Domain::Flag));
    }
}

impl<const LEAST: u64, const MOST: u64> OptionType for Millis<LEAST, MOST> {
    fn describe(&self, name: &str, about: &str, into: &mut Vec<Described>) {
        let (least, most) = (LEAST, MOST);
        let domain = Domain::Milliseconds { least, most };
        into.push(described(name, about, OptionValue::Number(self.0), domain));
    }
}

impl<const LEAST: u64, const MOST: u64> OptionType for MillisRange<LEAST, MOST> {
    fn describe(&self, name: &str, about: &str, into: &mut Vec<Described>) {
        let (least, most) = (LEAST, MOST);
        let default = OptionValue::Range([self.min_ms, self.max_ms]);
        let domain = Domain::MillisecondsRange { least, most };
        into.push(described(name, about, default, domain));
    }
}

impl<const LEAST: u64, const MOST: u64> OptionType for Number<LEAST, MOST> {
    fn describe(&self, name: &str, about: &str, into: &mut Vec<Described>) {
        let (least, most) = (LEAST, MOST);
        let domain = Domain::Number { least, most };
        into.push(described(name, about, OptionValue::Number(self.0), domain));
    }
}

impl OptionType for Name {
    fn describe(&self, name: &str, about: &str, into: &mut Vec<Described>) {
        let default = OptionValue::Word(self.0.clone());
        into.push(described(name, about, default, Domain::Name));
    }
}

/// A choice between words: an enum whose variants hold nothing.
pub trait Choice: Serialize + DeserializeOwned {}

impl<T: Choice> OptionType for T {
    fn describe(&self, name: &str, about: &str, into: &mut Vec<Described>) {
        let word = serde_json::to_value(self).expect("a variant without fields is a word");
        let word = word.as_str().expect("a variant without fields is a word");
        let values = words_of::<T>();
        let default = OptionValue::Word(word.to_owned());
        into.push(described(name, about, default, Domain::Choice { values }));
    }
}

/// The words of a choice, as its deserialisation names them.
fn words_of<T: DeserializeOwned>() -> &'static [&'static str] {
    /// Notes what is asked for, and gives nothing.
    struct Ask<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("no choice between words"))
        }

        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _: &'static str,
            variants: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = variants;
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }

    let mut words: &'static [&'static str] = &[];
    let refused = T::deserialize(Ask(&mut words)).is_err();
    assert!(refused && !words.is_empty(), "a choice is an enum");
    words
}

/// Options that do not go together, or not with the machines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unfit {
    /// The dotted name of the one to change.
    pub option: &'static str,
    /// What is wrong.
    pub message: String,
}

#[doc(hidden)]
#[macro_export]
macro_rules! declare_options {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $( $(#[doc = $docs:literal])+ $field:ident: $type:ty = $default:expr, )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub struct $name {
            $( $(#[doc = $docs])+ pub $field: $type, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $crate::base::options::OptionType for $name {
            fn describe(
                &self,
                name: &str,
                _: &str,
                into: &mut Vec<$crate::base::options::Described>,
            ) {
                $(
                    let key = stringify!($field).replace('_', "-");
                    let key = match name {
                        "" => key,
                        table => format!("{table}.{key}"),
                    };
                    let about = concat!($($docs),+);
                    $crate::base::options::OptionType::describe(&self.$field, &key, about, into);
                )+
            }
        }
    };
}

#[doc(inline)]
pub use declare_options as declare;
