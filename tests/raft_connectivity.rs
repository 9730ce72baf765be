//! Progress of Raft and Multi-Paxos while some links stay cut: live under every shape of connectivity that
//! [`ordain::consensus::Algorithm::live_under`] promises, after any history; and at the edge of that, the three scenarios of
//! Omni-Paxos (Ng, Haridi and Carbone, EuroSys 2023).

use crate::cluster::{Clock, Cluster, Draws, Loss, Mutant};
use crate::raft_random::{Action, action, options, run};
use ordain::consensus::connectivity::Shape;
use ordain::consensus::{Algorithm, Options};
use proptest::prelude::*;

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Raft, Algorithm::MultiPaxos];

/// Timers that fire before a leader has to be there: a dozen election timeouts of five replicas, with heartbeats.
const PATIENCE: usize = 600;
/// Commits in a row that make a leadership stable.
const COMMITS: u64 = 5;

/// Lets time pass, with a new command for every leader between two timers. Says how many of these commands
/// were committed before the patience of each was over.
fn commits(cluster: &mut Cluster, draws: &mut Draws) -> u64 {
    let mut clock = Clock::default();
    let first = 1_000_000;
    let (mut next, mut committed) = (first, 0);
    while committed < COMMITS {
        let known = cluster.facts.commands().len();
        let progressed = (0..PATIENCE).any(|_| {
            if !clock.fire_next(cluster, draws) {
                return false; // Nobody is up.
            }
            cluster.drain();
            let ours = |command: &u64| *command >= first;
            if cluster.facts.commands().iter().skip(known).any(ours) {
                return true;
            }
            for node in 0..cluster.size() {
                if cluster.leads(node) {
                    next += 1;
                    cluster.propose(node, next);
                }
            }
            cluster.drain();
            false
        });
        if !progressed {
            break;
        }
        committed += 1;
    }
    assert_eq!(cluster.facts.violation, None);
    committed
}

fn live(cluster: &mut Cluster, seed: u64) -> bool {
    commits(cluster, &mut Draws(seed)) == COMMITS
}

/// Only these links are left, both ways.
fn leave(cluster: &mut Cluster, links: &[(usize, usize)]) {
    let size = cluster.size();
    let linked = |a: usize, b: usize| links.contains(&(a, b)) || links.contains(&(b, a));
    for (from, cut) in cluster.cut.iter_mut().enumerate() {
        *cut = (0..size).map(|to| !linked(from, to)).collect();
    }
    cluster.drain();
}

/// `leader` leads, and everybody but those `behind` has three commands that it committed.
fn led_by(
    algorithm: Algorithm,
    size: usize,
    leader: usize,
    behind: &[usize],
    mutant: Option<Mutant>,
) -> Cluster {
    let options = Options {
        algorithm,
        ..Options::default()
    };
    let mut cluster = Cluster::new(size, options, mutant);
    cluster.fire_election(leader);
    cluster.drain();
    assert_eq!(cluster.leader(), Some(leader));
    behind.iter().for_each(|node| cluster.isolate(*node));
    for command in 1..=3 {
        cluster.propose(leader, command);
        cluster.drain();
    }
    assert_eq!(cluster.facts.commands(), [1, 2, 3]);
    cluster
}

/// All to the first one.
const STAR: [(usize, usize); 4] = [(0, 1), (0, 2), (0, 3), (0, 4)];

/// The leader keeps one link, to the only replica that still reaches a majority.
#[test]
fn after_a_loss_of_quorum_the_leader_gives_way_to_the_hub() {
    for algorithm in ALGORITHMS {
        let mut cluster = led_by(algorithm, 5, 2, &[], None);
        leave(&mut cluster, &STAR);
        assert!(live(&mut cluster, 1), "{algorithm:?}");
        assert_eq!(cluster.leader(), Some(0), "{algorithm:?}");
    }
}

/// The only replica that reaches a majority lacks what the others have.
#[test]
fn a_constrained_election_stops_raft_and_not_multi_paxos() {
    let constrained = |algorithm| {
        let mut cluster = led_by(algorithm, 5, 2, &[0], None);
        leave(&mut cluster, &[(0, 1), (0, 3), (0, 4)]);
        cluster
    };
    let mut paxos = constrained(Algorithm::MultiPaxos);
    assert!(live(&mut paxos, 1));
    assert_eq!(paxos.leader(), Some(0));
    let mut raft = constrained(Algorithm::Raft);
    assert_eq!(commits(&mut raft, &mut Draws(1)), 0);
    // One more link, and three all reach one another.
    raft.cut[1][3] = false;
    raft.cut[3][1] = false;
    assert!(live(&mut raft, 2));
}

/// The leader and another replica have lost one another; the third reaches both.
#[test]
fn in_a_chain_the_leader_stays() {
    for algorithm in ALGORITHMS {
        let mut cluster = led_by(algorithm, 3, 2, &[], None);
        leave(&mut cluster, &[(0, 1), (0, 2)]);
        let term = cluster.machines[2].replica.as_ref().map(|r| r.term());
        assert!(live(&mut cluster, 1), "{algorithm:?}");
        let leads = cluster.machines[2].replica.as_ref();
        assert_eq!(
            leads.filter(|r| r.is_leader()).map(|r| r.term()),
            term,
            "{algorithm:?}"
        );
    }
}

/// What these tests would say of a leader that goes on whether or not anybody answers it.
#[test]
fn a_leader_that_never_steps_down_is_noticed_in_a_loss_of_quorum() {
    for algorithm in ALGORITHMS {
        let mut cluster = led_by(algorithm, 5, 2, &[], Some(Mutant::NeverStepsDown));
        leave(&mut cluster, &STAR);
        assert!(!live(&mut cluster, 1), "{algorithm:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// After whatever has happened, some links stay cut, some of them one way, and some machines stay down.
    #[test]
    fn after_any_history_the_log_is_live_under_every_shape_that_its_algorithm_promises(
        size in 3usize..=5,
        schedule in prop::collection::vec(action(), 0..400),
        down in prop::collection::vec(prop::bool::weighted(0.1), 5),
        cut in prop::collection::vec(prop::bool::weighted(0.3), 25),
        both_ways in any::<bool>(),
        seed in 1u64..,
        algorithm in prop_oneof![Just(Algorithm::Raft), Just(Algorithm::MultiPaxos)],
    ) {
        let schedule: Vec<Action> = schedule;
        let mut cluster = Cluster::new(size, options(algorithm), None);
        prop_assert_eq!(run(&mut cluster, &schedule), Ok(()));
        let is_cut = |from: usize, to: usize| match both_ways {
            true => cut[5 * from.min(to) + from.max(to)],
            false => cut[5 * from + to],
        };
        for (node, is_down) in down.iter().enumerate().take(size) {
            cluster.cut[node] = (0..size).map(|to| is_cut(node, to)).collect();
            match is_down {
                true => cluster.crash(node, Loss::Lost),
                false => cluster.boot(node),
            }
        }
        cluster.drain(); // What was under way arrives, and counts as said before.
        let shape = Shape::of(size, |a, b| !down[a] && !down[b] && (a == b || !is_cut(a, b)));
        let committed = commits(&mut cluster, &mut Draws(seed));
        if algorithm.live_under(shape) {
            prop_assert_eq!(committed, COMMITS, "{:?}", shape);
        }
        if shape == Shape::Scattered {
            prop_assert_eq!(committed, 0);
        }
    }
}
