//! A transaction as statements of a session: what databases with conversational transactions have in common.

use std::collections::BTreeMap;

use super::workload::{Answer, Asked, Completion, Op, Request, Seen};

/// Why a statement did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Broke {
    /// What the database said.
    pub why: String,
    /// It was a commit, and nobody knows whether it took effect.
    pub undecided: bool,
}

/// The statements that workloads are made of, in one transaction at a time.
pub(super) trait Statements {
    fn begin(&mut self) -> Result<(), Broke>;
    fn append(&mut self, key: u64, value: u64) -> Result<(), Broke>;
    fn read_list(&mut self, key: u64) -> Result<Vec<u64>, Broke>;
    fn write(&mut self, key: u64, value: u64) -> Result<(), Broke>;
    fn read(&mut self, key: u64) -> Result<Option<u64>, Broke>;
    fn balance(&mut self, account: u64) -> Result<i64, Broke>;
    fn set_balance(&mut self, account: u64, held: i64) -> Result<(), Broke>;
    fn commit(&mut self) -> Result<(), Broke>;
    /// Ends the transaction without effect. That this fails changes nothing: what is not committed is not.
    fn rollback(&mut self);
}

/// What the client itself says to a transaction that it does not commit.
const ON_PURPOSE: &str = "rolled back on purpose";

/// Executes a transaction, statement by statement.
pub(super) fn execute(session: &mut impl Statements, asked: &Asked) -> Completion {
    if let Err(broke) = session.begin() {
        return Completion::Fail(broke.why);
    }
    let answer = match body(session, &asked.request) {
        Ok(answer) => answer,
        Err(broke) => {
            session.rollback();
            return Completion::Fail(broke.why);
        }
    };
    if asked.rollback {
        session.rollback();
        return Completion::Fail(ON_PURPOSE.into());
    }
    match session.commit() {
        Ok(()) => Completion::Ok(answer),
        Err(broke) if broke.undecided => Completion::Info(broke.why),
        Err(broke) => {
            session.rollback();
            Completion::Fail(broke.why)
        }
    }
}

fn body(session: &mut impl Statements, request: &Request) -> Result<Answer, Broke> {
    match request {
        Request::Txn(ops) => {
            let seen = ops.iter().map(|op| {
                Ok(match *op {
                    Op::Append { key, value } => {
                        session.append(key, value)?;
                        Seen::Nothing
                    }
                    Op::Write { key, value } => {
                        session.write(key, value)?;
                        Seen::Nothing
                    }
                    Op::ReadList { key } => Seen::List(session.read_list(key)?),
                    Op::Read { key } => Seen::Value(session.read(key)?),
                })
            });
            seen.collect::<Result<_, _>>().map(Answer::Txn)
        }
        &Request::Transfer { from, to, amount } => {
            let amount = amount as i64;
            let (paying, paid) = (session.balance(from)?, session.balance(to)?);
            if paying < amount {
                return Err(Broke {
                    why: "the account holds too little".into(),
                    undecided: false,
                });
            }
            session.set_balance(from, paying - amount)?;
            session.set_balance(to, paid + amount)?;
            Ok(Answer::Transferred)
        }
        &Request::Balances { accounts } => {
            let held = (0..accounts).map(|account| Ok((account, session.balance(account)?)));
            let held: Result<BTreeMap<u64, i64>, Broke> = held.collect();
            held.map(Answer::Balances)
        }
    }
}
