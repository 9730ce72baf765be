//! What the simulated world costs: message delivery beside madsim's own `Endpoint` and turmoil on the same
//! ping-pong, whole runs, and runs that last.
//!
//! The goals are ratios within one run of this file: message delivery at least 5 times madsim's and 12 times
//! turmoil's. They are printed first, by CPU time, so that what else the machine does distorts them little.

#![expect(
    clippy::print_stdout,
    reason = "ratios are the result; criterion prints the rest"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ordain::base::process::{Addr, Delay, Effects, Input, NodeId, Process, WallTime};
use ordain::fault::{Latency, Link};
use ordain::plan::{Environment, Machine};
use ordain::protocol::Deployment;
use ordain::sim::{Run, simulate};

const PORT: u16 = 7;
/// Messages in one ping-pong, both ways together.
const MESSAGES: u64 = 20_000;

/// Sends a number back and forth until it reaches the limit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Player {
    opens: bool,
    limit: u64,
}

impl Process for Player {
    type Message = u64;
    type Timer = ();

    fn step(&mut self, _: WallTime, input: Input<u64, ()>, out: &mut Effects<u64, ()>) {
        let node = NodeId(u16::from(self.opens));
        match input {
            Input::Boot(_) if self.opens => out.send(Addr { node, port: 0 }, 1),
            Input::Message { message, .. } if message < self.limit => {
                out.send(Addr { node, port: 0 }, message + 1)
            }
            _ => {}
        }
    }
}

/// Sets a timer over and over, as a leader's heartbeat does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Beater;

impl Process for Beater {
    type Message = u64;
    type Timer = ();

    fn step(&mut self, _: WallTime, input: Input<u64, ()>, out: &mut Effects<u64, ()>) {
        if matches!(input, Input::Boot(_) | Input::Timer(())) {
            out.set_timer((), Delay::between(9_000_000, 11_000_000));
        }
    }
}

fn environment(machines: u16, jitter_ns: u64, handle_ns: u64) -> Environment {
    let latency = Latency {
        base_ns: 1_000_000,
        jitter_ns,
    };
    let machine = |number| Machine {
        name: format!("m{number}"),
        client: false,
        region: 0,
        zone: 0,
        clock_offset_ns: 0,
        clock_drift_ppm: 0,
        handle_ns,
        operation_ns: 0,
        flush: latency,
    };
    let link = Link {
        latency,
        bandwidth: 0,
        loss_ppm: 0,
        duplicate_ppm: 0,
        reorder_ppm: 0,
    };
    Environment {
        machines: (0..machines).map(machine).collect(),
        links: vec![vec![0; usize::from(machines)]; usize::from(machines)],
        link_classes: vec![link],
        supervisor_ns: 0,
        safety_ns: 1_000_000_000,
        settle_ns: 0,
        power_cycle_ns: 0,
    }
}

fn ours(messages: u64, jitter_ns: u64, handle_ns: u64) {
    let mut environment = environment(2, jitter_ns, handle_ns);
    environment.safety_ns = messages * 20_000_000;
    let player = |opens| {
        vec![Player {
            opens,
            limit: messages,
        }]
    };
    // The player on machine 0 opens.
    let deployment = Deployment {
        processes: vec![player(true), player(false)],
    };
    let record = simulate(Run::new(&environment, deployment, 1)).expect("the inputs fit");
    assert_eq!(record.messages["number"].delivered, messages);
}

fn endpoint(messages: u64) {
    let run = move || {
        let mut config = madsim::Config::default();
        config.net.send_latency = Duration::from_millis(1)..Duration::from_nanos(1_000_001);
        let runtime = madsim::runtime::Runtime::with_seed_and_config(1, config);
        let at = |last| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), PORT);
        let node = |last| runtime.create_node().ip(at(last).ip()).build();
        let (first, second) = (node(1), node(2));
        second.spawn(async move {
            let endpoint = madsim::net::Endpoint::bind(at(2))
                .await
                .expect("a free address");
            loop {
                let mut buffer = [0; 8];
                let (_, from) = endpoint.recv_from(1, &mut buffer).await.expect("a message");
                endpoint
                    .send_to(from, 1, &buffer)
                    .await
                    .expect("a way back");
            }
        });
        let pinging = first.spawn(async move {
            let endpoint = madsim::net::Endpoint::bind(at(1))
                .await
                .expect("a free address");
            madsim::time::sleep(Duration::from_millis(10)).await;
            for number in 0..messages / 2 {
                endpoint
                    .send_to(at(2), 1, &number.to_le_bytes())
                    .await
                    .expect("a way there");
                let mut buffer = [0; 8];
                endpoint.recv_from(1, &mut buffer).await.expect("an answer");
                assert_eq!(u64::from_le_bytes(buffer), number);
            }
        });
        runtime.block_on(pinging).expect("nobody cancels it");
    };
    std::thread::spawn(run).join().expect("no panic");
}

fn turmoil(messages: u64) {
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(1)
        .simulation_duration(Duration::from_secs(1_000_000))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(1));
    let mut simulation = builder.build();
    simulation.host("second", || async {
        let socket = turmoil::net::UdpSocket::bind(("0.0.0.0", PORT)).await?;
        loop {
            let mut buffer = [0; 8];
            let (_, from) = socket.recv_from(&mut buffer).await?;
            socket.send_to(&buffer, from).await?;
        }
    });
    simulation.client("first", async move {
        let socket = turmoil::net::UdpSocket::bind(("0.0.0.0", PORT)).await?;
        for number in 0..messages / 2 {
            socket
                .send_to(&number.to_le_bytes(), ("second", PORT))
                .await?;
            let mut buffer = [0; 8];
            socket.recv_from(&mut buffer).await?;
            assert_eq!(u64::from_le_bytes(buffer), number);
        }
        Ok(())
    });
    simulation.run().expect("the client ends");
}

/// CPU time of this process and its ended threads, in hundredths of a second (`proc_pid_stat(5)`); 0 where the system
/// does not tell.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// CPU time for one run, in ticks, of what `runs` runs took.
fn ticks_a_run(runs: u64, run: impl Fn()) -> f64 {
    let before = cpu_ticks();
    (0..runs).for_each(|_| run());
    (cpu_ticks() - before) as f64 / runs as f64
}

/// Message delivery as a multiple of the others', by CPU time: the contenders take turns, and the middle of the rounds
/// counts.
fn ratios(_: &mut Criterion) {
    const ROUNDS: usize = 5;
    let mut rounds: Vec<[f64; 2]> = (0..ROUNDS)
        .map(|_| {
            let ours = ticks_a_run(100, || ours(MESSAGES, 0, 0));
            let endpoint = ticks_a_run(20, || endpoint(MESSAGES));
            let turmoil = ticks_a_run(10, || turmoil(MESSAGES));
            [endpoint / ours, turmoil / ours]
        })
        .collect();
    for (column, name, goal) in [(0, "madsim endpoint", 5.0), (1, "turmoil", 12.0)] {
        rounds.sort_by(|a, b| a[column].total_cmp(&b[column]));
        let [least, middle, most] = [0, ROUNDS / 2, ROUNDS - 1].map(|at| rounds[at][column]);
        println!("message delivery: {middle:.1}x {name} ({least:.1} to {most:.1}; goal {goal})");
    }
}

fn message_delivery(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message delivery");
    group
        .throughput(Throughput::Elements(MESSAGES))
        .sample_size(10);
    group.bench_function("ordain", |bencher| bencher.iter(|| ours(MESSAGES, 0, 0)));
    group.bench_function("ordain, jitter and service time", |bencher| {
        bencher.iter(|| ours(MESSAGES, 1_000_000, 10_000));
    });
    group.bench_function("madsim endpoint", |bencher| {
        bencher.iter(|| endpoint(MESSAGES))
    });
    group.bench_function("turmoil", |bencher| bencher.iter(|| turmoil(MESSAGES)));
    group.finish();
}

fn empty_runs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a whole run in which nothing happens");
    for machines in [2, 30] {
        let environment = environment(machines, 0, 0);
        group.bench_with_input(
            BenchmarkId::new("machines", machines),
            &environment,
            |bencher, environment| {
                bencher.iter(|| {
                    let idle = Deployment::<Beater> {
                        processes: Vec::new(),
                    };
                    black_box(
                        simulate(Run::new(environment, idle, 1))
                            .expect("the inputs fit")
                            .digest,
                    )
                });
            },
        );
    }
    group.finish();
}

/// Resident memory of this process, in bytes; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

fn long_runs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("30 machines with heartbeats");
    group.sample_size(10);
    let beat = |seconds: u64| {
        let mut environment = environment(30, 0, 0);
        environment.safety_ns = seconds * 1_000_000_000;
        let deployment = Deployment {
            processes: vec![vec![Beater]; 30],
        };
        let record = simulate(Run::new(&environment, deployment, 1)).expect("the inputs fit");
        assert!(record.events > 2_500 * seconds);
    };
    beat(10);
    let before = resident_bytes();
    for seconds in [10, 100] {
        group.throughput(Throughput::Elements(seconds));
        group.bench_with_input(
            BenchmarkId::new("simulated seconds", seconds),
            &seconds,
            |bencher, seconds| {
                bencher.iter(|| beat(*seconds));
            },
        );
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "memory grew by {grown} bytes");
    group.finish();
}

criterion_group!(world, ratios, message_delivery, empty_runs, long_runs);
criterion_main!(world);
