//! The README and the guide say what the program does. So their commands are run, their outputs compared, and their
//! links followed.
//!
//! | fence | what is held |
//! |---|---|
//! | ` ```console ` | Each `$ command` line runs in the page's own folder, in order. What it prints has to stand below it. A line `...` stands for any lines, and `...` within a line for any text. |
//! | ` ```sh ` | Commands that are too slow for a test, or need other tools. Each is a step of CI, or listed in [`ELSEWHERE`] with the reason. |
//! | any, with `title="FILE"` | The block is written to FILE in the page's folder, for the commands below it. |
//! | any, with `from="FILE"` | The block stands in FILE of the repository, word for word. |
//! | any | A line that begins with `ordain` names a command and options that exist. |
//!
//! `ORDAIN_GUIDE=update cargo test --test suite guide::` writes what the commands print into the pages. Read the
//! difference before you commit it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Commands of `sh` blocks that no step of CI runs as they stand, and why not.
const ELSEWHERE: [(&str, &str); 4] = [
    (
        "cargo run --release",
        "reports/build builds it and runs the same comparison; tests/readme.rs compares the table",
    ),
    (
        "ordain shrink store/storm/calvin/3 --regression regressions/what-went-wrong.json",
        "no seed of storm fails; docs/a-failing-seed.md shrinks a run",
    ),
    (
        "specs/graphs",
        ".ci/long runs specs/check, which goes on to it",
    ),
    (
        "cargo run --release --features zoo -- zoo raft. --seeds 200",
        "the workflow zoo runs reports/zoo, which hunts for all bugs",
    ),
];

/// Programs that a `console` block may call: the product, and what every Unix has.
const PROGRAMS: [&str; 10] = [
    "ordain", "cat", "cmp", "cut", "echo", "grep", "head", "ls", "tail", "zcat",
];

/// Folders of the repository that commands see under their own names.
const FOLDERS: [&str; 3] = ["scenarios", "specs", "tests"];

/// A fenced block of a page.
struct Fence {
    /// The line of its first content, from 0.
    start: usize,
    kind: String,
    title: Option<String>,
    from: Option<String>,
    lines: Vec<String>,
}

fn attribute(info: &str, name: &str) -> Option<String> {
    let (_, rest) = info.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

fn fences(text: &str) -> Vec<Fence> {
    let mut found: Vec<Fence> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open) {
            (Some(info), false) => {
                open = true;
                found.push(Fence {
                    start: at + 1,
                    kind: info.split(' ').next().unwrap_or_default().to_owned(),
                    title: attribute(info, "title"),
                    from: attribute(info, "from"),
                    lines: Vec::new(),
                });
            }
            (Some(_), true) => open = false,
            (None, true) => {
                let fence = found.last_mut().expect("one is open");
                fence.lines.push(line.to_owned());
            }
            (None, false) => {}
        }
    }
    assert!(!open, "a fence is not closed");
    found
}

fn markdown(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            found.extend(markdown(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The README and every page of the guide.
fn pages() -> Vec<PathBuf> {
    let mut pages = markdown(Path::new("docs"));
    pages.push(PathBuf::from("README.md"));
    pages
}

/// Whether a line is what the written line says: `...` stands for any text.
fn line_matches(written: &str, printed: &str) -> bool {
    let mut parts = written.split("...");
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in between {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn is_gap(line: &str) -> bool {
    line.trim() == "..."
}

/// Whether lines are what the written lines say: a line `...` stands for any lines, also for none.
fn lines_match(written: &[String], printed: &[String]) -> bool {
    match (written.split_first(), printed.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((gap, rest)), _) if is_gap(gap) => {
            (0..=printed.len()).any(|skipped| lines_match(rest, &printed[skipped..]))
        }
        (Some(_), None) => false,
        (Some((first, written)), Some((line, printed))) => {
            line_matches(first, line) && lines_match(written, printed)
        }
    }
}

/// How many words two lines share; numbers and the lines of tables are no words.
fn likeness(written: &str, printed: &str) -> usize {
    fn words(line: &str) -> BTreeSet<&str> {
        let words = line.split_whitespace();
        words
            .filter(|word| word.contains(char::is_alphabetic))
            .collect()
    }
    words(written).intersection(&words(printed)).count()
}

/// What should stand in a page whose gaps stay where they are.
fn updated(written: &[String], printed: &[String]) -> Vec<String> {
    if !written.iter().any(|line| is_gap(line)) {
        return printed.to_vec();
    }
    let parts: Vec<&[String]> = written.split(|line| is_gap(line)).collect();
    let mut lines = Vec::new();
    let mut from = 0;
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            lines.push("...".to_owned());
        }
        let room = printed.len().saturating_sub(part.len()).max(from);
        let score = |at: &usize| -> usize {
            let pairs = part.iter().zip(printed.iter().skip(*at));
            pairs.map(|(old, new)| likeness(old, new)).sum()
        };
        let at = match n {
            0 => 0,
            n if n + 1 == parts.len() && !part.is_empty() => room,
            _ => (from..=room).rev().max_by_key(score).unwrap_or(from),
        };
        for (old, new) in part.iter().zip(printed.iter().skip(at)) {
            let stays = line_matches(old, new);
            lines.push(if stays { old } else { new }.clone());
        }
        from = at + part.len();
    }
    lines
}

/// A page's own folder, which a reader would have after a checkout.
fn folder(page: &Path) -> PathBuf {
    let name = page
        .with_extension("")
        .display()
        .to_string()
        .replace('/', "-");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("guide-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a place for the test");
    let root = std::env::current_dir().expect("tests run in the repository");
    for shared in FOLDERS {
        std::os::unix::fs::symlink(root.join(shared), folder.join(shared)).expect("a link");
    }
    folder
}

/// What a command prints to a terminal, and its exit code.
fn print(command: &str, folder: &Path, exit_before: i32) -> (Vec<String>, i32) {
    let program = command.split(' ').next().unwrap_or_default();
    assert!(
        PROGRAMS.contains(&program),
        "`{command}`: a console block runs {}; put other commands into a block `sh`",
        PROGRAMS.join(", ")
    );
    let own = Path::new(env!("CARGO_BIN_EXE_ordain"))
        .parent()
        .expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let printed = folder.with_extension("printed");
    let terminal = fs::File::create(&printed).expect("a file in the test's folder");
    let status = Command::new("sh")
        .args(["-c", &format!("(exit {exit_before})\n{command}")])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", own.display()))
        .env("NO_COLOR", "1")
        .env_remove("GITHUB_ACTIONS")
        .env_remove("COLUMNS")
        .stdin(Stdio::null())
        .stdout(terminal.try_clone().expect("a second handle"))
        .stderr(terminal)
        .status()
        .expect("a shell");
    let text = read(&printed);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let is_blank = |line: &&&str| line.is_empty();
    let before = lines.iter().take_while(is_blank).count();
    let after = lines.iter().rev().take_while(is_blank).count();
    let end = lines.len().saturating_sub(after).max(before);
    let lines = lines[before..end].iter().map(|line| (*line).to_owned());
    (lines.collect(), status.code().unwrap_or(-1))
}

/// The commands of a console block, each with what stands below it.
fn commands(fence: &Fence) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in &fence.lines {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push((command.to_owned(), Vec::new())),
            (None, Some((_, written))) => written.push(line.trim_end().to_owned()),
            (None, None) => panic!("a console block begins with `$ `, not with `{line}`"),
        }
    }
    for (_, written) in &mut found {
        while written.last().is_some_and(String::is_empty) {
            written.pop();
        }
    }
    found
}

/// Runs a page's commands. Returns the page as it should be, and what differs.
fn play(page: &Path) -> (String, String) {
    let text = read(page);
    let folder = folder(page);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut differences = String::new();
    let mut rewritten: Vec<(usize, usize, Vec<String>)> = Vec::new();
    let mut code = 0;
    for fence in fences(&text) {
        if let Some(title) = &fence.title {
            let file = folder.join(title);
            fs::create_dir_all(file.parent().expect("a folder")).expect("a folder for the file");
            fs::write(file, fence.lines.join("\n") + "\n").expect("a file of the page");
        }
        if fence.kind != "console" {
            continue;
        }
        let mut block = Vec::new();
        for (n, (command, written)) in commands(&fence).into_iter().enumerate() {
            let (printed, ended) = print(&command, &folder, code);
            code = ended;
            if n > 0
                && block
                    .last()
                    .is_some_and(|line: &String| !line.starts_with("$ "))
            {
                block.push(String::new());
            }
            block.push(format!("$ {command}"));
            if lines_match(&written, &printed) {
                block.extend(written);
                continue;
            }
            let at = fence.start + 1;
            let _ = writeln!(
                differences,
                "{}:{at}: `{command}` prints\n{}\nand the page says\n{}\n",
                page.display(),
                printed.join("\n"),
                written.join("\n")
            );
            block.extend(updated(&written, &printed));
        }
        rewritten.push((fence.start, fence.start + fence.lines.len(), block));
    }
    for (start, end, block) in rewritten.into_iter().rev() {
        lines.splice(start..end, block);
    }
    (lines.join("\n") + "\n", differences)
}

#[test]
fn every_command_of_the_guide_prints_what_stands_there() {
    let pages = pages();
    let played: Vec<(String, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = pages
            .iter()
            .map(|page| scope.spawn(|| play(page)))
            .collect();
        let ends = threads.into_iter().map(|thread| thread.join());
        ends.map(|end| end.expect("a page can be played")).collect()
    });
    let mut differences = String::new();
    for (page, (text, differs)) in pages.iter().zip(played) {
        if std::env::var_os("ORDAIN_GUIDE").is_some_and(|what| what == "update") {
            fs::write(page, text).expect("the page can be written");
        } else {
            differences += &differs;
        }
    }
    assert!(
        differences.is_empty(),
        "{differences}\nORDAIN_GUIDE=update writes what is printed into the pages; read the difference"
    );
}

#[test]
fn blocks_say_what_is_held_of_them() {
    for page in pages() {
        for fence in fences(&read(&page)) {
            let place = format!("{}:{}", page.display(), fence.start + 1);
            let kind = fence.kind.as_str();
            assert!(
                !["", "bash", "shell"].contains(&kind),
                "{place}: `{kind}`: write console, sh or text, so that a test knows what to hold"
            );
            if ["rust", "toml"].contains(&kind) {
                let held = fence.title.is_some() || fence.from.is_some();
                assert!(held, "{place}: code needs title=\"FILE\" or from=\"FILE\"");
            }
            if let Some(from) = &fence.from {
                let block = fence.lines.join("\n");
                assert!(
                    read(from).contains(&block),
                    "{place}: this does not stand in {from}:\n{block}"
                );
            }
        }
    }
}

/// Commands of `sh` blocks with their places; comments and continued lines are taken away.
fn slow_commands() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for page in pages() {
        for fence in fences(&read(&page))
            .iter()
            .filter(|fence| fence.kind == "sh")
        {
            let joined = fence.lines.join("\n").replace("\\\n", " ");
            for line in joined.lines() {
                let command = line.split("  #").next().unwrap_or_default();
                let command: Vec<&str> = command.split_whitespace().collect();
                if command.first().is_some_and(|word| !word.starts_with('#')) {
                    let place = format!("{}:{}", page.display(), fence.start + 1);
                    found.push((command.join(" "), place));
                }
            }
        }
    }
    found
}

#[test]
fn slow_commands_are_steps_of_ci_or_say_why_not() {
    let mut steps = read(".ci/run");
    for workflow in fs::read_dir(".github/workflows").expect("workflows") {
        steps += &read(workflow.expect("a readable folder").path());
    }
    let words: Vec<&str> = steps
        .split_whitespace()
        .filter(|word| *word != "\\")
        .collect();
    let steps = words.join(" ");
    let commands = slow_commands();
    for (command, place) in &commands {
        let listed = ELSEWHERE.iter().any(|(known, _)| known == command);
        let in_ci = steps.contains(command.as_str());
        assert!(in_ci || listed, "{place}: no step of CI runs `{command}`");
        assert!(
            !(in_ci && listed),
            "{place}: CI runs `{command}`: take it off the list"
        );
    }
    for (known, why) in ELSEWHERE {
        assert!(!why.is_empty(), "{known}");
        let used = commands.iter().any(|(command, _)| command == known);
        assert!(used, "no page has `{known}` any more");
    }
}

#[test]
fn commands_that_are_only_shown_exist() {
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut seen = 0;
    for page in pages() {
        for fence in fences(&read(&page))
            .iter()
            .filter(|fence| fence.kind != "console")
        {
            let joined = fence.lines.join("\n").replace("\\\n", " ");
            for line in joined.lines() {
                let line = line.trim_start().trim_start_matches("- run: ");
                let Some(rest) = line.strip_prefix("ordain ") else {
                    continue;
                };
                // After two spaces comes what a person is told about the command.
                let words: Vec<&str> = rest
                    .split("  ")
                    .next()
                    .unwrap_or_default()
                    .split(' ')
                    .collect();
                let help = helps.entry(words[0].to_owned()).or_insert_with(|| {
                    let output = Command::new(env!("CARGO_BIN_EXE_ordain"))
                        .args([words[0], "--help"])
                        .output()
                        .expect("the program runs");
                    String::from_utf8(output.stdout).expect("UTF-8")
                });
                let place = format!("{}:{}", page.display(), fence.start + 1);
                assert!(
                    !help.is_empty(),
                    "{place}: there is no command `{}`",
                    words[0]
                );
                for word in words.iter().filter(|word| word.starts_with("--")) {
                    let option = word.split('=').next().unwrap_or_default();
                    assert!(
                        help.contains(option),
                        "{place}: `{}` has no {option}",
                        words[0]
                    );
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "the search finds no command any more");
}

/// The anchors that GitHub gives a page's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        if line.starts_with('#') && !fenced {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            found.insert(kept.collect::<String>().replace(' ', "-"));
        }
    }
    found
}

/// The targets of a page's links.
fn links(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        if fenced {
            continue;
        }
        let ends = line.split("](").skip(1);
        found.extend(ends.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())));
    }
    found
}

#[test]
fn links_lead_somewhere() {
    let mut pages = pages();
    pages.extend(["ARCHITECTURE.md", "CHANGELOG.md", "specs/README.md"].map(PathBuf::from));
    pages.extend(markdown(Path::new("reports")));
    let mut followed = 0;
    for page in pages {
        for link in links(&read(&page)) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.with_file_name("").join(file),
            };
            let place = page.display();
            assert!(target.exists(), "{place}: `{link}` leads nowhere");
            if !anchor.is_empty() {
                let known = anchors(&read(&target));
                assert!(known.contains(anchor), "{place}: `{link}`: {known:?}");
            }
            followed += 1;
        }
    }
    assert!(followed > 0, "the search finds no link any more");
}

#[test]
fn the_summary_lists_every_chapter_once() {
    let listed: Vec<PathBuf> = links(&read("docs/SUMMARY.md"))
        .iter()
        .map(|link| Path::new("docs").join(link))
        .collect();
    for page in markdown(Path::new("docs")) {
        let times = listed.iter().filter(|listed| **listed == page).count();
        let wanted = usize::from(!page.ends_with("SUMMARY.md"));
        assert_eq!(times, wanted, "{} in docs/SUMMARY.md", page.display());
    }
}

/// The rows of the first table of a report, by what they count.
fn figures(report: &str) -> Vec<&str> {
    let table = report.split("\n└").next().unwrap_or_default();
    let rows = table.lines().filter_map(|line| line.strip_prefix("│ "));
    let names = rows.map(|row| row.split('┆').next().unwrap_or_default().trim());
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_figure_of_a_comparison_is_explained() {
    let page = read("docs/reading-a-comparison.md");
    for report in [
        "settlement",
        "locked-merchant",
        "seat-booking",
        "naive-partial",
    ] {
        let report = read(format!("reports/{report}.txt"));
        let figures = figures(&report);
        assert!(figures.len() > 10, "{figures:?}");
        for figure in figures {
            let row = format!("`{figure}`");
            assert!(
                page.contains(&row),
                "docs/reading-a-comparison.md: no row for {row}"
            );
        }
    }
}

#[test]
fn the_first_pages_are_short() {
    assert!(read("README.md").lines().count() <= 150);
    assert!(read("ARCHITECTURE.md").split_whitespace().count() <= 4000);
}

#[test]
fn what_architecture_names_exists() {
    let mut sources = String::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                sources += &read(&path);
            }
        }
    }
    let text = read("ARCHITECTURE.md");
    let spans: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let mut symbols = 0;
    for span in spans {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        if span.starts_with("src/") || span.starts_with("tests/") || span.starts_with("docs/") {
            assert!(Path::new(span).exists(), "ARCHITECTURE.md names {span}");
        } else if span.contains("::") && span.chars().all(|c| is_word(c) || c == ':') {
            let name = span.rsplit("::").next().unwrap_or_default();
            let found = sources
                .split(|c: char| !is_word(c))
                .any(|word| word == name);
            assert!(
                found,
                "ARCHITECTURE.md names {span}, which is nowhere in src"
            );
            symbols += 1;
        }
    }
    assert!(symbols > 10, "the search finds no symbols any more");
}

#[test]
fn every_room_of_the_house_is_on_the_map() {
    let map = read("ARCHITECTURE.md");
    for entry in fs::read_dir("src").expect("a folder of the repository") {
        let path = entry.expect("a readable folder").path();
        let mut room = path.display().to_string();
        if path.is_dir() {
            room += "/";
        }
        let is_door = ["src/lib.rs", "src/main.rs"].contains(&room.as_str());
        assert!(is_door || map.contains(&format!("`{room}`")), "{room}");
    }
}

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn three_dots_stand_for_anything_and_nothing_else_does() {
    let printed = owned(&["first", "8 runs, 14.4 a second", "third", "last"]);
    for fits in [
        &["first", "...", "last"][..],
        &["..."],
        &["...", "third", "last"],
        &[
            "first",
            "...",
            "8 runs, ... a second",
            "third",
            "...",
            "last",
        ],
    ] {
        assert!(lines_match(&owned(fits), &printed), "{fits:?}");
    }
    for differs in [
        &["first", "...", "third"][..],
        &["...", "last", "third"],
        &["first", "8 runs, ... a minute", "third", "last"],
        &["first", "9 runs, ... a second", "third", "last"],
        &[],
    ] {
        assert!(!lines_match(&owned(differs), &printed), "{differs:?}");
    }
    assert!(lines_match(&owned(&["..."]), &[]));
}

#[test]
fn an_update_keeps_gaps_and_what_still_fits() {
    let printed = owned(&["seed 2", "a b 7", "c d 8", "e f 9", "verdict kept, 3 ms"]);
    let written = owned(&["seed 1", "...", "c d 1", "...", "verdict kept, ... ms"]);
    let wanted = owned(&["seed 2", "...", "c d 8", "...", "verdict kept, ... ms"]);
    assert_eq!(updated(&written, &printed), wanted);
    assert!(lines_match(&wanted, &printed));
    assert_eq!(updated(&owned(&["seed 1"]), &printed), printed);
    let all_but_the_first = updated(&owned(&["seed 1", "..."]), &printed);
    assert_eq!(all_but_the_first, owned(&["seed 2", "..."]));
}
