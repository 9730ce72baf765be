//! Which part of a campaign a process is to run: from its command line, or from what started it.

/// How a runner numbers the processes that it starts, by environment variables.
struct Runner {
    /// As a sentence has it.
    name: &'static str,
    part: &'static str,
    parts: &'static str,
    /// The number of the first part, or the variable that holds it.
    first: First,
    /// The variable that holds the distance of two numbers, where it need not be 1.
    step: Option<&'static str>,
}

enum First {
    Number(u64),
    Variable(&'static str),
}

const fn runner(name: &'static str, part: &'static str, parts: &'static str, first: u64) -> Runner {
    Runner {
        name,
        part,
        parts,
        first: First::Number(first),
        step: None,
    }
}

/// In order of precedence: what a user sets comes first.
const RUNNERS: [Runner; 6] = [
    runner("your own variables", "ORDAIN_PART", "ORDAIN_PARTS", 0),
    Runner {
        name: "a Slurm array",
        part: "SLURM_ARRAY_TASK_ID",
        parts: "SLURM_ARRAY_TASK_COUNT",
        first: First::Variable("SLURM_ARRAY_TASK_MIN"),
        step: Some("SLURM_ARRAY_TASK_STEP"),
    },
    // Kubernetes tells the index only. The manifest in `deploy/` sets the other.
    runner(
        "a Kubernetes indexed job",
        "JOB_COMPLETION_INDEX",
        "JOB_COMPLETIONS",
        0,
    ),
    runner("GitLab CI", "CI_NODE_INDEX", "CI_NODE_TOTAL", 1),
    runner("CircleCI", "CIRCLE_NODE_INDEX", "CIRCLE_NODE_TOTAL", 0),
    runner(
        "Buildkite",
        "BUILDKITE_PARALLEL_JOB",
        "BUILDKITE_PARALLEL_JOB_COUNT",
        0,
    ),
];

/// Reads `I/N`, I below N: every N-th seed from the I-th on.
pub fn stated(text: &str) -> Option<(u64, u64)> {
    let (part, parts) = text.split_once('/')?;
    let (part, parts) = (part.parse().ok()?, parts.parse().ok()?);
    (part < parts).then_some((part, parts))
}

/// The part that the first runner whose variables are set asks for. `variable` looks one up.
///
/// # Errors
///
/// When no runner has set its variables, or they contradict one another: which, and what to do.
pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<(u64, u64), String> {
    let number = |name: &str| {
        let text = variable(name).ok_or_else(|| format!("`{name}` is not set"))?;
        let number = text.trim().parse::<u64>();
        number.map_err(|_| format!("`{name}` is `{text}`, and no number"))
    };
    let Some(runner) = RUNNERS
        .iter()
        .find(|runner| variable(runner.part).is_some())
    else {
        let known = RUNNERS.map(|runner| format!("{} (`{}`)", runner.name, runner.part));
        return Err(format!(
            "nothing says which part this is; known are {}. Write I/N, or set `ORDAIN_PART` and `ORDAIN_PARTS`",
            known.join(", ")
        ));
    };
    let numbers = || {
        let first = match runner.first {
            First::Number(first) => first,
            First::Variable(name) => number(name)?,
        };
        let step = runner.step.filter(|name| variable(name).is_some());
        let step = step.map_or(Ok(1), number)?;
        Ok((number(runner.part)?, number(runner.parts)?, first, step))
    };
    let (at, parts, first, step) =
        numbers().map_err(|why: String| format!("{}: {why}", runner.name))?;
    let part = at.checked_sub(first).and_then(|at| at.checked_div(step));
    part.filter(|part| *part < parts)
        .map(|part| (part, parts))
        .ok_or_else(|| {
            format!(
                "{}: `{}` is {at}, and there are {parts} parts from {first} on",
                runner.name, runner.part
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(variables: &[(&str, &str)]) -> Result<(u64, u64), String> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        from_environment(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn every_runner_numbers_its_parts_in_its_own_way() {
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "12"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
            ("SLURM_ARRAY_TASK_MIN", "4"),
            ("SLURM_ARRAY_TASK_STEP", "4"),
        ];
        assert_eq!(part(&slurm), Ok((2, 4)));
        assert_eq!(
            part(&slurm[..3]),
            Err(
                "a Slurm array: `SLURM_ARRAY_TASK_ID` is 12, and there are 4 parts from 4 on"
                    .into()
            )
        );
        let kubernetes = [("JOB_COMPLETION_INDEX", "0"), ("JOB_COMPLETIONS", "8")];
        assert_eq!(part(&kubernetes), Ok((0, 8)));
        assert_eq!(
            part(&[("CI_NODE_INDEX", "1"), ("CI_NODE_TOTAL", "3")]),
            Ok((0, 3))
        );
        assert_eq!(
            part(&[("CI_NODE_INDEX", "3"), ("CI_NODE_TOTAL", "3")]),
            Ok((2, 3))
        );
        let both = [
            ("ORDAIN_PART", "5"),
            ("ORDAIN_PARTS", "6"),
            kubernetes[0],
            kubernetes[1],
        ];
        assert_eq!(part(&both), Ok((5, 6)));
    }

    #[test]
    fn what_is_missing_or_contradicts_itself_is_named() {
        assert!(
            part(&[])
                .unwrap_err()
                .contains("nothing says which part this is")
        );
        let alone = part(&[("JOB_COMPLETION_INDEX", "0")]);
        assert_eq!(
            alone,
            Err("a Kubernetes indexed job: `JOB_COMPLETIONS` is not set".into())
        );
        let word = part(&[("ORDAIN_PART", "one"), ("ORDAIN_PARTS", "2")]);
        assert_eq!(
            word,
            Err("your own variables: `ORDAIN_PART` is `one`, and no number".into())
        );
        let outside = part(&[("CI_NODE_INDEX", "0"), ("CI_NODE_TOTAL", "3")]);
        assert!(outside.unwrap_err().contains("there are 3 parts from 1 on"));
    }
}
