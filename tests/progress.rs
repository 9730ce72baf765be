//! The promise of progress, judged on runs told by hand: what it must reject, and near misses that it must accept.

use crate::scenarios::shipped;
use ordain::base::observation::{AbortReason, Observation, Observed, Outcome};
use ordain::base::options::Number;
use ordain::base::process::{Addr, NodeId};
use ordain::base::txn::{Key, ShardId, Target, TxnId};
use ordain::consensus::{self, Algorithm};
use ordain::fault::{CrashLoss, Fault, FaultKind, When};
use ordain::plan::Plan;
use ordain::protocol::calvin::{self, Calvin, Sequencers};
use ordain::protocol::paxos_commit::{self, PaxosCommit};
use ordain::protocol::promises::Assumption;
use ordain::protocol::saga::Saga;
use ordain::protocol::two_phase::TwoPhase;
use ordain::protocol::{Progress, Promise, Promises, Protocol};
use ordain::run;
use ordain::scenario::Scenario;
use ordain::verdict::{
    self, Conclusion, Evidence, Finding, Property, Status, VacuityKind, Verdict,
};

const SECOND: u64 = 1_000_000_000;

/// A run of the settlement scenario: three regions, two shards of equities (frankfurt, london), two of derivatives
/// (london, newyork).
struct Told {
    scenario: Scenario,
    plan: Plan,
    observations: Vec<Observed>,
}

impl Told {
    fn new() -> Told {
        let scenario = shipped("settlement", &[]);
        let mut plan = Plan::draw(&scenario, 1);
        plan.faults.clear();
        // The first operation commits, so that the run as a whole did some work.
        plan.operations.retain(|op| op.txn.effects.len() == 4);
        plan.operations.truncate(6);
        for (at, operation) in plan.operations.iter_mut().enumerate() {
            operation.region = 0;
            // Equities of frankfurt and derivatives of london, rows of its own for each.
            let rows: [(u8, u32); 4] = [(0, 0), (0, 2), (1, 0), (1, 2)];
            for (effect, (table, row)) in operation.txn.effects.iter_mut().zip(rows) {
                effect.target = Target::Key(key(table, row + 4 * at as u32));
            }
            operation.txn.guards.clear();
            operation.txn.reads.clear();
        }
        let told = Told {
            scenario,
            plan,
            observations: Vec::new(),
        };
        told.asked(0, SECOND)
            .initiated(0)
            .ended(0)
            .returned(0, committed())
    }

    fn txn(&self, at: usize) -> TxnId {
        self.plan.operations[at].txn.id
    }

    fn client(&self, region: usize) -> NodeId {
        self.scenario.layout.regions[region].client
    }

    fn front(&self, region: usize) -> NodeId {
        self.scenario.layout.regions[region].fronts[0]
    }

    fn home(&self, shard: u16) -> NodeId {
        self.scenario.layout.home(ShardId(shard))
    }

    fn say(mut self, at_ns: u64, what: Observation) -> Told {
        let at_ns = at_ns.max(self.observations.last().map_or(0, |last| last.at_ns));
        let by = Addr {
            node: NodeId(0),
            port: 0,
        };
        self.observations.push(Observed { at_ns, by, what });
        self
    }

    fn asked(self, at: usize, at_ns: u64) -> Told {
        let txn = self.txn(at);
        let session = at as u32;
        self.say(at_ns, Observation::Invoked { txn, session })
    }

    fn initiated(self, at: usize) -> Told {
        let txn = self.txn(at);
        self.say(0, Observation::Initiated { txn })
    }

    fn voted(self, at: usize) -> Told {
        let (txn, shard, yes) = (self.txn(at), ShardId(0), true);
        self.say(0, Observation::Voted { txn, shard, yes })
    }

    fn ended(self, at: usize) -> Told {
        let (txn, commit) = (self.txn(at), true);
        self.say(0, Observation::Ended { txn, commit })
    }

    fn returned(self, at: usize, outcome: Outcome) -> Told {
        self.returned_at(at, 0, outcome)
    }

    fn returned_at(self, at: usize, at_ns: u64, outcome: Outcome) -> Told {
        let txn = self.txn(at);
        let session = at as u32;
        let what = Observation::Returned {
            txn,
            session,
            outcome,
        };
        self.say(at_ns, what)
    }

    fn for_ever(mut self, kind: FaultKind) -> Told {
        self.plan.faults.push(Fault {
            when: When::At(2 * SECOND),
            for_ns: None,
            permanent: true,
            kind,
        });
        self
    }

    fn judge<P: Protocol>(&self, options: &P::Options) -> Verdict {
        // Nothing else is asked: no ledger is told of, so that nothing stands.
        let progress = Promise::Progress(P::promises(options).progress());
        self.judge_by::<P>(options, &Promises::of([progress]))
    }

    fn judge_by<P: Protocol>(&self, options: &P::Options, promises: &Promises) -> Verdict {
        let needs = run::needs::<P>(&self.scenario, &self.plan, options);
        let end_ns = self.plan.environment.safety_ns + self.plan.environment.settle_ns;
        verdict::judge(&Evidence {
            scenario: &self.scenario,
            plan: &self.plan,
            promises,
            entry: P::ENTRY,
            clock_lies: &[],
            requests_delivered: 1,
            events: 1,
            needs: &needs,
            observations: &self.observations,
            states: &[],
            unrecovered: &Default::default(),
            end_ns,
            monitored: &[],
            log_tests: 0,
            refinement: Err("told by hand"),
            log_refinement: None,
            panics: &[],
            struck: &[],
        })
    }

    fn two_phase(&self) -> Property {
        progress(&self.judge::<TwoPhase>(&Default::default()))
    }

    fn paxos_commit(&self, tolerated: u64) -> Property {
        let options = paxos_commit::Options {
            tolerated: Number::new(tolerated),
            ..Default::default()
        };
        progress(&self.judge::<PaxosCommit>(&options))
    }

    fn saga(&self) -> Property {
        progress(&self.judge::<Saga>(&Default::default()))
    }

    fn calvin(&self, sequencers: Sequencers) -> Property {
        self.calvin_over(Algorithm::Raft, sequencers)
    }

    fn calvin_over(&self, algorithm: Algorithm, sequencers: Sequencers) -> Property {
        let log = consensus::Options {
            algorithm,
            ..consensus::Options::default()
        };
        let options = calvin::Options {
            sequencers,
            log,
            ..calvin::Options::default()
        };
        progress(&self.judge::<Calvin>(&options))
    }

    /// Under every protocol that promises progress.
    fn all(&self) -> [Property; 5] {
        [
            self.two_phase(),
            self.paxos_commit(1),
            self.saga(),
            self.calvin(Sequencers::OneGroup),
            self.calvin(Sequencers::GroupPerRegion),
        ]
    }
}

fn key(table: u8, row: u32) -> Key {
    let table = ordain::base::txn::TableId(table);
    Key { table, row }
}

fn committed() -> Outcome {
    Outcome::Committed { reads: Vec::new() }
}

fn progress(verdict: &Verdict) -> Property {
    let mut properties = verdict.properties.iter();
    let found = properties.find(|property| property.name == "progress");
    found.expect("it is judged").clone()
}

fn assert_broken(property: &Property, shape: &str) {
    assert_eq!(property.outcome, Finding::Broken, "{property:?}");
    assert_eq!(property.shape.as_deref(), Some(shape), "{property:?}");
}

/// Nothing owed is missing; with nothing owed at all, the property is vacuous.
fn assert_held(property: &Property, exercised: u64, word: &str) {
    let outcome = match exercised {
        0 => Finding::Vacuous,
        _ => Finding::Held,
    };
    let found = (property.outcome, property.exercised);
    assert_eq!(found, (outcome, exercised), "{property:?}");
    assert!(property.observed.contains(word), "{property:?}");
}

fn crash(node: NodeId) -> FaultKind {
    let (nodes, loss) = (vec![node], CrashLoss::Lost);
    FaultKind::Crash { nodes, loss }
}

fn cut(from: &[NodeId], to: &[NodeId], both_ways: bool) -> FaultKind {
    FaultKind::Cut {
        from: from.to_vec(),
        to: to.to_vec(),
        both_ways,
    }
}

// What it must reject.

#[test]
fn a_request_that_nobody_heard_of_is_owed_an_answer() {
    for property in Told::new().asked(1, SECOND).all() {
        assert_broken(&property, "never-answered");
        assert_eq!(property.instances, 1);
        assert!(
            property.observed.contains("of 2 owed, 1 clients wait"),
            "{property:?}"
        );
    }
}

#[test]
fn a_transaction_that_ended_without_an_answer_is_owed_one() {
    for property in Told::new().asked(1, SECOND).initiated(1).ended(1).all() {
        assert_broken(&property, "never-answered");
    }
}

#[test]
fn a_transaction_that_was_begun_is_owed_an_end() {
    for property in Told::new().asked(1, SECOND).initiated(1).all() {
        assert_broken(&property, "never-ended");
    }
}

#[test]
fn doubt_is_owed_an_end_although_the_client_gave_up() {
    let told = Told::new().asked(1, SECOND).initiated(1).voted(1);
    for property in told.returned(1, Outcome::Unknown).all() {
        assert_broken(&property, "never-ended");
        assert!(
            property
                .observed
                .contains("0 clients wait and 1 transactions")
        );
    }
}

// Near misses.

#[test]
fn an_answer_just_in_time_is_in_time() {
    let last = Told::new().plan.environment;
    let last = last.safety_ns + last.settle_ns;
    let told = Told::new().asked(1, SECOND).initiated(1).ended(1);
    let refused = Outcome::Aborted {
        why: AbortReason::Timeout,
    };
    for property in told.returned_at(1, last, refused).all() {
        assert_held(&property, 2, "2 of 2 owed returned and ended");
    }
}

#[test]
fn a_client_that_gave_up_is_owed_nothing_by_a_coordinator_that_forgot_its_request() {
    let told = Told::new().asked(1, SECOND).initiated(1);
    for property in told.returned(1, Outcome::Unknown).all() {
        assert_held(&property, 1, "1 did not: its client gave up");
    }
}

#[test]
fn a_request_sent_after_healing_has_less_than_the_bound() {
    let healed_ns = Told::new().plan.environment.safety_ns;
    for property in Told::new().asked(1, healed_ns + 1).all() {
        assert_held(&property, 1, "1 did not: sent after healing");
    }
    for property in Told::new().asked(1, healed_ns).all() {
        assert_broken(&property, "never-answered");
    }
}

#[test]
fn participants_that_stay_broken_block_as_promised_and_only_those_that_need_them() {
    // The home of the equities that every operation needs, and a copy that none needs.
    let told = || Told::new().asked(1, SECOND).initiated(1);
    let (needed, other) = (told().home(0), told().home(3));
    let blocked = told().for_ever(crash(needed));
    assert_held(
        &blocked.two_phase(),
        0,
        "while frankfurt/equities0 stays broken",
    );
    assert_held(&blocked.saga(), 0, "while frankfurt/equities0 stays broken");
    assert_broken(&blocked.calvin(Sequencers::OneGroup), "never-ended");
    let elsewhere = told().for_ever(crash(other));
    for property in elsewhere.all() {
        assert_broken(&property, "never-ended");
    }
}

#[test]
fn a_cut_that_lasts_blocks_from_whichever_side_it_is_named_and_in_one_direction_too() {
    let told = || Told::new().asked(1, SECOND).initiated(1);
    let (initiator, participant) = (told().home(0), told().home(2));
    let manager = told().front(0);
    for (from, to, both_ways) in [
        (initiator, participant, true),
        (participant, initiator, true),
        (initiator, participant, false),
        (participant, initiator, false),
        (manager, participant, false),
        (participant, manager, true),
    ] {
        let apart = told().for_ever(cut(&[from], &[to], both_ways));
        assert_held(&apart.two_phase(), 0, "stay apart");
        // The shards of a saga do not talk to one another.
        match [from, to].contains(&manager) {
            true => assert_held(&apart.saga(), 0, "stay apart"),
            false => assert_broken(&apart.saga(), "never-ended"),
        }
    }
}

#[test]
fn a_quorum_that_is_left_owes_what_a_missing_one_excuses() {
    let told = || Told::new().asked(1, SECOND).initiated(1);
    let [first, second, third] = [0, 1, 2].map(|region| told().front(region));
    let participant = told().home(2);
    // One of three acceptors: the leader's, another one, or one that does not hear a participant.
    for fault in [
        crash(first),
        crash(third),
        cut(&[participant], &[second], false),
    ] {
        let told = told().for_ever(fault);
        assert_broken(&told.paxos_commit(1), "never-ended");
    }
    assert_held(
        &told().for_ever(crash(first)).two_phase(),
        0,
        "stays broken",
    );
    assert_held(
        &told().for_ever(crash(first)).paxos_commit(0),
        0,
        "while frankfurt/front0 stays broken",
    );
    // Two that do not hear one another leave no quorum with the third down.
    let apart = told().for_ever(crash(third));
    let apart = apart.for_ever(cut(&[first], &[second], false));
    assert_held(&apart.paxos_commit(1), 0, "promised to block while");
    let two_down = told().for_ever(crash(first)).for_ever(crash(third));
    assert_held(&two_down.paxos_commit(1), 0, "stays broken");
    let blocked = told().for_ever(crash(participant));
    assert_held(&blocked.paxos_commit(1), 0, "stays broken");
}

#[test]
fn who_waits_behind_a_transaction_that_may_block_for_ever_may_block_too() {
    // The last operation needs what is broken; each of the others shares a row with the next one, but for the first two.
    let mut told = Told::new()
        .asked(1, SECOND)
        .asked(2, SECOND)
        .asked(3, SECOND)
        .asked(4, SECOND);
    let last = &mut told.plan.operations[4].txn;
    last.effects[3].target = Target::Key(key(1, 1));
    for at in 2..4 {
        let shared = Target::Key(key(0, 100 + 4 * at as u32));
        told.plan.operations[at].txn.effects[0].target = shared;
        told.plan.operations[at + 1].txn.effects[1].target = shared;
    }
    let broken = told.home(3);
    let told = told.for_ever(crash(broken));
    for property in [told.two_phase(), told.saga()] {
        assert_broken(&property, "never-answered");
        assert_eq!(
            (property.instances, property.exercised),
            (1, 2),
            "{property:?}"
        );
        assert!(
            property
                .observed
                .contains("2 did not: promised to block behind"),
            "{property:?}"
        );
    }
}

#[test]
fn a_client_that_stays_cut_off_is_owed_no_answer_and_its_transaction_an_end() {
    let told = || Told::new().asked(1, SECOND);
    let client = told().client(0);
    let others: Vec<NodeId> = (0..told().scenario.layout.nodes).map(NodeId).collect();
    let others: Vec<NodeId> = others.into_iter().filter(|node| *node != client).collect();
    for property in told().for_ever(cut(&[client], &others, true)).all() {
        assert_held(&property, 1, "1 did not");
    }
    for property in told()
        .initiated(1)
        .for_ever(cut(&others, &[client], false))
        .all()
    {
        assert_broken(&property, "never-ended");
    }
}

// The shape of a majority.

#[test]
fn two_of_three_that_reach_one_another_owe_progress_and_a_hub_alone_does_not() {
    let told = || Told::new().asked(1, SECOND).initiated(1);
    let [a, b, c] = [0, 1, 2].map(|region| told().front(region));
    for sequencers in [Sequencers::OneGroup, Sequencers::GroupPerRegion] {
        let minority = told().for_ever(cut(&[a], &[b, c], true));
        assert_broken(&minority.calvin(sequencers), "never-ended");
        let shattered = told().for_ever(cut(&[a], &[b, c], true)).for_ever(crash(b));
        assert_held(
            &shattered.calvin(sequencers),
            0,
            "no replica of the log reaches a majority",
        );
        let one_way = told()
            .for_ever(cut(&[a], &[b, c], false))
            .for_ever(cut(&[b], &[c], false));
        assert_held(
            &one_way.calvin(sequencers),
            0,
            "no replica of the log reaches a majority",
        );
    }
    // Of five, all reach one and nothing else: who leads depends on the log.
    let mut star = told();
    let zones = [("region.0.zones", "2"), ("region.1.zones", "2")];
    star.scenario = shipped("settlement", &zones);
    let plan = Plan::draw(&star.scenario, 1);
    (star.plan.environment, star.plan.faults) = (plan.environment, Vec::new());
    let fronts: Vec<NodeId> = star.scenario.layout.fronts().collect();
    for at in 1..fronts.len() - 1 {
        star = star.for_ever(cut(&fronts[at..=at], &fronts[at + 1..], true));
    }
    let raft = star.calvin(Sequencers::OneGroup);
    assert_held(
        &raft,
        0,
        "no majority of the log's replicas all reach one another",
    );
    let paxos = star.calvin_over(Algorithm::MultiPaxos, Sequencers::OneGroup);
    assert_broken(&paxos, "never-ended");
    // a - b - c: a and b are a majority, and so are b and c, of which each may lead.
    let chain = told().for_ever(cut(&[a], &[c], true));
    assert_broken(&chain.calvin(Sequencers::OneGroup), "never-ended");
    let merged = chain.calvin(Sequencers::GroupPerRegion);
    assert_held(&merged, 0, "may not reach one another");
}

#[test]
fn somebody_who_hears_whichever_replica_leads_has_to_serve_the_client() {
    let told = || Told::new().asked(1, SECOND);
    let client = told().client(0);
    let region = |region: usize| {
        let told = told();
        let machines = &told.scenario.layout.regions[region];
        [machines.fronts.as_slice(), machines.data.as_slice()].concat()
    };
    let calvin = |told: &Told| told.calvin(Sequencers::OneGroup);
    // London and New York are out of the client's reach, frankfurt has all that it needs.
    let far = [region(1), region(2)].concat();
    let near = told().for_ever(cut(&[client], &far, true));
    assert_broken(&calvin(&near), "never-answered");
    // Frankfurt lacks a copy.
    let lacking = told().for_ever(crash(told().scenario.layout.regions[0].data[3]));
    assert_broken(&calvin(&lacking), "never-answered");
    let lacking = lacking.for_ever(cut(&[client], &far, true));
    assert_held(
        &calvin(&lacking),
        1,
        "does not reach a region that could serve it",
    );
    // No region has all copies.
    let mut nowhere = told();
    for region in 0..3 {
        let copy = nowhere.scenario.layout.regions[region].data[region];
        nowhere = nowhere.for_ever(crash(copy));
    }
    assert_held(&calvin(&nowhere), 0, "no region has all of its copies");
}

#[test]
fn a_promise_that_no_request_could_test_makes_the_run_vacuous() {
    let told = || Told::new().asked(1, SECOND);
    let fronts = [0, 1, 2].map(|region| told().front(region));
    let gone = told().for_ever(crash(fronts[0])).for_ever(crash(fronts[1]));
    let verdict = gone.judge::<Calvin>(&Default::default());
    assert_eq!(verdict.verdict, Conclusion::Vacuous, "{verdict:?}");
    let reason = verdict.vacuity.expect("a reason").reason;
    assert!(
        reason.starts_with("progress was not put to the test: nothing was owed"),
        "{reason}"
    );
    let healed = told()
        .returned(1, committed())
        .judge::<Calvin>(&Default::default());
    assert_eq!(healed.verdict, Conclusion::Kept, "{healed:?}");
}

#[test]
fn what_hangs_on_an_assumption_is_not_owed_where_the_plan_broke_it_and_the_rest_is() {
    let waits = || Told::new().asked(1, 2 * SECOND).initiated(1);
    let owed = Promises::of([Promise::Progress(Progress::AllBack)]);
    let within_ns = 2 * SECOND;
    let hanging = owed.assuming(Assumption::Synchrony { within_ns });
    let judge = |told: &Told, promises: &Promises| {
        let verdict = told.judge_by::<TwoPhase>(&Default::default(), promises);
        (verdict.verdict, verdict)
    };
    // A crash is no breach.
    let mut told = waits();
    let fault = |kind| Fault {
        when: When::At(SECOND),
        for_ns: Some(3 * SECOND),
        permanent: false,
        kind,
    };
    told.plan.faults = vec![fault(crash(told.home(0)))];
    told.plan
        .environment
        .link_classes
        .iter_mut()
        .for_each(|link| link.loss_ppm = 0);
    assert_eq!(judge(&told, &hanging).0, Conclusion::Violation);
    // A pause is: then the run shows nothing, and says why.
    let nodes = vec![told.home(0)];
    told.plan.faults = vec![fault(FaultKind::Pause { nodes })];
    let (conclusion, verdict) = judge(&told, &hanging);
    assert_eq!(conclusion, Conclusion::Vacuous);
    let vacuity = verdict.vacuity.as_ref().expect("it is vacuous");
    assert_eq!(vacuity.kind, VacuityKind::OutsideAssumptions);
    assert!(vacuity.reason.ends_with("paused"), "{}", vacuity.reason);
    let property = progress(&verdict);
    assert_eq!(
        (property.outcome, property.status),
        (Finding::Broken, Status::NotPromised)
    );
    assert!(property.released.is_some() && !property.is_promised());
    // What hangs on nothing is owed all the same.
    let both = hanging.and(Promise::Durability);
    assert_eq!(
        judge(&told, &both).0,
        Conclusion::Violation,
        "nothing stands"
    );
}
