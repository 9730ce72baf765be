//! `ordain show`.

use super::{Failure, exit, load, say, say_json};
use crate::plan::Plan;
use crate::registry::Registry;
use crate::report::show;

pub(super) fn show(
    registry: &Registry,
    name: &str,
    overrides: &[(String, String)],
    json: bool,
) -> Result<u8, Failure> {
    let scenario = load(registry, name, overrides)?;
    let mut warnings = Vec::new();
    for name in &scenario.protocols {
        let protocol = registry.get(name).map_err(Failure::Usage)?;
        let of_protocol = protocol.warnings(&scenario).into_iter();
        warnings.extend(of_protocol.map(|warning| format!("{name}: {warning}")));
    }
    let shown = show::show(&scenario, &Plan::draw(&scenario, 1), warnings);
    match json {
        true => say_json(&shown)?,
        false => say(shown.text().trim_end())?,
    }
    Ok(exit::OK)
}
