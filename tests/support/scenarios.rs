//! Scenarios that ship with the program, with other values for some of their keys.
use ordain::registry::Registry;

use ordain::cli;
use ordain::scenario::Scenario;

pub fn shipped(name: &str, overrides: &[(&str, &str)]) -> Scenario {
    let (_, text) = { cli::SHIPPED.iter() }
        .find(|(shipped, _)| *shipped == name)
        .expect("it ships");
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let overrides: Vec<_> = overrides.iter().map(owned).collect();
    Registry::standard()
        .read_scenario(name, text, &overrides)
        .unwrap_or_else(|bad| panic!("{bad}"))
}
