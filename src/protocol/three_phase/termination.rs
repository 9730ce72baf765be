//! The termination protocol (Bernstein, Hadzilacos and Goodman 1987, section 7.5): participants that miss the coordinator
//! elect one of themselves, which brings the transaction to an end.
//!
//! The participant of the lowest rank that is up leads. It asks the others for their states, and obeys nobody else any more;
//! nor do those that answer. If anybody whom it hears, itself included, is pre-committed, it enters PreCommit and brings
//! the others there (phase 2), and commits (phase 3). Else it forces its decision to abort, and tells.
//!
//! A participant that has crashed since its vote does not lead, and its state does not count: it may have missed all that. It
//! tells everybody what its disk holds, and waits. Only when all have crashed, so that nobody can have decided anything that
//! is on no disk, do these records decide: commit, if one of them is a PreCommit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::participant::{Doubt, Participant, Record, Vote};
use super::{COORDINATOR, Message, Out, Rank, Timer};
use crate::base::observation::{AbortReason, Observation};
use crate::base::process::Addr;
use crate::base::txn::{ShardId, TxnId};
use crate::base::zoo::{self, Bug};

/// For how many times `silence-ms` an initiator avoids a coordinator that has left it in doubt.
const AVOIDED_TIMES: u64 = 10;

/// What an elected coordinator does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Leading {
    /// It asks for states, and has these: whether they are pre-committed.
    Asking { states: BTreeMap<ShardId, bool> },
    /// It brings the others to PreCommit. These have acknowledged.
    PreCommitting { acks: BTreeSet<ShardId> },
    /// Its decision to abort is on its way to the disk.
    Aborting,
}

impl Participant {
    /// All other participants of a transaction.
    fn others(&self, vote: &Vote) -> Vec<(Rank, ShardId)> {
        let me = self.shard();
        { vote.own.ranked() }
            .filter(|(_, shard)| *shard != me)
            .collect()
    }

    fn send_others(&self, vote: &Vote, out: &mut Out, message: &Message) {
        for (_, shard) in self.others(vote) {
            out.send(self.own.site.participant(shard), message.clone());
        }
    }

    // Asking.

    /// In doubt for a while. Acts on the silence so far, and asks again.
    pub(super) fn inquire(&mut self, txn: TxnId, out: &mut Out) {
        if self.in_doubt(txn).is_none() {
            return;
        }
        self.avoid_silent_coordinator(txn, out);
        if self.decides_alone() {
            self.decide_alone(txn, out);
        } else {
            self.lead_if_first(txn, out);
            self.lead_on(txn, out);
        }
        self.decide_if_all_crashed(txn, out);
        let Some((vote, doubt)) = self.doubtful(txn) else {
            return;
        };
        let doubt = doubt.clone();
        let asked = self.questions(&vote, &doubt);
        let rounds = self.rounds();
        for (rank, message) in asked {
            if let Some(doubt) = self.own.doubts.get_mut(&txn) {
                doubt.silence.asked(rank, rounds);
            }
            out.send(vote.own.addr(&self.own.site, rank), message);
        }
        self.arm(txn, out);
    }

    /// An initiator that misses its coordinator begins with another one for a while.
    fn avoid_silent_coordinator(&mut self, txn: TxnId, out: &mut Out) {
        let rounds = self.rounds();
        let Some((vote, doubt)) = self.doubtful(txn) else {
            return;
        };
        let has_left = doubt.silence.has_lost(COORDINATOR);
        if has_left || !doubt.silence.suspects(COORDINATOR, rounds) {
            return;
        }
        out.observe(Observation::Mark("3pc.suspected"));
        let coordinator = vote.own.coordinator;
        if vote.origin.is_some() && self.own.suspects.insert(coordinator) {
            out.observe(Observation::Mark("3pc.coordinator-avoided"));
            let patience = self.own.site.options.silence_ms.about_times(AVOIDED_TIMES);
            out.set_timer(Timer::Trust(coordinator), patience);
        }
    }

    /// Whom a participant in doubt asks, and what: an elected coordinator those who have not answered, the others the
    /// coordinator, and once that is suspected everybody.
    fn questions(&self, vote: &Vote, doubt: &Doubt) -> Vec<(Rank, Message)> {
        let (txn, rounds) = (vote.txn, self.rounds());
        let mine = vote.own.rank(self.shard());
        let incarnation = vote.own.incarnation;
        let others = self.others(vote).into_iter();
        let live = others.filter(|(rank, _)| !doubt.silence.suspects(*rank, rounds));
        match &doubt.leading {
            Some(Leading::Asking { states }) => {
                let missing = live.filter(|(_, shard)| !states.contains_key(shard));
                let ask = Message::Ask { txn, by: mine };
                return missing.map(|(rank, _)| (rank, ask.clone())).collect();
            }
            Some(Leading::PreCommitting { acks }) if doubt.precommitted.is_some() => {
                let missing = live.filter(|(_, shard)| !acks.contains(shard));
                let pre_commit = Message::PreCommit { txn, by: mine };
                return missing
                    .map(|(rank, _)| (rank, pre_commit.clone()))
                    .collect();
            }
            Some(Leading::PreCommitting { .. } | Leading::Aborting) => return Vec::new(),
            None => {}
        }
        let question = match doubt.fallen {
            true => Message::Recovered {
                txn,
                shard: self.shard(),
                incarnation,
                precommitted: doubt.precommitted.is_some(),
            },
            false => Message::Inquiry { txn, incarnation },
        };
        // The initiator's first word may be lost: it asks with its vote.
        let first = match &vote.origin {
            Some(origin) if !doubt.fallen && doubt.precommitted.is_none() => {
                Message::BeginCommit(Arc::clone(&origin.start))
            }
            _ => question.clone(),
        };
        let mut asked = Vec::new();
        if !doubt.silence.has_lost(COORDINATOR) {
            asked.push((COORDINATOR, first));
        }
        if doubt.fallen || doubt.silence.suspects(COORDINATOR, rounds) {
            let others = self.others(vote).into_iter();
            asked.extend(others.map(|(rank, _)| (rank, question.clone())));
        }
        asked
    }

    pub(super) fn on_inquiry(&mut self, from: Addr, txn: TxnId, out: &mut Out) {
        self.heard(from, txn);
        match self.doubtful(txn) {
            Some((_, doubt)) if doubt.fallen => self.tell_record(from, txn, out),
            Some(_) => out.send(from, Message::Waiting { txn }),
            None => self.tell(from, txn, out),
        }
    }

    /// The coordinator has restarted: no need to wait until it has been silent for long enough.
    pub(super) fn on_left(&mut self, from: Addr, txn: TxnId, incarnation: u64, out: &mut Out) {
        self.on_hello(from, incarnation);
        if let Some((vote, doubt)) = self.doubtful(txn)
            && vote.own.coordinator == from
        {
            let is_new = !doubt.silence.has_lost(COORDINATOR);
            doubt.silence.lost(COORDINATOR);
            if is_new && !self.decides_alone() {
                self.inquire(txn, out);
            }
        }
    }

    // The election.

    /// All who come before this participant are taken for crashed.
    fn lead_if_first(&mut self, txn: TxnId, out: &mut Out) {
        let (shard, rounds) = (self.shard(), self.rounds());
        let Some((vote, doubt)) = self.doubtful(txn) else {
            return;
        };
        let mine = vote.own.rank(shard);
        let is_free = !doubt.fallen && doubt.entering.is_none() && doubt.leading.is_none();
        let is_first = (0..mine).all(|rank| doubt.silence.suspects(rank, rounds));
        if !is_free
            || !is_first
            || doubt.follows >= mine
            || zoo::planted(Bug::ThreePhaseNobodyElected)
        {
            return;
        }
        doubt.follows = mine;
        let states = BTreeMap::new();
        doubt.leading = Some(Leading::Asking { states });
        out.observe(Observation::Mark("3pc.elected"));
    }

    pub(super) fn on_ask(&mut self, from: Addr, txn: TxnId, by: Rank, out: &mut Out) {
        self.heard(from, txn);
        let shard = self.shard();
        let Some((_, doubt)) = self.doubtful(txn) else {
            return self.tell(from, txn, out);
        };
        if doubt.fallen {
            return self.tell_record(from, txn, out);
        }
        // What is on its way to the disk has to be there, before it says what it knows.
        if doubt.is_aborting() || doubt.entering.is_some() || by < doubt.follows {
            return out.send(from, Message::Waiting { txn });
        }
        if by > doubt.follows {
            doubt.follows = by;
            doubt.leading = None;
        }
        if doubt.precommitted == Some(by) {
            return self.acknowledge(txn, by, out);
        }
        let committable = doubt.precommitted.is_some();
        let state = Message::State {
            txn,
            shard,
            committable,
        };
        out.send(from, state);
    }

    pub(super) fn on_state(
        &mut self,
        from: Addr,
        txn: TxnId,
        shard: ShardId,
        committable: bool,
        out: &mut Out,
    ) {
        self.heard(from, txn);
        if let Some((_, doubt)) = self.doubtful(txn)
            && let Some(Leading::Asking { states }) = &mut doubt.leading
        {
            states.insert(shard, committable);
            self.lead_on(txn, out);
        }
    }

    pub(super) fn on_pre_committed(
        &mut self,
        from: Addr,
        txn: TxnId,
        shard: ShardId,
        by: Rank,
        out: &mut Out,
    ) {
        self.heard(from, txn);
        let me = self.shard();
        if let Some((vote, doubt)) = self.doubtful(txn)
            && let Some(Leading::PreCommitting { acks }) = &mut doubt.leading
            && vote.own.rank(me) == by
        {
            acks.insert(shard);
            self.lead_on(txn, out);
        }
    }

    /// An elected coordinator goes on, if everybody else has answered or crashed.
    pub(super) fn lead_on(&mut self, txn: TxnId, out: &mut Out) {
        let (shard, rounds) = (self.shard(), self.rounds());
        let Some((vote, doubt)) = self.doubtful(txn) else {
            return;
        };
        let mine = vote.own.rank(shard);
        let others = vote.own.ranked().filter(|(rank, _)| *rank != mine);
        let mut missing = others.filter(|(rank, _)| !doubt.silence.suspects(*rank, rounds));
        let is_committable = doubt.precommitted.is_some();
        match &doubt.leading {
            Some(Leading::Asking { states }) => {
                if !missing.all(|(_, shard)| states.contains_key(&shard)) {
                    return;
                }
                let is_told = states.values().any(|committable| *committable);
                let is_told = is_told && !zoo::planted(Bug::ThreePhaseElectedGoesByItself);
                if is_committable || is_told {
                    let acks = BTreeSet::new();
                    doubt.leading = Some(Leading::PreCommitting { acks });
                    if zoo::planted(Bug::ThreePhaseElectedCommitsAtOnce) && is_committable {
                        return self.lead_commit(&vote, out);
                    }
                    match is_committable {
                        true => self.bring_to_pre_commit(&vote, out),
                        false => self.enter(txn, mine, out),
                    }
                } else {
                    doubt.leading = Some(Leading::Aborting);
                    let record = Record::Aborted(txn);
                    self.force(record, record);
                }
            }
            Some(Leading::PreCommitting { acks }) if is_committable => {
                let told = doubt.told;
                let is_acknowledged = missing.all(|(_, shard)| acks.contains(&shard));
                if !told {
                    self.bring_to_pre_commit(&vote, out);
                } else if is_acknowledged {
                    self.lead_commit(&vote, out);
                }
            }
            Some(Leading::PreCommitting { .. } | Leading::Aborting) | None => {}
        }
    }

    fn bring_to_pre_commit(&mut self, vote: &Arc<Vote>, out: &mut Out) {
        let (txn, by) = (vote.txn, vote.own.rank(self.shard()));
        if let Some(doubt) = self.own.doubts.get_mut(&txn) {
            doubt.told = true;
        }
        self.send_others(vote, out, &Message::PreCommit { txn, by });
        self.lead_on(txn, out);
    }

    fn lead_commit(&mut self, vote: &Arc<Vote>, out: &mut Out) {
        out.observe(Observation::Mark("3pc.elected-commits"));
        self.decide_commit(vote, out);
    }

    fn decide_commit(&mut self, vote: &Arc<Vote>, out: &mut Out) {
        let (txn, commit) = (vote.txn, true);
        out.observe(Observation::Decided { txn, commit });
        let others = self.others(vote).into_iter();
        let tells = others.map(|(_, shard)| self.own.site.participant(shard));
        let tells = tells.collect();
        if let Some(doubt) = self.own.doubts.get_mut(&txn) {
            doubt.tells = tells;
        }
        self.on_commit(self.me(), txn, out);
        out.observe(Observation::Ended { txn, commit });
    }

    pub(super) fn abort_durable(&mut self, txn: TxnId, out: &mut Out) {
        if let Some(vote) = self.in_doubt(txn) {
            out.observe(Observation::Mark("3pc.elected-aborts"));
            self.decide_abort(&vote, out);
        }
    }

    fn decide_abort(&mut self, vote: &Arc<Vote>, out: &mut Out) {
        let (txn, commit, why) = (vote.txn, false, AbortReason::Timeout);
        out.observe(Observation::Decided { txn, commit });
        self.send_others(vote, out, &Message::Abort { txn, why });
        self.abort(txn, why, out);
        out.observe(Observation::Ended { txn, commit });
    }

    // After a crash.

    /// Tells what the disk holds, and that this participant waits to be told.
    pub(super) fn tell_record(&self, to: Addr, txn: TxnId, out: &mut Out) {
        if let (Some(group), Some(doubt)) = (self.group(txn), self.doubt(txn)) {
            let record = Message::Recovered {
                txn,
                shard: self.shard(),
                incarnation: group.incarnation,
                precommitted: doubt.precommitted.is_some(),
            };
            out.send(to, record);
        }
    }

    /// A participant has crashed, and is back in doubt.
    pub(super) fn on_recovered(
        &mut self,
        from: Addr,
        txn: TxnId,
        shard: ShardId,
        precommitted: bool,
        out: &mut Out,
    ) {
        let Some((vote, doubt)) = self.doubtful(txn) else {
            return self.tell(from, txn, out);
        };
        doubt.silence.lost(vote.own.rank(shard));
        doubt.recovered.insert(shard, precommitted);
        if doubt.fallen {
            self.decide_if_all_crashed(txn, out);
        } else {
            self.lead_on(txn, out);
        }
    }

    /// Nobody has been here all the time. So nobody decides anything any more but what these records say.
    fn decide_if_all_crashed(&mut self, txn: TxnId, out: &mut Out) {
        let shard = self.shard();
        let Some((vote, doubt)) = self.doubtful(txn) else {
            return;
        };
        let mut others = vote.own.members.iter().filter(|member| **member != shard);
        if !doubt.fallen || !others.all(|member| doubt.recovered.contains_key(member)) {
            return;
        }
        let committable =
            doubt.precommitted.is_some() || doubt.recovered.values().any(|record| *record);
        out.observe(Observation::Mark("3pc.all-crashed"));
        match committable {
            true => self.decide_commit(&vote, out),
            false => self.decide_abort(&vote, out),
        }
    }

    // Without an election.

    /// The coordinator is taken for crashed: each participant decides alone (Skeen 1981, section 5).
    fn decide_alone(&mut self, txn: TxnId, out: &mut Out) {
        let rounds = self.rounds();
        let Some((_, doubt)) = self.doubtful(txn) else {
            return;
        };
        let is_gone = doubt.silence.suspects(COORDINATOR, rounds);
        if doubt.fallen || doubt.entering.is_some() || !is_gone {
            return;
        }
        let commit = doubt.precommitted.is_some();
        out.observe(Observation::Mark("3pc.decided-alone"));
        out.observe(Observation::Decided { txn, commit });
        match commit {
            true => self.on_commit(self.me(), txn, out),
            false => self.abort(txn, AbortReason::Timeout, out),
        }
        out.observe(Observation::Ended { txn, commit });
    }
}
