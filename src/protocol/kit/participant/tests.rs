//! The smallest commitment protocol on top of the kit: the initiator coordinates its own transactions, as in centralised two-phase
//! commit with the coordinator's log among the initiator's. It has a record of its own, and blocks as long as the initiator is
//! down.

use super::*;
use crate::base::observation::Observation;
use crate::base::options::{Millis, declare};
use crate::base::txn::Value;
use crate::plan::PlannedOperation;
use crate::protocol::kit::client::{ClientTimer, Patience};
use crate::protocol::kit::deploy::home_key;
use crate::protocol::kit::node::{Node, carries_client, carries_execution};
use crate::protocol::kit::votes::{Tally, Votes};
use crate::protocol::testing::*;
use crate::protocol::{Deployment, Promises, Protocol};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Message {
    Client(ClientMessage),
    Execution(execution::Message),
    Prepare { txn: TxnId, part: Part },
    Prepared { txn: TxnId, shard: ShardId },
    No { txn: TxnId },
    Commit { txn: TxnId },
    Abort { txn: TxnId },
    Ack,
    Inquiry { txn: TxnId },
    Restarted { shard: ShardId, boot: u64 },
}

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Client(message) => message.label(),
            Message::Execution(message) => message.label(),
            Message::Prepare { .. } => "prepare",
            Message::Prepared { .. } => "prepared",
            Message::No { .. } => "no",
            Message::Commit { .. } => "commit",
            Message::Abort { .. } => "abort",
            Message::Ack => "ack",
            Message::Inquiry { .. } => "inquiry",
            Message::Restarted { .. } => "restarted",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Timer {
    Client(ClientTimer),
    Execution(execution::Timer),
    Inquire(TxnId),
}

carries_client!(Message, Timer);
carries_execution!(Message, Timer);

declare! {
    /// Options.
    pub struct Options {
        /// Whether a transaction with one participant commits there.
        one_participant: bool = false,
        /// How often somebody in doubt asks.
        inquiry_ms: Millis = Millis::new(50),
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Site {
    layout: Layout,
    options: Options,
    execution: execution::Options,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Member {
    site: Arc<Site>,
    /// The votes of others, at the initiator.
    votes: BTreeMap<TxnId, Votes<ShardId>>,
    /// What this initiator has decided to commit, durably.
    decided: BTreeSet<TxnId>,
}

type Server = Participant<Member>;
type Outputs = Effects<Message, Timer>;

impl Commitment for Member {
    type Message = Message;
    type Timer = Timer;
    type Vote = ();
    type Start = Vec<Part>;
    type Record = TxnId;
    type Checkpoint = BTreeSet<TxnId>;
    type Continuation = TxnId;

    const MARKS: Marks = participant_marks!("smallest");

    fn setting(&self) -> Setting<'_> {
        Setting {
            layout: &self.site.layout,
            execution: &self.site.execution,
            one_participant: self.site.options.one_participant,
        }
    }

    fn no(txn: TxnId, _: ShardId) -> Message {
        Message::No { txn }
    }

    fn ack(_: TxnId, _: ShardId) -> Message {
        Message::Ack
    }

    fn announce(&self, shard: ShardId, boot: u64, out: &mut Outputs) {
        for other in self.site.layout.shard_ids() {
            let to = execution::participant(&self.site.layout, other);
            out.send(to, Message::Restarted { shard, boot });
        }
    }

    fn inquiry(txn: TxnId) -> Timer {
        Timer::Inquire(txn)
    }

    fn begin(_: &Server, _: TxnId, parts: Vec<Part>) -> ((), Vec<Part>) {
        ((), parts)
    }

    fn coordinator(vote: &Vote<Self>) -> Addr {
        vote.initiator
    }

    fn members(vote: &Vote<Self>) -> BTreeSet<ShardId> {
        let parts = vote.origin.iter().flat_map(|origin| &origin.start);
        parts.map(|part| part.shard).collect()
    }

    fn cast(this: &mut Server, vote: &Arc<Vote<Self>>, out: &mut Outputs) {
        let (txn, shard) = (vote.txn, this.shard);
        out.set_timer(
            Timer::Inquire(txn),
            this.own.site.options.inquiry_ms.about(),
        );
        let Some(origin) = &vote.origin else {
            return out.send(vote.initiator, Message::Prepared { txn, shard });
        };
        let others = { Self::members(vote).into_iter() }.filter(|other| *other != shard);
        let votes = this.own.votes.entry(txn);
        let votes = votes.or_insert_with(|| Votes::of_all(others)).clone();
        for part in { origin.start.iter() }.filter(|part| votes.misses(part.shard)) {
            let to = execution::participant(&this.own.site.layout, part.shard);
            let part = part.clone();
            out.send(to, Message::Prepare { txn, part });
        }
        this.decide(txn, votes.tally(), out);
    }

    fn on_message(
        this: &mut Server,
        now: WallTime,
        from: Addr,
        message: Message,
        out: &mut Outputs,
    ) {
        match message {
            Message::Client(message) => this.on_client(now, from, message, out),
            Message::Execution(message) => this.on_execution(now, from, message, out),
            Message::Prepare { txn, part } => this.prepare(from, txn, &part, (), out),
            Message::Prepared { txn, shard } => {
                if let Some(votes) = this.own.votes.get_mut(&txn) {
                    let tally = votes.record(shard, true);
                    this.decide(txn, tally, out);
                }
            }
            Message::No { txn } => this.decide(txn, Tally::Refused, out),
            Message::Commit { txn } => this.commit(from, txn, out),
            Message::Abort { txn } => this.abort(txn, AbortReason::Presumed, out),
            Message::Ack => {}
            Message::Inquiry { txn } if this.own.decided.contains(&txn) => {
                out.send(from, Message::Commit { txn });
            }
            Message::Inquiry { txn } if this.phase(txn).is_none() => {
                out.send(from, Message::Abort { txn });
            }
            Message::Inquiry { .. } => {}
            Message::Restarted { shard, boot } => this.on_restarted(from, shard, boot, out),
        }
    }

    fn on_timer(this: &mut Server, timer: Timer, out: &mut Outputs) {
        match timer {
            Timer::Execution(timer) => this.on_execution_timer(timer, out),
            Timer::Inquire(txn) => match this.in_doubt(txn) {
                Some(vote) if vote.origin.is_none() => {
                    out.send(vote.initiator, Message::Inquiry { txn });
                    let again = this.own.site.options.inquiry_ms.about();
                    out.set_timer(Timer::Inquire(txn), again);
                }
                Some(vote) => Self::cast(this, &vote, out),
                None => {}
            },
            Timer::Client(_) => unreachable!("it is for a client"),
        }
    }

    fn on_forget(&mut self, txn: TxnId, _: &mut Outputs) {
        self.votes.remove(&txn);
    }

    fn on_recovered(this: &mut Server, out: &mut Outputs) {
        let decided = { this.voted() }.filter(|txn| this.own.decided.contains(txn));
        for txn in decided.collect::<Vec<_>>() {
            Self::on_durable(this, txn, out);
        }
    }

    fn replay(this: &mut Server, txn: TxnId) {
        this.own.decided.insert(txn);
    }

    fn checkpoint(&self) -> BTreeSet<TxnId> {
        self.decided.clone()
    }

    fn restore(&mut self, decided: BTreeSet<TxnId>) {
        self.decided = decided;
    }

    fn on_durable(this: &mut Server, txn: TxnId, out: &mut Outputs) {
        let commit = true;
        this.own.decided.insert(txn);
        out.observe(Observation::Decided { txn, commit });
        if let Some(vote) = this.in_doubt(txn) {
            for shard in { Self::members(&vote).into_iter() }.filter(|shard| *shard != this.shard) {
                let to = execution::participant(&this.own.site.layout, shard);
                out.send(to, Message::Commit { txn });
            }
            this.commit(this.me, txn, out);
        }
        out.observe(Observation::Ended { txn, commit });
    }

    fn on_lost(this: &mut Server, txn: TxnId, _: &mut Outputs) {
        this.force(txn, txn);
    }
}

impl Server {
    fn decide(&mut self, txn: TxnId, tally: Tally, out: &mut Outputs) {
        match (tally, self.in_doubt(txn)) {
            (Tally::Accepted, Some(_)) if self.own.votes.remove(&txn).is_some() => {
                self.force(txn, txn);
            }
            // Once the votes are in, an echo of a no changes nothing.
            (Tally::Refused, Some(vote)) if self.own.votes.contains_key(&txn) => {
                for shard in Self::others(&vote, self.shard) {
                    let to = execution::participant(&self.own.site.layout, shard);
                    out.send(to, Message::Abort { txn });
                }
                self.abort(txn, AbortReason::VotedNo, out);
            }
            _ => {}
        }
    }

    fn others(vote: &Vote<Member>, mine: ShardId) -> Vec<ShardId> {
        let members = Member::members(vote).into_iter();
        members.filter(|shard| *shard != mine).collect()
    }
}

/// The protocol.
struct Smallest;

impl Protocol for Smallest {
    type Process = Node<Server>;
    type Options = Options;

    const MARKS: &'static [&'static [Mark]] = &[&Member::MARKS];
    const NAME: &'static str = "smallest";
    const TITLE: &'static str = "the smallest commitment protocol";

    fn promises(_: &Options) -> Promises {
        Promises::nothing()
    }

    fn deploy(
        layout: &Layout,
        options: &Options,
        operations: &[PlannedOperation],
    ) -> Result<Deployment<Node<Server>>, String> {
        let site = Arc::new(Site {
            layout: layout.clone(),
            options: options.clone(),
            execution: execution::Options::default(),
        });
        let member = || Member {
            site: Arc::clone(&site),
            votes: BTreeMap::new(),
            decided: BTreeSet::new(),
        };
        let patience = Patience::new(Some(Millis::new(5_000)), Millis::new(0));
        let entry = |operation: &PlannedOperation| {
            let home = layout.shard_of(home_key(&operation.txn));
            vec![execution::participant(layout, home)]
        };
        Ok(Deployment::on(layout)
            .homes(|shard| Participant::new(shard, 2_048, member()))
            .clients(operations, patience, entry))
    }
}

struct Seen {
    committed: usize,
    aborted: usize,
    marks: BTreeSet<&'static str>,
    /// Yes votes.
    votes: usize,
}

fn runs(options: &Options, trouble: Trouble, seeds: std::ops::Range<u64>) -> Seen {
    let layout = layout(4, 2, Value::Int(20));
    let mut seen = Seen {
        committed: 0,
        aborted: 0,
        marks: BTreeSet::new(),
        votes: 0,
    };
    for seed in seeds {
        let operations = contended(&layout, 12, &mut Dice(seed));
        let table = run::<Smallest>(&layout, options, &operations, trouble, seed);
        check_atomicity(&table, &operations);
        check_strictly_serializable(&table);
        for outcome in table.outcomes().values() {
            seen.committed += usize::from(matches!(outcome, Outcome::Committed { .. }));
            seen.aborted += usize::from(matches!(outcome, Outcome::Aborted { .. }));
        }
        let voted = |what: &Observation| matches!(what, Observation::Voted { yes: true, .. });
        seen.votes += { table.observed.iter() }
            .filter(|(_, what)| voted(what))
            .count();
        seen.marks
            .extend(table.observed.iter().filter_map(|(_, what)| match what {
                Observation::Mark(mark) => Some(*mark),
                _ => None,
            }));
    }
    seen
}

fn options(one_participant: bool) -> Options {
    Options {
        one_participant,
        ..Options::default()
    }
}

#[test]
fn a_protocol_of_one_page_keeps_all_or_nothing_under_crashes_losses_and_failing_disks() {
    for one_participant in [false, true] {
        let seen = runs(&options(one_participant), ROUGH, 0..200);
        assert!(seen.committed > 400, "{}", seen.committed);
        for (mark, _) in Member::MARKS {
            assert!(seen.marks.contains(mark), "{mark} was never reached");
        }
    }
}

#[test]
fn without_faults_nothing_is_aborted_and_one_participant_needs_no_second_phase() {
    let calm = Trouble { timer: 0, ..CALM };
    let [two_phases, alone] = [false, true].map(|one| runs(&options(one), calm, 0..60));
    assert_eq!((two_phases.aborted, alone.aborted), (0, 0));
    assert!(two_phases.committed > 300 && alone.committed > 300);
    assert!(alone.votes < two_phases.votes, "they voted all the same");
}
