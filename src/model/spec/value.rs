//! TLA+ values: how the states of the Rust models are written, and the constants of a model's `.cfg` read.
//!
//! TLC prints sets and functions in an order of its own. Here every value has exactly one text, so that two
//! states are equal if and only if their texts are: sets and the domains of functions are sorted by text, a
//! function on strings is a record, one on `1..n` a sequence, and the empty function `<<>>`, as in TLC.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use super::Members;

/// A TLA+ value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// An integer.
    Int(i64),
    /// TRUE or FALSE.
    Bool(bool),
    /// A string.
    Text(String),
    /// A model value: equal to itself only.
    Model(String),
    /// A set.
    Set(Vec<Value>),
    /// A sequence or tuple.
    Seq(Vec<Value>),
    /// A record: a function on strings.
    Record(Vec<(String, Value)>),
    /// Any other function.
    Function(Vec<(Value, Value)>),
}

impl Value {
    /// A string.
    pub fn text(text: &str) -> Self {
        Value::Text(text.to_owned())
    }

    /// A model value.
    pub fn model(name: impl Display) -> Self {
        Value::Model(name.to_string())
    }

    /// A set of values.
    pub fn set(members: impl IntoIterator<Item = Value>) -> Self {
        Value::Set(members.into_iter().collect())
    }

    /// A sequence of values.
    pub fn seq(items: impl IntoIterator<Item = Value>) -> Self {
        Value::Seq(items.into_iter().collect())
    }

    /// A record.
    pub fn record<const N: usize>(fields: [(&str, Value); N]) -> Self {
        Value::Record(
            fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }

    /// A function, in the shape in which TLC prints it.
    pub fn function(pairs: impl IntoIterator<Item = (Value, Value)>) -> Self {
        let mut pairs: Vec<(Value, Value)> = pairs.into_iter().collect();
        pairs.sort_by_cached_key(|(key, _)| match key {
            Value::Int(number) => (*number, String::new()),
            other => (0, other.to_string()),
        });
        if pairs
            .iter()
            .enumerate()
            .all(|(at, (key, _))| *key == Value::Int(at as i64 + 1))
        {
            return Value::Seq(pairs.into_iter().map(|(_, value)| value).collect());
        }
        if pairs.iter().all(|(key, _)| matches!(key, Value::Text(_))) {
            let name = |key| match key {
                Value::Text(name) => name,
                _ => unreachable!("all keys are strings"),
            };
            return Value::Record(
                pairs
                    .into_iter()
                    .map(|(key, value)| (name(key), value))
                    .collect(),
            );
        }
        Value::Function(pairs)
    }
}

impl From<u8> for Value {
    fn from(number: u8) -> Self {
        Value::Int(i64::from(number))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Bool(truth)
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Int(number) => write!(f, "{number}"),
            Value::Bool(truth) => f.write_str(if *truth { "TRUE" } else { "FALSE" }),
            Value::Text(text) => write!(f, "\"{text}\""),
            Value::Model(name) => f.write_str(name),
            Value::Set(members) => write!(
                f,
                "{{{}}}",
                sorted(members.iter().map(Value::to_string)).join(", ")
            ),
            Value::Seq(items) => {
                let items: Vec<String> = items.iter().map(Value::to_string).collect();
                write!(f, "<<{}>>", items.join(", "))
            }
            Value::Record(fields) => {
                let fields = sorted(
                    fields
                        .iter()
                        .map(|(name, value)| format!("{name} |-> {value}")),
                );
                write!(f, "[{}]", fields.join(", "))
            }
            Value::Function(pairs) => {
                let pairs = sorted(pairs.iter().map(|(key, value)| format!("{key} :> {value}")));
                write!(f, "({})", pairs.join(" @@ "))
            }
        }
    }
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.collect();
    texts.sort();
    texts.dedup();
    texts
}

/// The sections of a `.cfg` that are understood.
const SECTIONS: [&str; 7] = [
    "SPECIFICATION",
    "CONSTANT",
    "CONSTANTS",
    "INVARIANT",
    "INVARIANTS",
    "PROPERTY",
    "PROPERTIES",
];

/// What a model's `.cfg` says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// The formula under SPECIFICATION.
    pub specification: String,
    /// The names under INVARIANTS.
    pub invariants: Vec<String>,
    /// The names under PROPERTIES.
    pub properties: Vec<String>,
    constants: BTreeMap<String, Value>,
}

/// Why a `.cfg` makes no model.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// Text that is not understood.
    #[error("cannot read {0:?}")]
    Syntax(String),
    /// A constant that is missing, of another kind, or too large for the Rust model.
    #[error("constant {name}: expected {expected}")]
    Constant {
        /// Its name.
        name: String,
        /// What the model can use.
        expected: &'static str,
    },
    /// A formula that the Rust model does not know.
    #[error("the Rust model has no {what} {name}")]
    Unknown {
        /// Specification, invariant or property.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

impl Config {
    /// Reads the subset of TLC's configuration language that `specs/` uses.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Syntax`] for anything else.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let words = words(text);
        let mut config = Self::default();
        let mut rest = words.as_slice();
        let mut section = "";
        while let Some((word, after)) = rest.split_first() {
            rest = after;
            if SECTIONS.contains(&word.as_str()) {
                section = word;
                continue;
            }
            match section {
                "SPECIFICATION" => config.specification.clone_from(word),
                "INVARIANT" | "INVARIANTS" => config.invariants.push(word.clone()),
                "PROPERTY" | "PROPERTIES" => config.properties.push(word.clone()),
                "CONSTANT" | "CONSTANTS" => {
                    rest = rest
                        .strip_prefix(&["=".to_owned()])
                        .ok_or_else(|| ConfigError::Syntax(word.clone()))?;
                    let value = value(&mut rest)?;
                    config.constants.insert(word.clone(), value);
                }
                _ => return Err(ConfigError::Syntax(word.clone())),
            }
        }
        Ok(config)
    }

    /// A natural number.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Constant`] if it is not one, or above `max`.
    pub fn number(&self, name: &str, max: u8) -> Result<u8, ConfigError> {
        match self.constants.get(name) {
            Some(Value::Int(number)) if (0..=i64::from(max)).contains(number) => Ok(*number as u8),
            _ => Err(ConfigError::Constant {
                name: name.to_owned(),
                expected: "a small natural number",
            }),
        }
    }

    /// A natural number above 0.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Constant`] if it is not one, or above `max`.
    pub fn positive(&self, name: &str, max: u8) -> Result<u8, ConfigError> {
        match self.number(name, max)? {
            0 => Err(ConfigError::Constant {
                name: name.to_owned(),
                expected: "a number above 0",
            }),
            number => Ok(number),
        }
    }

    /// A truth value.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Constant`] if it is not one.
    pub fn truth(&self, name: &str) -> Result<bool, ConfigError> {
        match self.constants.get(name) {
            Some(Value::Bool(truth)) => Ok(*truth),
            _ => Err(ConfigError::Constant {
                name: name.to_owned(),
                expected: "TRUE or FALSE",
            }),
        }
    }

    /// The size of a set of model values `x1 .. xn` for the given `x`, at most `max`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Constant`] if it is another set.
    pub fn models(&self, name: &str, prefix: &str, max: u8) -> Result<u8, ConfigError> {
        let wrong = || ConfigError::Constant {
            name: name.to_owned(),
            expected: "a small set of model values x1 .. xn",
        };
        let Some(Value::Set(members)) = self.constants.get(name) else {
            return Err(wrong());
        };
        let numbered =
            (1..=members.len()).map(|number| Value::model(format_args!("{prefix}{number}")));
        let count = u8::try_from(members.len()).map_err(|_| wrong())?;
        if count == 0 || count > max || !members.iter().cloned().eq(numbered) {
            Err(wrong())
        } else {
            Ok(count)
        }
    }

    /// Which of the model values `x1 .. xn`, for the given `x` and `n`, are in a set.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Constant`] if it is no set of them.
    pub fn some_models(&self, name: &str, prefix: &str, n: u8) -> Result<Members, ConfigError> {
        let wrong = || ConfigError::Constant {
            name: name.to_owned(),
            expected: "a set of some of the model values x1 .. xn",
        };
        let Some(Value::Set(members)) = self.constants.get(name) else {
            return Err(wrong());
        };
        let number = |member: &Value| {
            (0..n).find(|at| *member == Value::model(format_args!("{prefix}{}", at + 1)))
        };
        let mut found = members
            .iter()
            .map(|member| number(member).ok_or_else(wrong));
        found.try_fold(Members::default(), |set, member| Ok(set.with(member?)))
    }
}

fn words(text: &str) -> Vec<String> {
    let text: String = text
        .lines()
        .map(|line| line.split("\\*").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let spaced = ["{", "}", ",", "="]
        .iter()
        .fold(text, |text, mark| text.replace(mark, &format!(" {mark} ")));
    spaced.split_whitespace().map(str::to_owned).collect()
}

fn value(words: &mut &[String]) -> Result<Value, ConfigError> {
    let Some((word, rest)) = words.split_first() else {
        return Err(ConfigError::Syntax("end of file".to_owned()));
    };
    *words = rest;
    Ok(match word.as_str() {
        "TRUE" => Value::Bool(true),
        "FALSE" => Value::Bool(false),
        "{" => {
            let mut members = Vec::new();
            while words.first().is_some_and(|word| word != "}") {
                members.push(value(words)?);
                if words.first().is_some_and(|word| word == ",") {
                    *words = &words[1..];
                }
            }
            *words = words
                .get(1..)
                .ok_or_else(|| ConfigError::Syntax("a set without end".to_owned()))?;
            Value::Set(members)
        }
        word if word.starts_with(|c: char| c.is_ascii_digit()) => Value::Int(
            word.parse()
                .map_err(|_| ConfigError::Syntax(word.to_owned()))?,
        ),
        word if word.starts_with(|c: char| c.is_ascii_alphabetic()) => Value::model(word),
        word => return Err(ConfigError::Syntax(word.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_text_whatever_the_order_it_was_built_in() {
        let forth = Value::set([Value::model("p2"), Value::model("p1"), Value::model("p1")]);
        assert_eq!(forth.to_string(), "{p1, p2}");
        let record = Value::record([("type", Value::text("yes")), ("rm", Value::model("p1"))]);
        assert_eq!(record.to_string(), "[rm |-> p1, type |-> \"yes\"]");
    }

    #[test]
    fn functions_take_the_shape_in_which_tlc_prints_them() {
        let of = |keys: [Value; 2]| {
            Value::function(keys.into_iter().zip([Value::Int(7), Value::Int(8)])).to_string()
        };
        assert_eq!(of([Value::Int(2), Value::Int(1)]), "<<8, 7>>");
        assert_eq!(of([Value::Int(0), Value::Int(1)]), "(0 :> 7 @@ 1 :> 8)");
        assert_eq!(
            of([Value::text("b"), Value::text("a")]),
            "[a |-> 8, b |-> 7]"
        );
        assert_eq!(
            of([Value::model("p2"), Value::model("p1")]),
            "(p1 :> 8 @@ p2 :> 7)"
        );
        assert_eq!(Value::function([]).to_string(), "<<>>");
    }

    #[test]
    fn a_config_gives_constants_and_names_what_it_cannot_read() {
        let config = Config::parse(
            "SPECIFICATION Spec \\* fair\nCONSTANTS\n  P = {p1, p2}\n  Q = {p2}\n  Max = 3\n  F = TRUE\nINVARIANTS A B\nPROPERTY C\n",
        )
        .unwrap();
        assert_eq!(config.specification, "Spec");
        assert_eq!(
            (
                config.models("P", "p", 4),
                config.number("Max", 3),
                config.truth("F")
            ),
            (Ok(2), Ok(3), Ok(true))
        );
        assert_eq!(
            (config.invariants.join(" "), config.properties.join(" ")),
            ("A B".to_owned(), "C".to_owned())
        );
        assert_eq!(config.some_models("Q", "p", 2), Ok(Members(0b10)));
        assert!(
            config.some_models("Q", "p", 1).is_err() && config.some_models("Q", "q", 2).is_err()
        );
        assert!(
            config.number("Max", 2).is_err()
                && config.models("P", "q", 4).is_err()
                && config.truth("G").is_err()
        );
        assert!(
            Config::parse("CONSTANTS P {p1").is_err()
                && Config::parse("CONSTANTS P = {p1").is_err()
        );
    }
}
