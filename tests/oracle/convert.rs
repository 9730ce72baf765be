//! From the oracle's histories to the checkers'.

use ordain::check;

use super::{Model, Op, Status, Txn};

/// The same history for the checkers: transaction `i` there is number `i` here.
pub fn to_history(txns: &[Txn]) -> check::History {
    let mut builder = check::HistoryBuilder::new();
    for txn in txns {
        builder.begin(u64::from(txn.process), txn.invoke);
        for op in &txn.ops {
            match op {
                Op::Write(key, value) => builder.write(u64::from(*key), *value as u64),
                Op::Read(key, value) => builder.read(u64::from(*key), value.map(|v| v as u64)),
                Op::Append(key, value) => builder.append(u64::from(*key), *value as u64),
                Op::ReadList(key, list) => {
                    let list: Vec<u64> = list.iter().map(|&v| v as u64).collect();
                    builder.read_list(u64::from(*key), &list);
                }
            }
        }
        match txn.status {
            Status::Ok => builder.end(check::Status::Ok, Some(txn.complete)),
            Status::Fail => builder.end(check::Status::Fail, Some(txn.complete)),
            Status::Info => builder.end(check::Status::Info, None),
        }
    }
    builder.finish()
}

/// The checkers' name of a model.
pub fn to_model(model: Model) -> check::Model {
    match model {
        Model::Serializable => check::Model::Serializable,
        Model::StrongSessionSerializable => check::Model::StrongSessionSerializable,
        Model::StrictSerializable => check::Model::StrictSerializable,
        Model::SnapshotIsolation => check::Model::SnapshotIsolation,
        Model::StrongSessionSnapshotIsolation => check::Model::StrongSessionSnapshotIsolation,
        Model::StrongSnapshotIsolation => check::Model::StrongSnapshotIsolation,
    }
}
