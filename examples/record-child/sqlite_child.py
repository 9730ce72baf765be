#!/usr/bin/env python3
"""A child for `ordain record child:...`: SQLite by way of Python's own module, one JSON line for one JSON line.

    ordain record 'child:python3 examples/record-child/sqlite_child.py /tmp/example.db'

ordain starts one process for the setup and one for each client, writes one line at a time, and waits for one line.
To drive another database, replace the class Session. Say "ok" only when the commit was acknowledged, "fail" only when
the transaction certainly had no effect, and "info" in all other cases: a wrong "fail" makes the verdict worthless.

--autocommit is a planted mistake: each statement is a transaction of its own. ordain finds it.
--refuse fails everything: a run in which nothing happened is no success.
"""
import json
import sqlite3
import sys

TABLES = {"list-append": "lists", "registers": "registers", "long-fork": "registers", "bank": "accounts"}


class RolledBack(Exception):
    """The transaction certainly has no effect."""


class Session:
    """One connection. A transaction is begin, operations, and commit or rollback."""

    def __init__(self, file, autocommit):
        # isolation_level=None: the module begins no transaction by itself.
        self.db = sqlite3.connect(file, isolation_level=None, timeout=0.2)
        self.autocommit = autocommit

    def setup(self, workload, accounts, balance):
        table = TABLES[workload]
        self.db.execute(f"DROP TABLE IF EXISTS {table}")
        self.db.execute(f"CREATE TABLE {table} (k INTEGER PRIMARY KEY, v NOT NULL)")
        if table == "accounts":
            self.db.executemany("INSERT INTO accounts VALUES (?, ?)", [(k, balance) for k in range(accounts)])

    def get(self, table, key):
        row = self.db.execute(f"SELECT v FROM {table} WHERE k = ?", (key,)).fetchone()
        return row and row[0]

    def put(self, table, key, value):
        self.db.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, value))

    def operation(self, name, key, value, workload):
        table = TABLES[workload]
        if name == "append":
            # A read and a write: whether nobody comes between them is up to the transaction.
            old = json.loads(self.get(table, key) or "[]")
            self.put(table, key, json.dumps(old + [value]))
        elif name == "w":
            self.put(table, key, value)
        elif table == "lists":
            value = json.loads(self.get(table, key) or "[]")
        else:
            value = self.get(table, key)
        return [name, key, value]

    def body(self, f, value, workload):
        if f == "txn":
            return [self.operation(*op, workload) for op in value]
        if f == "read":
            return {str(k): v for k, v in self.db.execute("SELECT k, v FROM accounts")}
        paying, paid = self.get("accounts", value["from"]), self.get("accounts", value["to"])
        if paying < value["amount"]:
            raise RolledBack("the account holds too little")
        self.put("accounts", value["from"], paying - value["amount"])
        self.put("accounts", value["to"], paid + value["amount"])
        return value

    def transaction(self, asked, workload):
        begin, commit = ("SELECT 1", "SELECT 1") if self.autocommit else ("BEGIN", "COMMIT")
        try:
            self.db.execute(begin)
            result = self.body(asked["f"], asked["value"], workload)
            if asked["rollback"]:
                raise RolledBack("rolled back on purpose")
            self.db.execute(commit)
            return {"type": "ok", "value": result}
        except (RolledBack, sqlite3.OperationalError) as why:
            # Locked or busy, at a commit too: SQLite has written nothing yet.
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            # What was written statement by statement stays.
            return {"type": "info" if self.autocommit else "fail", "error": str(why)}


def main():
    file = next(word for word in sys.argv[1:] if not word.startswith("--"))
    session, workload = Session(file, "--autocommit" in sys.argv), None
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["type"] == "invoke" and "--refuse" in sys.argv:
            answer = {"type": "fail", "error": "refused"}
        elif asked["type"] == "invoke":
            answer = session.transaction(asked, workload)
        elif asked["protocol"] != 1:
            answer = {"type": "error", "error": f"protocol {asked['protocol']} is not known here"}
        else:
            workload = asked["workload"]
            if asked["type"] == "setup":
                session.setup(workload, asked["accounts"], asked["balance"])
            answer = {"type": "ready"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
