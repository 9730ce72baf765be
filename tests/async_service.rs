//! An async service of somebody's own in the simulated world: the example of docs/your-own-async-service.md.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{addr, fault, nodes, world};
use ordain::base::process::{Effects, Input, NodeId, Process, WallTime, Wire};
use ordain::check::{HistoryBuilder, Model, Options, Status, Verdict, check};
use ordain::fault::{CrashLoss, Fault, FaultKind};
use ordain::protocol::Deployment;
use ordain::sim::{Guest, GuestSocket, Run, simulate};

/// What travels between the service and its client.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Message {
    Put(u64),
    Done,
    Get,
    Value(Option<u64>),
}

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Put(_) => "put",
            Message::Done => "done",
            Message::Get => "get",
            Message::Value(_) => "value",
        }
    }
}

/// A run has a type of process. In this one there are guests only.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Nobody {}

impl Process for Nobody {
    type Message = Message;
    type Timer = ();

    fn step(&mut self, _: WallTime, _: Input<Message, ()>, _: &mut Effects<Message, ()>) {
        match *self {}
    }
}

/// A service with one register, kept in memory.
async fn service(socket: GuestSocket<Nobody>) {
    let mut value = None;
    loop {
        match socket.recv().await {
            (from, Message::Put(new)) => {
                value = Some(new);
                socket.send(from, Message::Done);
            }
            (from, Message::Get) => socket.send(from, Message::Value(value)),
            _ => {}
        }
    }
}

/// The service mended: it keeps nothing, and asks a store on machine 2.
async fn front(socket: GuestSocket<Nobody>) {
    let store = addr(2);
    let mut client = None;
    loop {
        match (socket.recv().await, client) {
            ((from, answer), Some(client)) if from == store => socket.send(client, answer),
            ((from, request), _) if from != store => {
                client = Some(from);
                socket.send(store, request);
            }
            _ => {}
        }
    }
}

/// A client that puts 1, 2, 3, ..., gets after each, and writes down what it saw.
async fn client(socket: GuestSocket<Nobody>, history: Arc<Mutex<HistoryBuilder>>) {
    for number in 1..=10 {
        for request in [Message::Put(number), Message::Get] {
            socket.sleep(Duration::from_millis(20)).await;
            let invoked = socket.now().0;
            socket.send(addr(0), request.clone());
            // A service that is down never answers.
            let answer = madsim::time::timeout(Duration::from_millis(15), socket.recv()).await;
            let answered = Some(socket.now().0);
            let mut history = history.lock().expect("nobody panics while holding it");
            // One who had no answer may not go on under the same name.
            history.begin(invoked, invoked);
            match (request, answer) {
                (Message::Put(value), Ok(_)) => {
                    history.write(0, value);
                    history.end(Status::Ok, answered);
                }
                (Message::Get, Ok((_, Message::Value(value)))) => {
                    history.read(0, value);
                    history.end(Status::Ok, answered);
                }
                (Message::Put(value), Err(_)) => {
                    history.write(0, value);
                    history.end(Status::Info, None);
                }
                _ => {
                    history.read_unknown(0);
                    history.end(Status::Info, None);
                }
            }
        }
    }
}

/// Runs guests on machines 0, 1 and 2, and judges what the client on machine 1 saw.
fn verdict(guests: Vec<Guest<Nobody>>, faults: &[Fault]) -> Verdict {
    let history = Arc::new(Mutex::new(HistoryBuilder::new()));
    let environment = world(3);
    let deployment = Deployment {
        processes: vec![Vec::new(); 3],
    };
    let mut run = Run::new(&environment, deployment, 1);
    run.faults = faults;
    run.guests = guests;
    let of_client = Arc::clone(&history);
    run.guests.push(Guest::new(NodeId(1), move |socket| {
        client(socket, Arc::clone(&of_client))
    }));
    simulate(run).expect("the inputs fit");
    let history = std::mem::take(&mut *history.lock().expect("the run is over")).finish();
    assert_eq!(history.len(), 20, "every request was written down");
    check(&history, &Options::new(Model::Linearizable)).verdict
}

/// The service's machine loses power after 145 ms, for 20 ms.
fn power_failure() -> [Fault; 1] {
    let crash = FaultKind::Crash {
        nodes: nodes(&[0]),
        loss: CrashLoss::Lost,
    };
    [fault(145, 20, crash)]
}

#[test]
fn a_service_that_forgets_in_a_crash_is_not_linearizable() {
    let guests = || vec![Guest::new(NodeId(0), service)];
    assert_eq!(verdict(guests(), &[]), Verdict::Valid);
    assert_eq!(verdict(guests(), &power_failure()), Verdict::Invalid);
}

#[test]
fn a_front_that_keeps_nothing_may_crash() {
    let guests = vec![Guest::new(NodeId(0), front), Guest::new(NodeId(2), service)];
    assert_eq!(verdict(guests, &power_failure()), Verdict::Valid);
}
