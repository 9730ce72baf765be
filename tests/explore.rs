//! `ordain model NAME --explore ADDR` serves stateright's Explorer of a world of the protocol code: its status and its states
//! are there over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

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
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    assert!(head.contains(" 200 "), "{head}");
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn a_world_of_the_protocol_code_can_be_explored_over_http() {
    let (_serving, address) = serve("code/raft");
    let status = get(address, "/.status");
    assert!(status["state_count"].is_u64(), "{status}");

    let initial = get(address, "/.states/");
    let index = initial[0]["actionIndex"].as_u64().expect("a number");
    assert!(
        initial[0]["state"]
            .as_str()
            .is_some_and(|text| text.contains("Replica")),
        "{initial}"
    );
    let next = get(address, &format!("/.states/{index}"));
    let actions: Vec<&str> = { next.as_array().expect("states") }
        .iter()
        .filter_map(|state| state["action"].as_str())
        .collect();
    // Both have booted, and nothing but the first one's election timer can go on.
    assert_eq!(actions, ["timeout Raft(Election) at n0:0"]);
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
