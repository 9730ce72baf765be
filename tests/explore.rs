//! `ordain model NAME --explore ADDR` serves stateright's Explorer of a world of the protocol code: its status and its states
//! are there over HTTP, its properties are decided, and what breaks them is found.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use ordain::model::explorer::{Asked, Explored};
use ordain::model::refine::Abstraction;
use ordain::model::refine::saga::Sagas;
use ordain::model::worlds::world::World;
use ordain::model::worlds::{CRASH, transfer};
use ordain::protocol::kit::client::ClientTimer;
use ordain::protocol::saga::{self, Saga};
use serde_json::Value;
use stateright::{Checker, Model};

use crate::interferer::*;

/// A server that is stopped with the test, however that ends.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody listens on.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound")
}

/// Starts the Explorer, and waits until it accepts connections.
fn serve(model: &str) -> (Serving, SocketAddr) {
    let address = free_address();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ordain"))
        .args(["model", model, "--explore", &address.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let mut first = String::new();
    let errors = child.stderr.take().expect("it is piped");
    BufReader::new(errors)
        .read_line(&mut first)
        .expect("it says where it serves");
    assert!(first.contains(&address.to_string()), "{first}");
    let mut serving = Serving(child);
    while TcpStream::connect(address).is_err() {
        let ended = serving.0.try_wait().expect("it can be asked");
        assert_eq!(ended, None, "it serves until it is stopped");
        std::thread::yield_now();
    }
    (serving, address)
}

/// The body of the answer to a GET, as JSON.
fn get(address: SocketAddr, path: &str) -> Value {
    serde_json::from_str(&ask(address, "GET", path)).expect("JSON")
}

/// The body of the answer to a request.
fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    assert!(head.contains(" 200 "), "{head}");
    body.to_owned()
}

/// The properties with what was found, once the whole world is explored: kind, name, and the way to an example or
/// counterexample.
fn verdicts(address: SocketAddr) -> Vec<(String, String, Option<String>)> {
    ask(address, "POST", "/.runtocompletion");
    loop {
        let status = get(address, "/.status");
        if status["done"] == true {
            return serde_json::from_value(status["properties"].clone()).expect("triples");
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_world_of_the_protocol_code_can_be_explored_over_http() {
    let (_serving, address) = serve("code/raft");
    let status = get(address, "/.status");
    assert!(status["state_count"].is_u64(), "{status}");

    let initial = get(address, "/.states/");
    let index = initial[0]["actionIndex"].as_u64().expect("a number");
    let state = initial[0]["state"].as_str().expect("text");
    // What the spec says of it, the monitor, and the processes with their timers.
    for shown in [
        "spec    log 0: [chosen |-> {}, commit |-> <<0, 0>>, ",
        "seen    Stated {",
        "faults  none left",
        "n0:0    disk 0 B; timers: Raft(Election)",
    ] {
        assert!(state.contains(shown), "{shown} is not in\n{state}");
    }
    let next = get(address, &format!("/.states/{index}"));
    let actions: Vec<&str> = { next.as_array().expect("states") }
        .iter()
        .filter_map(|state| state["action"].as_str())
        .collect();
    // Both have booted, and nothing but the first one's election timer can go on.
    assert_eq!(actions, ["timeout Raft(Election) at n0:0"]);
}

#[test]
fn the_safety_properties_of_a_world_are_decided_and_what_has_to_be_possible_has_an_example() {
    let (_serving, address) = serve("code/saga-refused");
    let expected = [
        ("Always", "one decision", false),
        ("Always", "decided alike", false),
        ("Always", "all or nothing", false),
        ("Always", "what was acknowledged stands", false),
        ("Always", "refinement", false),
        // The pivot is refused.
        ("Sometimes", "commits", false),
    ];
    let found = verdicts(address);
    let found: Vec<_> = { found.iter() }
        .map(|(kind, name, way)| (kind.as_str(), name.as_str(), way.is_some()))
        .collect();
    assert_eq!(found, expected);

    let (_serving, address) = serve("code/saga");
    let found = verdicts(address);
    let (_, _, way) = { found.iter() }
        .find(|(_, name, _)| name == "commits")
        .expect("it is asked");
    let way = way.as_ref().expect("without faults a saga commits");
    let states = get(address, &format!("/.states/{way}"));
    assert!(states.is_array(), "the way can be followed");
}

#[test]
fn what_a_mutant_breaks_is_a_discovery_of_stateright_with_the_way_there() {
    let crash = |start: Sagas| {
        world::<Saga, _>(
            &saga::Options::default(),
            start,
            &[transfer(0)],
            CRASH,
            all,
            |node, effects| match node {
                saga::Node::Coordinator(_) => unflushed(effects),
                _ => effects,
            },
        )
        .limit_timers(|_, timer| match timer {
            saga::Timer::Client(ClientTimer::Resend(_)) => Some(2),
            _ => None,
        })
    };
    // The abstraction stands for the monitor too: what is asked of it here is that no saga begins.
    let asked = Asked {
        always: vec![("nothing begins", |world: &World<_, Sagas>| {
            Abstraction::<Meddled<saga::Node>>::instances(&world.seen).is_empty()
        })],
        sometimes: Vec::new(),
    };
    let (start, shadow) = (Sagas::default(), Sagas::default());
    let checker = Explored::new(crash(start), crash(shadow), asked)
        .checker()
        .spawn_bfs()
        .join();
    let steps = |name| {
        let path = checker.discovery(name)?;
        let steps = path.into_actions().into_iter();
        Some(steps.map(|step| step.to_string()).collect::<Vec<_>>())
    };
    let refused = steps("refinement").expect("an orchestrator that skips its flushes");
    assert!(
        refused.iter().any(|step| step.starts_with("crash n0")),
        "{refused:?}"
    );
    let begun = steps("nothing begins").expect("a saga begins");
    assert!(begun.len() <= refused.len(), "{begun:?} {refused:?}");
    let path = checker.discovery("refinement").expect("it was just there");
    let last = format!("{:?}", path.last_state());
    assert!(
        last.contains("refused T1: no step of the spec leads from"),
        "{last}"
    );
}

#[test]
fn a_spec_can_be_explored_too() {
    let (_serving, address) = serve("hlc/MCHlcSmall");
    let properties = &get(address, "/.status")["properties"];
    let of_spec = properties.as_array().expect("a list");
    assert!(
        of_spec.iter().any(|property| property[1] == "TypeOK"),
        "{properties}"
    );
}

#[test]
fn an_address_that_is_taken_and_a_name_that_means_nothing_are_refused_before_anything_is_served() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    for (model, reason) in [
        ("code/raft", "cannot listen on"),
        ("code/nothing", "no model is called"),
        ("hlc", "several models"),
    ] {
        let done = Command::new(env!("CARGO_BIN_EXE_ordain"))
            .args(["model", model, "--explore", &address])
            .output()
            .expect("the command runs");
        let said = String::from_utf8(done.stderr).expect("text");
        assert!(said.contains(reason), "{model}: {said}");
        assert!(!said.contains("serves"), "{model}: {said}");
        assert_eq!(done.status.code(), Some(64), "{model}");
    }
}
