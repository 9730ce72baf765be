//! Any database, by way of a program that speaks JSON lines on its standard input and output.
//!
//! One process is started for the setup, and one for each client. Each gets one line at a time, and answers with one line:
//!
//! | ordain says | the child answers |
//! |---|---|
//! | `{"type": "setup", "protocol": 1, "workload": ..., "isolation": ..., "accounts": 6, "balance": 20}` | `{"type": "ready"}` |
//! | `{"type": "open", "protocol": 1, "client": 3, "workload": ..., "isolation": ...}` | `{"type": "ready"}` |
//! | `{"type": "invoke", "f": "txn", "value": [["append", 1, 7], ["r", 2, null]], "rollback": false}` | `{"type": "ok", "value": [["append", 1, 7], ["r", 2, [5, 6]]]}` |
//!
//! Instead of `ready`: `{"type": "error", "error": "why"}`. Instead of `ok`: `{"type": "fail", "error": "why"}` if the transaction
//! certainly had no effect, `{"type": "info", "error": "why"}` if nobody knows. Values are those of the history's records. At the
//! end standard input is closed. A child that ends in the middle leaves its transaction indeterminate, and is started again.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child as Running, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::database::{Database, Refused, Session, Target};
use super::workload::{Asked, Completion, Shape, Workload};
use crate::check::Model;

/// The version of the protocol.
const PROTOCOL: u32 = 1;

/// A database behind a program.
pub(super) struct Child {
    command: String,
    isolation: String,
    workload: Workload,
    patience: Duration,
}

impl Child {
    pub fn new(target: &Target, workload: Workload) -> Result<Self, Refused> {
        let command = target.rest().trim().to_owned();
        if command.is_empty() {
            let why = "child: which command?\n  help: 'child:python3 program.py'";
            return Err(Refused(why.into()));
        }
        Ok(Child {
            command,
            isolation: target.isolation.clone(),
            workload,
            patience: target.patience,
        })
    }

    /// Starts a process that says that it is ready.
    fn start(&self, first: &Value) -> Result<Line, Refused> {
        let mut line = Line::start(&self.command, self.patience)?;
        let wrong = |why: String| Refused(format!("child `{}`: {why}", self.command));
        let answer = line.ask(first).map_err(|lost| wrong(lost.to_string()))?;
        match answer["type"].as_str() {
            Some("ready") => Ok(line),
            Some("error") => Err(wrong(text(&answer["error"]))),
            _ => {
                let kind = &first["type"];
                let why = format!("answered {answer} to {kind}; expected {{\"type\": \"ready\"}}");
                Err(wrong(why))
            }
        }
    }
}

impl Database for Child {
    fn name(&self) -> String {
        format!("child:{}", self.command)
    }

    fn prepare(&self, workload: Workload, shape: &Shape) -> Result<(), Refused> {
        let setup = json!({
            "type": "setup", "protocol": PROTOCOL, "workload": workload, "isolation": self.isolation,
            "accounts": shape.accounts, "balance": shape.balance,
        });
        self.start(&setup).map(drop)
    }

    fn connect(&self, client: u64) -> Result<Box<dyn Session>, Refused> {
        let open = json!({
            "type": "open", "protocol": PROTOCOL, "client": client, "workload": self.workload,
            "isolation": self.isolation,
        });
        let line = self.start(&open)?;
        let command = self.command.clone();
        Ok(Box::new(Speaking { line, command }))
    }

    fn promises(&self, _: Workload) -> Option<Model> {
        // Whoever writes a child names levels as they like: a model's name promises that model.
        self.isolation.parse().ok()
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The process is there no more, or does not answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
enum Lost {
    #[error("it ended")]
    Ended,
    #[error("it did not answer within {0:?}")]
    Late(Duration),
    #[error("it answered what is no JSON: {0}")]
    Nonsense(String),
}

/// A running process, one line for one line.
struct Line {
    running: Running,
    /// None once it is closed.
    input: Option<ChildStdin>,
    output: Receiver<String>,
    patience: Duration,
    alive: bool,
}

impl Line {
    fn start(command: &str, patience: Duration) -> Result<Self, Refused> {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        let spawned = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut running = spawned.map_err(|error| Refused(format!("sh: {error}")))?;
        let input = running.stdin.take();
        let output = running.stdout.take().expect("it is piped");
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Line {
            running,
            input,
            output: receiver,
            patience,
            alive: true,
        })
    }

    fn ask(&mut self, value: &Value) -> Result<Value, Lost> {
        let answer = self.exchange(value);
        self.alive &= answer.is_ok();
        answer
    }

    fn exchange(&mut self, value: &Value) -> Result<Value, Lost> {
        let input = self.input.as_mut().ok_or(Lost::Ended)?;
        let sent = writeln!(input, "{value}").and_then(|()| input.flush());
        sent.map_err(|_| Lost::Ended)?;
        let line = self.output.recv_timeout(self.patience);
        let line = line.map_err(|error| match error {
            RecvTimeoutError::Timeout => Lost::Late(self.patience),
            RecvTimeoutError::Disconnected => Lost::Ended,
        })?;
        serde_json::from_str(&line).map_err(|_| Lost::Nonsense(line))
    }
}

impl Drop for Line {
    /// Closes its input, and ends it if it does not end by itself.
    fn drop(&mut self) {
        const GRACE: Duration = Duration::from_millis(500);
        self.input = None;
        let began = Instant::now();
        while self.alive && began.elapsed() < GRACE {
            if matches!(self.running.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

struct Speaking {
    line: Line,
    command: String,
}

impl Session for Speaking {
    fn execute(&mut self, asked: &Asked) -> Result<Completion, Refused> {
        let (f, value) = asked.record();
        let said = json!({ "type": "invoke", "f": f, "value": value, "rollback": asked.rollback });
        let answer = match self.line.ask(&said) {
            Ok(answer) => answer,
            Err(lost @ Lost::Nonsense(_)) => {
                return Err(Refused(format!("child `{}`: {lost}", self.command)));
            }
            Err(lost) => return Ok(Completion::Info(format!("the child: {lost}"))),
        };
        let why = text(&answer["error"]);
        let wrong = |expected: &str| {
            Err(Refused(format!(
                "child `{}` answered {answer} to {said}; expected {expected}",
                self.command
            )))
        };
        match answer["type"].as_str() {
            Some("ok") if asked.rollback => wrong("a fail: the transaction was to be rolled back"),
            Some("ok") => match asked.answer(&answer["value"]) {
                Some(told) => Ok(Completion::Ok(told)),
                None => wrong("the same operations with their results"),
            },
            Some("fail") => Ok(Completion::Fail(why)),
            Some("info") => Ok(Completion::Info(why)),
            _ => wrong("a type of ok, fail or info"),
        }
    }

    fn is_alive(&self) -> bool {
        self.line.alive
    }
}
