//! A protocol's options as a scenario states them: read with their places, so that a bad value is shown where it stands.

use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::base::options::{self, Chosen, Described, OptionType};
use crate::protocol::Protocol;
use crate::scenario::swarm::OptionSpace;
use crate::scenario::{Problem, Scenario};

/// What a protocol's options are, and may be.
pub fn described<P: Protocol>() -> Vec<Described> {
    let mut described = Vec::new();
    P::Options::default().describe("", "", &mut described);
    described
}

/// The protocol's defaults, over them what the scenario states, and over that what is chosen: drawn by a plan, say.
///
/// # Errors
///
/// What is wrong with them.
pub fn with<P: Protocol>(scenario: &Scenario, chosen: &Chosen) -> Result<P::Options, String> {
    let stated = scenario.options.get(P::NAME);
    let mut table = stated.map_or_else(toml::Table::new, |(_, table)| table.clone());
    options::write_into(&mut table, chosen);
    let read = P::Options::deserialize(table).map_err(|error| error.message().to_owned())?;
    P::fit(&read).map_err(|unfit| format!("`{}`: {}", unfit.option, unfit.message))?;
    Ok(read)
}

/// A protocol's options, for drawing some.
pub fn space<P: Protocol>() -> OptionSpace {
    OptionSpace {
        described: described::<P>(),
        fit: |scenario, chosen| {
            let options = with::<P>(scenario, chosen);
            options.is_ok_and(|options| P::carried(&scenario.layout, &options).is_ok())
        },
        rows: Arc::default(),
    }
}

/// What is wrong with a protocol's options in a scenario, and with its machines for that protocol.
pub fn problems<P: Protocol>(scenario: &Scenario) -> Vec<Problem> {
    let name = P::NAME;
    let help = format!("`ordain list` shows the options of `{name}`, their ranges and defaults");
    // The text was read before: it parses.
    let document = DeTable::parse(&scenario.text).map(Spanned::into_inner);
    let document = document.unwrap_or_default();
    let empty = Spanned::new(0..0, DeValue::Table(DeTable::new()));
    let stated = { document.get("protocol") }.and_then(|all| all.get_ref().as_table()?.get(name));
    let stated = stated.unwrap_or(&empty);
    let at = |span, message: &str| Problem::new(span, format!("{name}: {message}"), help.clone());
    // Each option by itself first, so that all that are wrong are named.
    let refused: Vec<Problem> = { each_alone(stated).into_iter() }
        .filter_map(|alone| {
            let error = P::Options::deserialize(ValueDeserializer::from(alone)).err()?;
            Some(at(
                error.span().unwrap_or(stated.span()),
                error.message().trim_end(),
            ))
        })
        .collect();
    if !refused.is_empty() {
        return refused;
    }
    let options = match P::Options::deserialize(ValueDeserializer::from(stated.clone())) {
        Ok(options) => options,
        Err(error) => {
            let span = error.span().unwrap_or(stated.span());
            return vec![at(span, error.message().trim_end())];
        }
    };
    if let Err(unfit) = P::fit(&options) {
        let span = place_of(stated, unfit.option).unwrap_or(stated.span());
        return vec![at(span, &format!("`{}`: {}", unfit.option, unfit.message))];
    }
    match P::deploy(&scenario.layout, &options, &[]) {
        Ok(_) => Vec::new(),
        Err(message) => {
            let span = named_first(&message).and_then(|option| place_of(stated, option));
            vec![at(span.unwrap_or(stated.span()), &message)]
        }
    }
}

/// The option with whose name a message begins: that is the one to change.
fn named_first(message: &str) -> Option<&str> {
    let (option, _) = message.strip_prefix('`')?.split_once('`')?;
    Some(option)
}

/// For each value below the table a table that holds nothing else.
fn each_alone<'a>(table: &Spanned<DeValue<'a>>) -> Vec<Spanned<DeValue<'a>>> {
    let Some(inner) = table.get_ref().as_table() else {
        return vec![table.clone()];
    };
    let entries = inner.iter();
    let alone = entries.flat_map(|(key, value)| {
        let around = |value| {
            let mut one = DeTable::new();
            one.insert(key.clone(), value);
            Spanned::new(table.span(), DeValue::Table(one))
        };
        each_alone(value)
            .into_iter()
            .map(around)
            .collect::<Vec<_>>()
    });
    alone.collect()
}

/// Where an option of a dotted name stands.
fn place_of(table: &Spanned<DeValue<'_>>, name: &str) -> Option<std::ops::Range<usize>> {
    let mut at = table;
    for key in name.split('.') {
        at = at.get_ref().as_table()?.get(key)?;
    }
    Some(at.span())
}
