//! The arrows between modules, held by a test: who may know what is what keeps the chain meaningful.

use std::fs;
use std::path::{Path, PathBuf};

/// A file that nobody lists would never run.
#[test]
fn every_file_of_tests_belongs_to_a_program() {
    let suite = include_str!("suite.rs");
    let manifest = include_str!("../Cargo.toml");
    let files = fs::read_dir("tests").expect("it is there");
    let files = files.map(|file| file.expect("a readable folder").path());
    let mut listed = 0;
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let stem = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("UTF-8");
        let in_suite = suite.contains(&format!("\nmod {stem};\n"));
        let alone = manifest.contains(&format!("[[test]]\nname = \"{stem}\"\n"));
        assert!(in_suite != alone, "{}", file.display());
        listed += 1;
    }
    assert!(listed > 40, "{listed}");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The lines of code of a file, without comments, up to its unit tests.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).expect("UTF-8");
    let product = text
        .split("\n#[cfg(test)]\nmod ")
        .next()
        .unwrap_or_default();
    product
        .lines()
        .enumerate()
        .map(|(at, line)| {
            (
                at + 1,
                line.split("//").next().unwrap_or_default().to_owned(),
            )
        })
        .filter(|(_, line)| !line.trim().is_empty())
        .collect()
}

/// Whether the module is declared for tests alone.
fn is_test_only(file: &Path) -> bool {
    let stem = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let parent = file.with_file_name("mod.rs");
    let declared = fs::read_to_string(parent).unwrap_or_default();
    ["mod", "pub mod", "pub(crate) mod"]
        .iter()
        .any(|word| declared.contains(&format!("#[cfg(test)]\n{word} {stem};")))
}

/// Asserts that no file below `folder` (or the file itself) has a line with any of `words`.
fn absent(folder: &str, words: &[&str], why: &str) {
    let root = Path::new("src").join(folder);
    let files = if root.is_dir() {
        sources(&root)
    } else {
        vec![root]
    };
    assert!(!files.is_empty());
    for file in files.into_iter().filter(|file| !is_test_only(file)) {
        for (line, text) in code(&file) {
            for word in words {
                assert!(
                    !text.contains(word),
                    "{}:{line}: `{word}`: {why}\n    {text}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn protocol_code_is_sans_io_and_deterministic() {
    let forbidden = [
        "madsim",
        "stateright",
        "rand_chacha",
        "crate::plan::random",
        "HashMap",
        "HashSet",
        "std::time",
        "Instant::now",
        "SystemTime",
        "std::thread",
        "std::fs",
        "std::net",
        "println!",
        "crate::sim",
        "crate::model",
        "crate::check",
    ];
    for folder in ["base", "shard", "consensus", "protocol"] {
        absent(
            folder,
            &forbidden,
            "a process sees only its inputs, and iterates only in order",
        );
    }
}

#[test]
fn checkers_depend_on_no_other_part() {
    for file in sources(Path::new("src/check")) {
        for (line, text) in code(&file) {
            let mut rest = text.as_str();
            while let Some(at) = rest.find("crate::") {
                rest = &rest[at + "crate::".len()..];
                assert!(
                    rest.starts_with("check::"),
                    "{}:{line}: a checker that knows the rest of ordain judges itself\n    {text}",
                    file.display()
                );
            }
            assert!(!text.contains("madsim"), "{}:{line}", file.display());
        }
    }
}

#[test]
fn only_the_simulator_knows_madsim_and_only_the_models_know_stateright() {
    for file in sources(Path::new("src")) {
        let inside = |folder: &str| file.starts_with(Path::new("src").join(folder));
        for (line, text) in code(&file) {
            let place = format!("{}:{line}: {text}", file.display());
            let guard = text.contains("cfg(not(madsim))")
                || text.contains("--cfg madsim")
                || text.contains("RUSTFLAGS");
            assert!(
                inside("sim") || guard || !text.contains("madsim"),
                "madsim outside of src/sim: {place}"
            );
            assert!(
                inside("model") || !text.contains("stateright"),
                "stateright outside of src/model: {place}"
            );
        }
    }
    absent(
        "sim",
        &["crate::model"],
        "the simulator and the models are independent witnesses",
    );
    absent(
        "model",
        &["crate::sim"],
        "the simulator and the models are independent witnesses",
    );
}

#[test]
fn only_the_command_line_prints_or_reads_the_environment() {
    let forbidden = [
        "println!",
        "eprintln!",
        "print!(",
        "std::env::",
        "io::stdout",
        "io::stderr",
        "process::exit",
    ];
    for file in sources(Path::new("src")) {
        let relative = file
            .strip_prefix("src")
            .expect("below src")
            .display()
            .to_string();
        let is_cli = relative.starts_with("cli/");
        if !is_cli && relative != "main.rs" {
            absent(
                &relative,
                &forbidden,
                "only cli prints, exits or reads the environment",
            );
        }
    }
}

/// The rooms of the house, from the ground up: each may know those before it, and none after it.
const ROOMS: [&str; 16] = [
    "base",
    "fault",
    "scenario",
    "plan",
    "shard",
    "consensus",
    "protocol",
    "sim",
    "check",
    "model",
    "verdict",
    "run",
    "registry",
    "campaign",
    "report",
    "cli",
];

/// What `use crate::...` and paths in a file name: the rooms, with the line.
fn arrows(file: &Path) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, text) in code(file) {
        let mut rest = text.as_str();
        while let Some(at) = rest.find("crate::") {
            rest = &rest[at + "crate::".len()..];
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let room: String = rest.chars().take_while(|c| is_name(*c)).collect();
            // `pub(crate)::` does not exist, and macros are not rooms.
            if !room.is_empty() {
                found.push((line, room));
            }
        }
    }
    found
}

#[test]
fn a_folder_knows_only_folders_before_it() {
    let mut seen = 0;
    for file in sources(Path::new("src")) {
        let relative = file.strip_prefix("src").expect("below src");
        let first = relative.components().next().expect("a name");
        let first = first.as_os_str().to_str().expect("UTF-8");
        let room = first.trim_end_matches(".rs");
        if ["lib", "main"].contains(&room) {
            continue;
        }
        let rank = |room: &str| ROOMS.iter().position(|known| *known == room);
        let own = rank(room).unwrap_or_else(|| panic!("{room} is not among the rooms"));
        for (line, named) in arrows(&file) {
            let other = rank(&named)
                .unwrap_or_else(|| panic!("{}:{line}: no room `{named}`", file.display()));
            assert!(
                other <= own,
                "{}:{line}: `{room}` comes before `{named}` and may not know it",
                file.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 500, "{seen} arrows: the search finds none any more");
}

#[test]
fn reports_render_and_never_run() {
    absent(
        "report",
        &["crate::sim", "crate::protocol", "run::run"],
        "a report renders what was recorded",
    );
}

#[test]
fn nothing_is_left_for_later() {
    let unfinished = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "dbg!("];
    for root in ["src", "tests", "benches"] {
        for file in sources(Path::new(root)) {
            if file.ends_with("tidy.rs") {
                continue;
            }
            let text = fs::read_to_string(&file).expect("UTF-8");
            for (at, line) in text.lines().enumerate() {
                for word in unfinished {
                    assert!(
                        !line.contains(word),
                        "{}:{}: {line}",
                        file.display(),
                        at + 1
                    );
                }
            }
        }
    }
}
