//! Raft and Multi-Paxos as text: each `tests/raft/*.txt` is a list of commands, and the snapshot beside it shows what the replicas
//! did after each, in the manner of etcd's `raft/testdata`.
//!
//! | Command | What happens |
//! |---|---|
//! | `cluster N [paxos] [batch=B] [window=W]` | N replicas boot on empty disks |
//! | `election nI`, `heartbeat nI` | the timer fires |
//! | `deliver nI nJ` | what is under way from I to J now arrives; `*` is any replica |
//! | `drop nI nJ` | what is under way from I to J is lost |
//! | `flush nI` | the flush under way completes; `*`: one at each replica that has one |
//! | `stabilize` | messages arrive and flushes complete until nothing is under way |
//! | `propose nI C`, `read nI`, `compact nI` | the host's calls |
//! | `crash nI lost\|kept`, `boot nI` | unflushed bytes are lost or kept |
//! | `cut nI nJ`, `isolate nI`, `heal` | messages sent from now on are lost, or no longer |
//! | `logs` | prints every replica's role, log and commit index |
//!
//! `quiet` before a command hides its output.

use crate::cluster::{Cluster, Loss};
use ordain::base::options::Number;
use ordain::consensus::{Algorithm, Options};

fn play(script: &str) -> String {
    let mut cluster: Option<Cluster> = None;
    let mut text = String::new();
    for line in script.lines() {
        text.push_str(line);
        text.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (quiet, command) = match line.strip_prefix("quiet ") {
            Some(command) => (true, command),
            None => (false, line),
        };
        let words: Vec<&str> = command.split(' ').collect();
        if words[0] == "cluster" {
            cluster = Some(start(&words[1..]));
            continue;
        }
        let cluster = cluster.as_mut().expect("`cluster` comes first");
        cluster.transcript.clear();
        obey(cluster, &words);
        for said in cluster.transcript.drain(..).filter(|_| !quiet) {
            text.push_str("    ");
            text.push_str(&said);
            text.push('\n');
        }
        assert_eq!(cluster.facts.violation, None);
    }
    text
}

fn start(words: &[&str]) -> Cluster {
    let mut options = Options::default();
    for word in &words[1..] {
        match word.split_once('=') {
            Some(("batch", most)) => options.max_batch = Number::new(most.parse().unwrap()),
            Some(("window", most)) => options.max_in_flight = Number::new(most.parse().unwrap()),
            None if *word == "paxos" => options.algorithm = Algorithm::MultiPaxos,
            _ => panic!("{word}?"),
        }
    }
    Cluster::new(words[0].parse().unwrap(), options, None)
}

fn obey(cluster: &mut Cluster, words: &[&str]) {
    let node = |at: usize| -> Option<usize> { words[at].strip_prefix('n')?.parse().ok() };
    let one = |at: usize| node(at).expect("a replica: n0, n1, ...");
    let size = cluster.size();
    match words[0] {
        "election" => {
            cluster.fire_election(one(1));
        }
        "heartbeat" => {
            cluster.fire_heartbeat(one(1));
        }
        "deliver" => {
            let count = cluster.under_way(node(1), node(2)).len();
            for _ in 0..count {
                cluster.deliver(cluster.under_way(node(1), node(2))[0]);
            }
        }
        "drop" => {
            let under_way = cluster.under_way(node(1), node(2));
            under_way.into_iter().rev().for_each(|at| {
                cluster.network.remove(at);
            });
        }
        "flush" if words[1] == "*" => (0..size).for_each(|node| {
            cluster.complete_flush(node);
        }),
        "flush" => assert!(cluster.complete_flush(one(1)), "none under way"),
        "stabilize" => cluster.drain(),
        "propose" => {
            cluster.propose(one(1), words[2].parse().unwrap());
        }
        "read" => cluster.read(one(1)),
        "compact" => cluster.compact(one(1)),
        "crash" if words[2] == "lost" => cluster.crash(one(1), Loss::Lost),
        "crash" => cluster.crash(one(1), Loss::Kept),
        "boot" => cluster.boot(one(1)),
        "cut" => cluster.cut[one(1)][one(2)] = true,
        "isolate" => cluster.isolate(one(1)),
        "heal" => cluster.cut = vec![vec![false; size]; size],
        "logs" => cluster.say_logs(),
        unknown => panic!("{unknown}?"),
    }
}

macro_rules! interactions {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            let text = play(include_str!(concat!("raft/", stringify!($name), ".txt")));
            insta::with_settings!({ snapshot_path => "raft", prepend_module_to_snapshot => false, omit_expression => true }, {
                insta::assert_snapshot!(stringify!($name), text);
            });
        }
    )*};
}

interactions!(
    an_election_waits_for_its_own_vote_to_be_on_disk,
    a_replica_that_was_cut_off_does_not_disturb_with_its_term,
    a_conflict_is_backed_up_one_term_at_a_time,
    an_entry_of_an_old_term_is_not_committed_by_counting,
    a_laggard_gets_the_snapshot,
    a_read_waits_for_a_round_of_heartbeats,
    nothing_is_acknowledged_before_it_is_flushed,
    batches_follow_one_another_without_waiting,
    a_new_paxos_leader_proposes_again_what_may_have_been_chosen,
    a_value_of_a_deposed_paxos_leader_is_dropped_behind_those_of_its_successor,
);
