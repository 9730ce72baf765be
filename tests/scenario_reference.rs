//! `scenarios/REFERENCE.md` names every key that a scenario may hold, with the words of the structs that read it.
//! `UPDATE_REFERENCE=1 cargo test --test suite scenario_reference::` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ordain::base::options::Described;

const FILE: &str = include_str!("../src/scenario/file.rs");
const LAYOUT: &str = include_str!("../src/scenario/layout.rs");
const LOAD: &str = include_str!("../src/scenario/load.rs");
const SWARM: &str = include_str!("../src/scenario/swarm.rs");
const COMMITTED: &str = include_str!("../scenarios/REFERENCE.md");

/// Sections of the file by the struct that reads each.
const SECTIONS: [(&str, &str); 16] = [
    ("File", "At the top"),
    ("Phases", "[phases]"),
    ("Region", "[[region]]"),
    ("Network", "[network]"),
    ("LinkEntry", "[[network.link]]"),
    ("Machines", "[machines]"),
    ("Table", "[[table]]"),
    ("Workload", "[workload]"),
    ("ProfileEntry", "[workload.profile]"),
    ("TransactionEntry", "[[workload.transaction]]"),
    ("StepEntry", "[[workload.transaction.step]]"),
    ("Clients", "[clients]"),
    ("FaultEntry", "[[fault]]"),
    ("Moment", "`after` of a fault"),
    ("Swarm", "[swarm]"),
    ("Expectation", "[expect.PROTOCOL]"),
];

const VALUES: [(&str, &str, &str); 7] = [
    ("EngineKind", "Values of `engine`", LAYOUT),
    ("WorkloadKind", "Values of `kind` in [workload]", FILE),
    ("ShapeName", "Values of `shape` in [workload.profile]", LOAD),
    (
        "ActionName",
        "Values of `do` in [[workload.transaction.step]]",
        FILE,
    ),
    (
        "RowName",
        "Values of `row` in [[workload.transaction.step]]",
        FILE,
    ),
    ("FaultName", "Values of `kind` in [[fault]]", FILE),
    (
        "Class",
        "Values of `classes` and `without` in [swarm]",
        SWARM,
    ),
];

/// A field of a struct, or a variant of an enum.
struct Item {
    key: String,
    kind: &'static str,
    needed: bool,
    docs: String,
}

fn kebab(name: &str) -> String {
    let mut key = String::new();
    for (at, letter) in name.char_indices() {
        match letter {
            '_' => key.push('-'),
            _ if letter.is_uppercase() && at > 0 => {
                write!(key, "-{}", letter.to_lowercase()).unwrap();
            }
            _ => key.extend(letter.to_lowercase()),
        }
    }
    key
}

/// A Rust type in the words of somebody who writes TOML.
fn words(kind: &str) -> &'static str {
    let inner = kind.replace("Option<", "").replace("Spanned<", "");
    match inner.trim_end_matches('>') {
        "Span" => "duration",
        "Share" => "percentage",
        "Ranged" => "duration, or a range of two",
        "Bandwidth" => "bandwidth",
        "Quantity" => "integer, or a range of two",
        "bool" => "`true` or `false`",
        "f64" => "number",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" => "integer",
        "String" | "EngineKind" | "WorkloadKind" | "FaultName" | "ActionName" | "RowName"
        | "ShapeName" => "text",
        "Vec<String" => "list of texts",
        "(String>, String" => "two texts",
        _ => "table",
    }
}

/// The items of `pub struct NAME` or `pub enum NAME`, and the documentation of the whole.
fn read(source: &str, name: &str) -> (String, Vec<Item>) {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_head = |line: &&str| {
        ["struct", "enum"]
            .iter()
            .any(|what| **line == format!("pub {what} {name} {{"))
    };
    let head = lines.iter().position(is_head).expect(name);
    let above = lines[..head].iter().rev();
    let mut docs: Vec<&str> = above
        .take_while(|line| line.starts_with("///") || line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("///"))
        .collect();
    docs.reverse();
    let all_optional = lines[..head]
        .iter()
        .rev()
        .take(3)
        .any(|line| line.starts_with("#[serde(default"));
    let mut items = Vec::new();
    let (mut item_docs, mut attributes) = (String::new(), String::new());
    for line in lines[head + 1..].iter().take_while(|line| **line != "}") {
        if let Some(doc) = line.strip_prefix("///") {
            item_docs += doc;
        } else if line.starts_with("#[") {
            attributes += line;
        } else if !line.is_empty() && !line.starts_with("//") {
            let line = line.trim_start_matches("pub ").trim_end_matches(',');
            let (name, kind) = line.split_once(": ").unwrap_or((line, ""));
            let renamed = attributes.split_once("rename = \"").map(|(_, rest)| rest);
            let key = match renamed.and_then(|rest| rest.split_once('"')) {
                Some((key, _)) => key.to_owned(),
                None => kebab(name),
            };
            items.push(Item {
                key,
                kind: words(kind),
                needed: !all_optional
                    && !kind.starts_with("Option<")
                    && !attributes.contains("default"),
                docs: std::mem::take(&mut item_docs).trim().to_owned(),
            });
            attributes.clear();
        }
    }
    (docs.concat().trim().to_owned(), items)
}

fn table(title: &str, docs: &str, items: &[Item]) -> String {
    let title = match title.starts_with('[') {
        true => format!("`{title}`"),
        false => title.to_owned(),
    };
    let mut text = format!("\n## {title}\n\n{docs}\n\n| key | what | |\n|---|---|---|\n");
    for Item {
        key,
        kind,
        needed,
        docs,
    } in items
    {
        let kind = if *needed {
            format!("{kind}, needed")
        } else {
            (*kind).to_owned()
        };
        writeln!(text, "| `{key}` | {docs} | {kind} |").unwrap();
    }
    text
}

/// The options of every protocol, by the table that they stand in, as the protocols describe them.
fn options() -> Vec<(String, Vec<Described>)> {
    let mut tables: Vec<(String, Vec<Described>)> = Vec::new();
    for protocol in ordain::registry::Registry::standard().list() {
        for option in protocol.described {
            let (table, key) = match option.name.rsplit_once('.') {
                Some((table, key)) => (format!("[protocol.{}.{table}]", protocol.name), key),
                None => (
                    format!("[protocol.{}]", protocol.name),
                    option.name.as_str(),
                ),
            };
            let option = Described {
                name: key.to_owned(),
                ..option
            };
            match tables.iter_mut().find(|(known, _)| *known == table) {
                Some((_, options)) => options.push(option),
                None => tables.push((table, vec![option])),
            }
        }
    }
    tables
}

fn options_table(title: &str, options: &[Described]) -> String {
    let mut text =
        format!("\n## `{title}`\n\n| key | what | values | default |\n|---|---|---|---|\n");
    for option in options {
        let Described {
            name,
            about,
            default,
            domain,
        } = option;
        writeln!(text, "| `{name}` | {about} | {domain} | `{default}` |").unwrap();
    }
    text
}

fn reference() -> String {
    let mut text = "# Every key of a scenario\n\n\
        A scenario is a TOML file. Durations are texts with a unit (`\"250us\"`, `\"10ms\"`, `\"2s\"`, `\"1m\"`), \
        probabilities and shares are percentages (`\"2%\"`), bandwidths have a unit too (`\"10MB/s\"`). Unknown keys and \
        values without a unit are refused. `--set KEY=VALUE` overrides a key: `--set workload.rate=100`, and for an \
        entry of a list `--set region.0.zones=3`.\n\n\
        This page is made of the documentation of the code that reads scenarios, and held to it by a test \
        (`tests/scenario_reference.rs`).\n"
        .to_owned();
    for (name, title) in SECTIONS {
        let (docs, items) = read(FILE, name);
        text += &table(title, &docs, &items);
    }
    for (title, options) in options() {
        text += &options_table(&title, &options);
    }
    for (name, title, source) in VALUES {
        let (docs, items) = read(source, name);
        write!(
            text,
            "\n## {title}\n\n{docs}\n\n| value | what |\n|---|---|\n"
        )
        .unwrap();
        for Item { key, docs, .. } in items {
            let docs = docs.trim_start_matches(&format!("`{key}`"));
            let docs = docs.trim_start_matches([':', '.', ' ']);
            writeln!(text, "| `{key}` | {docs} |").unwrap();
        }
    }
    text.replace("[`super::swarm::Class`]", "the list below")
}

#[test]
fn the_reference_says_what_the_code_says() {
    let reference = reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write("scenarios/REFERENCE.md", &reference).expect("the folder is there");
        return;
    }
    assert!(
        reference == COMMITTED,
        "run UPDATE_REFERENCE=1 cargo test --test suite scenario_reference::, and look at the change"
    );
}

const GOOD: &str = r#"name = "tiny"
summary = "All sections"
[phases]
safety = "5s"
settle = "5s"
[[region]]
name = "here"
cloud = "a"
zones = 2
[[region]]
name = "there"
cloud = "a"
[network]
[[network.link]]
between = ["here", "there"]
latency = "1ms"
[machines]
clock-bound = "1ms"
[[table]]
name = "accounts"
engine = "postgres"
rows = 10
homes = ["here"]
[workload]
transactions = 10
rate = 5.0
[workload.profile]
shape = "peak"
times = 2.0
for = "1s"
[[workload.transaction]]
name = "payment"
[[workload.transaction.step]]
table = "accounts"
do = "read"
[clients]
[[fault]]
kind = "crash"
nodes = ["here/front0"]
after = { observation = "voted" }
for = "1s"
[swarm]
[expect.2pc]
verdict = "kept"
[protocol.naive]
[protocol.2pc]
[protocol.3pc]
[protocol.paxos-commit]
[protocol.saga]
[protocol.calvin]
[protocol.calvin.log]
[protocol.percolator]
[protocol.monolith]
[protocol.spanner]
[protocol.spanner.log]
[protocol.ramp]
[protocol.xa]
"#;

/// The keys that the reader itself names when it meets an unknown one in this section.
fn keys_that_exist(section: &str) -> BTreeSet<String> {
    let text = match section {
        "At the top" => format!("unheard-of = 1\n{GOOD}"),
        "`after` of a fault" => GOOD.replace("after = {", "after = { unheard-of = 1,"),
        "[expect.PROTOCOL]" => GOOD.replace("[expect.2pc]", "[expect.2pc]\nunheard-of = 1"),
        _ => GOOD.replacen(
            &format!("{section}\n"),
            &format!("{section}\nunheard-of = 1\n"),
            1,
        ),
    };
    let message = match ordain::registry::Registry::standard().read_scenario("tiny", &text, &[]) {
        Ok(_) => panic!("{section}: an unknown key was taken"),
        Err(bad) => bad.to_string(),
    };
    let (_, listed) = message
        .split_once("expected ")
        .unwrap_or_else(|| panic!("{section}: {message}"));
    let line = listed.lines().next().unwrap_or_default();
    line.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_key_that_is_read_is_in_the_reference_and_no_other() {
    ordain::registry::Registry::standard()
        .read_scenario("tiny", GOOD, &[])
        .unwrap_or_else(|bad| panic!("{bad}"));
    let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let keys = |items: Vec<Item>| items.into_iter().map(|item| item.key).collect();
    for (name, title) in SECTIONS {
        documented.insert(title.to_owned(), keys(read(FILE, name).1));
    }
    for (title, options) in options() {
        let prefix = title.replace(']', ".");
        let tables = { GOOD.lines() }.filter_map(|line| {
            let inner = line.strip_prefix(&prefix)?.strip_suffix(']')?;
            (!inner.contains('.')).then(|| inner.to_owned())
        });
        let keys = options.into_iter().map(|option| option.name).chain(tables);
        documented.insert(title, keys.collect());
    }
    for (section, keys) in documented {
        assert_eq!(keys_that_exist(&section), keys, "{section}");
    }
}
