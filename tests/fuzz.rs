//! Campaigns through the binary: the same results on any number of threads and in any parts, and what CI reads.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// Small and quick: naive breaks atomicity all the time, which it does not promise.
const SMALL: [&str; 8] = [
    "--set",
    "swarm.transactions=8",
    "--set",
    "phases.safety=\"7s\"",
    "--set",
    "phases.power-cycle=\"1s\"",
    "-p",
    "2pc,calvin",
];

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("fuzz")
        .join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a place for the test");
    folder
}

fn command(args: &[&str], here: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ordain"));
    command
        .args(args)
        .current_dir(here)
        .env_remove("GITHUB_ACTIONS");
    command
}

fn ordain(args: &[&str], here: &Path) -> Output {
    command(args, here).output().expect("the program runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        panic!("{error}: {} {stderr}", stdout(output));
    })
}

/// A report without what depends on the machine's speed.
fn timeless(output: &Output) -> Value {
    let mut report = report(output);
    assert!(report["runs_per_second"].as_f64().expect("a rate") > 0.0);
    report["runs_per_second"] = json!(0);
    report
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("the program exits by itself")
}

fn fuzz(more: &[&str], here: &Path) -> Output {
    let args = [&["fuzz", "storm", "--json"][..], &SMALL, more].concat();
    ordain(&args, here)
}

#[test]
fn the_number_of_threads_changes_nothing_but_the_rate() {
    let here = folder("jobs");
    let one = fuzz(&["-n", "40", "--jobs", "1"], &here);
    let two = fuzz(&["-n", "40", "--jobs", "2"], &here);
    assert_eq!(code(&one), 0, "{}", stdout(&one));
    assert_eq!(timeless(&one), timeless(&two));
    let report = report(&one);
    assert_eq!(report["runs"], 80);
    let repeated = report["repeated"].as_u64().expect("a count");
    assert!(repeated * 20 >= 80, "{repeated} of 80 runs were repeated");
    assert_eq!(report["nondeterministic"], json!([]));
    assert_eq!(report["failures"], json!([]));
    let other = fuzz(&["-n", "40", "--first-seed", "1000"], &here);
    assert_ne!(report["digest"], self::report(&other)["digest"]);
}

#[test]
fn the_parts_of_a_matrix_merge_into_the_whole_in_any_order() {
    let here = folder("parts");
    let whole = fuzz(&["-n", "31"], &here);
    let mut parts = Vec::new();
    for part in ["2/3", "0/3", "1/3"] {
        let output = fuzz(&["-n", "31", "--partition", part], &here);
        let file = here.join(format!("part{}.json", part.replace('/', "-")));
        fs::write(&file, &output.stdout).expect("a writable folder");
        parts.push(file.display().to_string());
    }
    let args = ["merge", "--json", &parts[0], &parts[1], &parts[2]];
    let merged = ordain(&args, &here);
    assert_eq!(code(&merged), 0, "{}", stdout(&merged));
    let but_repetitions = |output: &Output| {
        let mut report = timeless(output);
        let repeated = report["repeated"].take().as_u64().expect("a count");
        assert!(repeated * 20 >= report["runs"].as_u64().expect("a count"));
        report
    };
    assert_eq!(but_repetitions(&merged), but_repetitions(&whole));

    let some = ordain(&["merge", "--json", &parts[0], &parts[1]], &here);
    assert_eq!(report(&some)["parts"], json!(["0/3", "2/3"]));
    assert_eq!(report(&some)["missing"], json!(["1/3"]));
    assert_eq!(code(&some), 2, "what the third part found is unknown");
    let accepted = ordain(&["merge", "--allow-missing", &parts[0], &parts[1]], &here);
    assert_eq!(code(&accepted), 0);
    assert!(
        stdout(&accepted).starts_with("PARTS MISSING: 1/3\n"),
        "{}",
        stdout(&accepted)
    );
    let twice = ordain(&["merge", &parts[0], &parts[0]], &here);
    assert_eq!(code(&twice), 65);
    let other = fuzz(
        &["-n", "31", "--set", "workload.legs=2", "--partition", "0/3"],
        &here,
    );
    let file = here.join("other.json");
    fs::write(&file, &other.stdout).expect("a writable folder");
    let mixed = ordain(&["merge", &parts[0], &file.display().to_string()], &here);
    assert_eq!(
        code(&mixed),
        65,
        "parts of different scenarios do not merge"
    );
    let stderr = String::from_utf8_lossy(&mixed.stderr).into_owned();
    assert!(
        stderr.contains("the scenario") && stderr.contains("other.json"),
        "{stderr}"
    );
    // Seeds 3, 9, ... are in both.
    let overlapping = fuzz(&["-n", "31", "--partition", "3/6"], &here);
    fs::write(&file, &overlapping.stdout).expect("a writable folder");
    let overlapping = ordain(&["merge", &parts[1], &file.display().to_string()], &here);
    assert_eq!(code(&overlapping), 65, "no seed may count twice");
    let stderr = String::from_utf8_lossy(&overlapping.stderr).into_owned();
    assert!(stderr.contains("the number of parts"), "{stderr}");
}

/// The line of a manifest that fuzzes, as a shell reads it, with a scenario, a size and a folder of this test.
fn shell_line(manifest: &str, here: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(manifest);
    let text = fs::read_to_string(path).expect("it is shipped");
    let mut lines = text.lines().map(str::trim);
    let line = lines
        .find(|line| line.contains("ordain fuzz "))
        .expect("it fuzzes");
    let line = &line[line.find("ordain fuzz ").expect("just found")..];
    let line = line
        .replace("YOUR_SCENARIO.toml", "storm")
        .replace("4000", "4");
    let line = line.replace("/parts", &here.display().to_string());
    line.replace(" --json", &format!(" {} --json", small_in_a_shell()))
}

fn small_in_a_shell() -> String {
    SMALL.map(|word| format!("'{word}'")).join(" ")
}

/// What a runner starts finds its part in the runner's own variables.
#[test]
fn the_manifests_of_four_runners_run_every_part_once() {
    let program = Path::new(env!("CARGO_BIN_EXE_ordain"));
    let path = format!(
        "{}:{}",
        program.parent().expect("a folder").display(),
        std::env::var("PATH").expect("a path")
    );
    let slurm = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/slurm.sh");
    let slurm = format!("bash {} storm -n 4 {}", slurm.display(), small_in_a_shell());
    for (runner, part, parts, first) in [
        (
            "slurm.sh",
            "SLURM_ARRAY_TASK_ID",
            "SLURM_ARRAY_TASK_COUNT",
            0,
        ),
        (
            "kubernetes.yaml",
            "JOB_COMPLETION_INDEX",
            "JOB_COMPLETIONS",
            0,
        ),
        ("github-actions.yml", "ORDAIN_PART", "ORDAIN_PARTS", 0),
        ("gitlab-ci.yml", "CI_NODE_INDEX", "CI_NODE_TOTAL", 1),
    ] {
        let here = folder(runner);
        let line = match runner {
            "slurm.sh" => slurm.clone(),
            _ => shell_line(runner, &here),
        };
        for at in first..first + 2 {
            let started = Command::new("sh")
                .args(["-c", &line])
                .current_dir(&here)
                .env("PATH", &path)
                .env_remove("GITHUB_ACTIONS")
                .env(part, at.to_string())
                .env(parts, "2")
                .env("SLURM_ARRAY_TASK_MIN", "0")
                .output()
                .expect("a shell");
            let stderr = String::from_utf8_lossy(&started.stderr);
            assert!(started.status.success(), "{runner}: {line}\n{stderr}");
        }
        let file = |at: usize| {
            here.join(format!("part-{}.json", first + at))
                .display()
                .to_string()
        };
        let merged = ordain(&["merge", "--json", &file(0), &file(1)], &here);
        assert_eq!(report(&merged)["parts"], json!(["0/1"]), "{runner}");
        assert_eq!(
            report(&merged)["runs"],
            8,
            "{runner}: 4 plans under two protocols"
        );
    }
    let here = folder("nowhere");
    let lost = fuzz(&["--partition", "auto"], &here);
    assert_eq!(code(&lost), 64);
    let stderr = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(
        stderr.contains("nothing says which part this is"),
        "{stderr}"
    );
}

#[test]
fn merged_parts_print_commands_with_the_scenario_and_the_overrides_as_they_were_given() {
    let here = folder("merged-commands");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/storm.toml");
    fs::copy(shipped, here.join("mine.toml")).expect("a writable folder");
    for part in ["0", "1"] {
        let partition = format!("{part}/2");
        let args = ["fuzz", "mine.toml", "-n", "20", "--json", "--partition"];
        let output = ordain(&[&args[..], &[&partition], &HOPELESS].concat(), &here);
        assert_eq!(code(&output), 1, "{}", stdout(&output));
        fs::write(here.join(part), output.stdout).expect("a writable folder");
    }
    let output = command(&["merge", "0", "1", "--junit", "junit.xml"], &here)
        .env("GITHUB_ACTIONS", "true")
        .output()
        .expect("it runs");
    assert_eq!(code(&output), 1, "{}", stdout(&output));
    let set = "--set 'phases.settle=\"20ms\"' --set 'swarm.transactions=40'";
    let complete = |text: &str| {
        let commands: Vec<&str> = text.split("ordain run ").skip(1).collect();
        assert!(!commands.is_empty(), "{text}");
        for command in commands {
            assert!(command.starts_with("mine.toml --swarm"), "{command}");
            assert!(command.contains(set), "{command}");
        }
    };
    let text = stdout(&output);
    let (annotations, lines): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("::"));
    complete(&annotations.join("\n"));
    complete(&lines.join("\n"));
    let xml = fs::read_to_string(here.join("junit.xml")).expect("it was written");
    complete(&xml.replace("&quot;", "\"").replace("&apos;", "'"));
}

#[test]
fn a_report_comes_out_even_if_a_file_cannot_be_written_in_the_end() {
    let here = folder("unwritable");
    fs::write(here.join("file"), "").expect("a writable folder");
    let fuzz = ["fuzz", "storm", "-n", "1"];
    let compare = ["compare", "storm", "--seeds", "1"];
    for (promised, flag, target) in [
        (fuzz, "--junit", "nowhere/j.xml"),
        (fuzz, "--out", "file/below"),
        (compare, "--out", "file/below"),
    ] {
        let output = ordain(&[&promised[..], &SMALL, &[flag, target]].concat(), &here);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((code(&output), stdout(&output).as_str()), (65, ""));
        assert!(stderr.contains(target), "{stderr}");
    }

    let args = [&["fuzz", "storm", "-n", "20", "--json"][..], &HOPELESS].concat();
    let found = report(&ordain(&args, &here))["failures"][0].clone();
    let occupied = here.join(format!("other/storm/2pc/{}", found["seed"]));
    fs::create_dir_all(&occupied).expect("a writable folder");
    fs::write(occupied.join("mine.txt"), "x").expect("a writable folder");
    let output = ordain(&[&args[..], &["--out", "other"]].concat(), &here);
    assert_eq!(code(&output), 1);
    let failure = report(&output)["failures"][0].clone();
    assert_eq!(
        (&failure["seed"], &failure["dir"]),
        (&found["seed"], &Value::Null)
    );
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("something other than a run"), "{stderr}");
    assert!(occupied.join("mine.txt").exists());

    if Path::new("/dev/full").exists() {
        let output = ordain(&[&args[..], &["--junit", "/dev/full"]].concat(), &here);
        assert_eq!(code(&output), 1);
        assert_eq!(report(&output)["failures"][0]["seed"], found["seed"]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains("/dev/full"), "{stderr}");
    }
}

/// The storm with settle phases in which nothing can end: progress is promised, and breaks. That is no fault of
/// the protocols, but it is a failure to work with.
const HOPELESS: [&str; 6] = [
    "--set",
    "phases.settle=\"20ms\"",
    "--set",
    "swarm.transactions=40",
    "-p",
    "2pc",
];

#[test]
fn failures_are_grouped_kept_reported_to_ci_and_reproduced_by_the_command_printed() {
    let here = folder("failures");
    let args = [
        &[
            "fuzz",
            "storm",
            "-n",
            "60",
            "--junit",
            "junit.xml",
            "--out",
            "kept",
        ][..],
        &HOPELESS,
    ]
    .concat();
    let output = command(&args, &here)
        .env("GITHUB_ACTIONS", "true")
        .output()
        .expect("it runs");
    assert_eq!(code(&output), 1, "{}", stdout(&output));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    let first = lines[0];
    assert!(
        first.starts_with("seed ") && first.contains("--swarm"),
        "{first}"
    );
    let mut printed = lines.iter().filter(|line| !line.starts_with("::"));
    let last = printed.next_back().expect("a line");
    assert!(
        last.starts_with("seed ") && last.contains("ordain run storm --swarm"),
        "{last}"
    );
    let annotations: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("::error title="))
        .collect();
    assert!(
        !annotations.is_empty() && annotations[0].contains("--swarm"),
        "{annotations:?}"
    );

    let json = ordain(&[&args[..], &["--json"]].concat(), &here);
    let failures = report(&json)["failures"]
        .as_array()
        .expect("a list")
        .clone();
    assert!(!failures.is_empty());
    let kept: BTreeSet<PathBuf> = failures
        .iter()
        .map(|failure| here.join(failure["dir"].as_str().expect("a folder")))
        .collect();
    let there: BTreeSet<PathBuf> = fs::read_dir(here.join("kept/storm/2pc"))
        .expect("folders of failing runs")
        .map(|entry| entry.expect("readable").path())
        .collect();
    assert_eq!(there, kept, "one folder for each class, and no others");
    for failure in &failures {
        let class = failure["class"].as_str().expect("a class");
        let seed = failure["seed"].to_string();
        let run = ordain(
            &[
                &["run", "storm", "--swarm", "--json", "--seed", &seed][..],
                &HOPELESS,
            ]
            .concat(),
            &here,
        );
        assert_eq!(code(&run), 1);
        let property = class.split('/').next().expect("property/shape");
        let of = |run: &Value| {
            let properties = run["properties"].as_array().expect("properties").clone();
            properties
                .into_iter()
                .find(|p| p["name"] == property)
                .expect("judged")
        };
        assert_eq!(of(&report(&run))["status"], "violation");
        let replayed = ordain(
            &["replay", failure["dir"].as_str().expect("a folder")],
            &here,
        );
        assert_eq!(code(&replayed), 0, "{}", stdout(&replayed));
        let seeds = failure["seeds"].as_array().expect("seeds");
        assert!(seeds.contains(&failure["seed"]));
    }
    let xml = fs::read_to_string(here.join("junit.xml")).expect("it was written");
    assert_junit(&xml, failures.len());
}

/// The elements of an XML document, checked for balance: name and attributes, in order of opening.
fn elements(xml: &str) -> Vec<(String, String)> {
    let mut open: Vec<String> = Vec::new();
    let mut all = Vec::new();
    for tag in xml.split('<').skip(1) {
        let (inside, _) = tag.split_once('>').expect("a tag ends");
        if inside.starts_with('?') {
            continue;
        }
        if let Some(name) = inside.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "elements are nested");
            continue;
        }
        let name = inside.split([' ', '/']).next().expect("a name").to_owned();
        if !inside.ends_with('/') {
            open.push(name.clone());
        }
        all.push((name, inside.to_owned()));
    }
    assert!(open.is_empty(), "{open:?} are not closed");
    all
}

fn assert_junit(xml: &str, classes: usize) {
    let elements = elements(xml);
    let count = |name: &str| elements.iter().filter(|(n, _)| n == name).count();
    assert_eq!((count("testsuites"), count("testsuite")), (1, 1));
    assert_eq!(count("failure"), classes);
    assert_eq!(
        count("testcase"),
        classes + 1,
        "each class, and the runs as a whole"
    );
    let failure = elements
        .iter()
        .find(|(name, _)| name == "failure")
        .expect("counted");
    assert!(failure.1.contains("--swarm"), "{}", failure.1);
}

#[test]
fn committed_regressions_run_first_and_fail_the_campaign_until_they_are_mended() {
    let here = folder("regressions");
    let scenario =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/storm.toml"));
    fs::write(here.join("storm.toml"), scenario.expect("shipped")).expect("a writable folder");
    // A run that fails for want of time, as the file that `shrink` writes, and the folder of one that is as
    // promised.
    let found = [&["fuzz", "storm.toml", "-n", "20", "--json"][..], &HOPELESS].concat();
    let found = report(&ordain(&found, &here));
    let dir = found["failures"][0]["dir"].as_str().expect("a folder");
    let bad = "regressions/never-ends.json";
    let shrink = ordain(
        &["shrink", dir, "--budget", "5", "--regression", bad],
        &here,
    );
    assert_eq!(
        code(&shrink),
        0,
        "{}",
        String::from_utf8_lossy(&shrink.stderr)
    );
    let good = [
        "run",
        "storm.toml",
        "--swarm",
        "-p",
        "2pc",
        "--out",
        "regressions/good",
    ];
    assert_eq!(code(&ordain(&good, &here)), 0);

    let args = ["fuzz", "storm.toml", "-n", "2", "-p", "2pc", "--json"];
    let output = ordain(&args, &here);
    assert_eq!(code(&output), 1);
    let regressions = report(&output)["regressions"].clone();
    let of = |at: usize, key: &str| regressions[at][key].clone();
    assert_eq!(regressions.as_array().map(Vec::len), Some(2));
    assert!(of(0, "path").as_str().expect("a path").ends_with("good"));
    assert_eq!(of(0, "class"), Value::Null, "this one is as promised");
    assert_eq!(of(1, "class"), found["failures"][0]["class"]);
    let output = command(&[&args[..6], &["--junit", "junit.xml"]].concat(), &here)
        .env("GITHUB_ACTIONS", "true")
        .output()
        .expect("it runs");
    let again = format!("ordain run --plan {bad}");
    let text = stdout(&output);
    let (annotations, lines): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("::"));
    for place in [annotations.join("\n"), lines.join("\n")] {
        assert!(place.contains(&again), "{place}");
    }
    let xml = fs::read_to_string(here.join("junit.xml")).expect("it was written");
    assert!(xml.contains(&again), "{xml}");
    let second = ordain(&[&args[..], &["--partition", "1/2"]].concat(), &here);
    assert_eq!(
        report(&second)["regressions"],
        json!([]),
        "the first part runs them for all"
    );

    fs::remove_file(here.join(bad)).expect("it is there");
    assert_eq!(code(&ordain(&args, &here)), 0);
    let old = "{ \"plan\": { \"version\": 0 } }";
    fs::write(here.join("regressions/old.json"), old).expect("a writable folder");
    let output = ordain(&args, &here);
    assert_eq!(code(&output), 65);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("old.json") && stderr.contains("version 0"),
        "{stderr}"
    );
    let help = "help: find the failure again and write it with `shrink --regression`";
    assert!(stderr.contains(help), "{stderr}");
}

#[test]
fn regressions_of_another_scenario_are_counted_and_a_folder_without_any_other_is_refused() {
    let here = folder("left-out");
    let storm = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/storm.toml");
    let storm = fs::read_to_string(storm).expect("shipped");
    let renamed = storm.replacen("name = \"storm\"", "name = \"tempest\"", 1);
    assert_ne!(storm, renamed);
    fs::write(here.join("storm.toml"), renamed).expect("a writable folder");
    let kept = "regressions/of-storm";
    let run = [&["run", "storm", "--swarm", "--out", kept][..], &SMALL].concat();
    let run: Vec<&str> = run
        .into_iter()
        .map(|arg| arg.trim_end_matches(",calvin"))
        .collect();
    assert_eq!(code(&ordain(&run, &here)), 0);

    let args = [&["fuzz", "storm.toml", "-n", "1"][..], &SMALL].concat();
    let output = ordain(&args, &here);
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    let wanted = "regressions: 0 run, 1 left out (scenario storm)";
    assert!(stdout(&output).contains(wanted), "{}", stdout(&output));
    let output = ordain(
        &[&args[..], &["--regressions", "regressions"]].concat(),
        &here,
    );
    assert_eq!(code(&output), 65, "{}", stdout(&output));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let wanted = "no regression of scenario tempest to run, 1 left out (scenario storm)";
    assert!(stderr.contains(wanted), "{stderr}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_prints_what_was_found_and_ends_with_130() {
    for signal in ["-INT", "-TERM"] {
        a_signal_prints_what_was_found(signal);
    }
}

#[cfg(unix)]
fn a_signal_prints_what_was_found(signal: &str) {
    let here = folder("interrupt");
    let args = [
        &[
            "fuzz",
            "storm",
            "--duration",
            "10m",
            "--json",
            "--junit",
            "junit.xml",
        ][..],
        &HOPELESS,
    ]
    .concat();
    let child = command(&args, &here)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program runs");
    // As soon as the first failing run's folder is there.
    let first = here.join("store/storm/2pc");
    while fs::read_dir(&first).map_or(0, Iterator::count) == 0 {
        std::thread::yield_now();
    }
    let pid = child.id().to_string();
    let sent = Command::new("kill")
        .args([signal, &pid])
        .status()
        .expect("kill is there");
    assert!(sent.success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 130);
    assert!(here.join("junit.xml").exists());
    let report = report(&output);
    assert_eq!(report["interrupted"], true);
    let failures = report["failures"].as_array().expect("a list");
    assert!(!failures.is_empty());
    for failure in failures {
        let dir = here.join(failure["dir"].as_str().expect("a folder"));
        assert!(dir.join("plan.json").exists(), "{}", dir.display());
    }
}

#[test]
fn a_bad_flag_says_what_to_write_and_exits_with_64_or_65() {
    let here = folder("flags");
    fs::write(here.join("empty.json"), "").expect("a writable folder");
    fs::write(here.join("failed.json"), "{\"error\": \"no\"}").expect("a writable folder");
    fs::write(here.join("half.json"), "{\"runs\":").expect("a writable folder");
    for (args, wanted, exit) in [
        (
            &["fuzz", "storm", "--partition", "3/3"][..],
            "with I below N",
            64,
        ),
        (
            &["fuzz", "storm", "--duration", "soon"],
            "a duration such as",
            64,
        ),
        (
            &["fuzz", "storm", "--duration", "1s", "--runs", "2"],
            "cannot be used with",
            64,
        ),
        (
            &["fuzz", "storm", "-p", "4pc"],
            "there is no protocol `4pc`",
            64,
        ),
        (&["fuzz", "storm", "-p", "2pc,2pc"], "named twice", 64),
        (
            &["fuzz", "storm", "--regressions", "nowhere"],
            "nowhere",
            65,
        ),
        (&["merge", "nowhere.json"], "nowhere.json", 65),
        (
            &["merge", "empty.json"],
            "empty.json: the file is empty",
            65,
        ),
        (&["merge", "failed.json"], "failed.json: no", 65),
        (&["merge", "half.json"], "half.json:1:8: ", 65),
    ] {
        let output = ordain(args, &here);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains(wanted), "{args:?}: {stderr}");
        assert_eq!(code(&output), exit, "{args:?}: {stderr}");
    }
}
