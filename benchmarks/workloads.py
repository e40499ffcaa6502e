"""What is written to a source: tables, their first rows, and transactions made inside the server, so that the client is no limit."""

from __future__ import annotations

import dataclasses

from benchmarks.stage import Database


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """`body` is what one transaction does: {n} is its number from 1 on, {rows} how many rows `item` has, {half} how many `line` has."""

    name: str
    per_transaction: int  # row events, on average
    body: str


_TABLES = (
    "CREATE TABLE item (id bigint NOT NULL PRIMARY KEY, account bigint NOT NULL, amount numeric(12,2) NOT NULL, "
    "name varchar(60) NOT NULL, note varchar(200))",
    "CREATE TABLE line (id bigint NOT NULL PRIMARY KEY, item bigint NOT NULL, quantity int NOT NULL, price numeric(12,2) NOT NULL, "
    "FOREIGN KEY (item) REFERENCES item (id))",
    "CREATE TABLE visit (id bigint NOT NULL PRIMARY KEY, account bigint NOT NULL, page varchar(80) NOT NULL)",
)
"""A table of about 160 bytes a row, its child, and one beside them that nothing refers to; for either product."""


def fill(database: Database, rows: int, visits: int = 0) -> None:
    """Tables with their first rows: `rows` of item, half as many of line, `visits` of visit."""
    database.run(*_TABLES)
    if database.engine == "postgresql":
        database.run(
            "INSERT INTO item SELECT g, g % 1000, g % 100000 / 100.0, 'name ' || g, repeat(md5(g::text), 3) "
            f"FROM generate_series(1, {rows}) g",
            f"INSERT INTO line SELECT g, g, g % 50, 9.99 FROM generate_series(1, {rows // 2}) g",
            f"INSERT INTO visit SELECT g, g % 1000, '/page/' || g FROM generate_series(1, {visits}) g",
            "ANALYZE",
        )
        return
    database.run(
        f"INSERT INTO item SELECT seq, seq % 1000, seq % 100000 / 100.0, concat('name ', seq), repeat(md5(seq), 3) FROM seq_1_to_{rows}",
        f"INSERT INTO line SELECT seq, seq, seq % 50, 9.99 FROM seq_1_to_{rows // 2}",
    )
    if visits:
        database.run(f"INSERT INTO visit SELECT seq, seq % 1000, concat('/page/', seq) FROM seq_1_to_{visits}")
    database.run("ANALYZE TABLE item, line, visit")


UPDATES = Workload(
    "narrow updates, 10 a transaction",
    10,
    "UPDATE item SET amount = amount + 1 WHERE id BETWEEN ({n} * 7919) % ({rows} - 10) + 1 AND ({n} * 7919) % ({rows} - 10) + 10;",
)
INSERTS = Workload(
    "inserts, 10 a transaction",
    10,
    "".join(f"INSERT INTO item VALUES ({{rows}} + {{n}} * 10 + {i}, {i}, 1.50, 'new', 'a note');" for i in range(10)),
)
MIXED = Workload(
    "mixed over three tables, 1 to 50 a transaction",
    13,
    # 1 to 7, half of them 4 more, every third 1 to 37 more, every fifth 2 more.
    "UPDATE item SET amount = amount + 1 WHERE id BETWEEN ({n} * 104729) % ({rows} - 7) + 1 "
    "AND ({n} * 104729) % ({rows} - 7) + 1 + {n} % 7;"
    "IF {n} % 2 = 0 THEN "
    "INSERT INTO item VALUES ({rows} + 20000000 + {n}, 1, 5.00, 'mixed', NULL);"
    "INSERT INTO line VALUES ({rows} + 20000000 + {n} * 2, {rows} + 20000000 + {n}, 1, 2.50);"
    "INSERT INTO line VALUES ({rows} + 20000000 + {n} * 2 + 1, {rows} + 20000000 + {n}, 2, 2.50);"
    "DELETE FROM line WHERE id = {rows} + 20000000 + {n} * 2; END IF;"
    "IF {n} % 3 = 0 THEN UPDATE line SET quantity = quantity + 1 WHERE id BETWEEN ({n} * 31) % ({half} - 37) + 1 "
    "AND ({n} * 31) % ({half} - 37) + 1 + {n} % 37; END IF;"
    "IF {n} % 5 = 0 THEN INSERT INTO visit VALUES (20000000 + {n} * 2, 1, '/mixed'), (20000001 + {n} * 2, 2, '/mixed'); END IF;",
)
DELETES = Workload("deletes, 10 a transaction", 10, "DELETE FROM visit WHERE id BETWEEN ({n} - 1) * 10 + 1 AND {n} * 10;")
ALL = (UPDATES, INSERTS, MIXED, DELETES)
"""In this order they do not get in each other's way: keys of new rows are apart, and what is deleted was there from the start."""


def filled_in(body: str, number: str, rows: int) -> str:
    """One transaction's statements with its number (a literal or a variable) in place."""
    return body.replace("{n}", number).replace("{half}", str(rows // 2)).replace("{rows}", str(rows))


def write(database: Database, workload: Workload, transactions: int, rows: int) -> None:
    """Runs the workload inside the server, one commit after the other."""
    if database.engine == "postgresql":
        body = filled_in(workload.body, "n::bigint", rows)
        database.run(
            f"CREATE OR REPLACE PROCEDURE work(last bigint) LANGUAGE plpgsql AS $$ BEGIN FOR n IN 1..last LOOP {body} "
            "COMMIT; END LOOP; END $$",
            "SET synchronous_commit = off",  # writing the backlog is not what is measured
            f"CALL work({transactions})",
        )
        return
    body = filled_in(workload.body, "n", rows)
    database.run(
        "DROP PROCEDURE IF EXISTS work",
        f"CREATE PROCEDURE work(last bigint) BEGIN DECLARE n bigint DEFAULT 1; WHILE n <= last DO START TRANSACTION; {body} COMMIT; "
        "SET n = n + 1; END WHILE; END",
        f"CALL work({transactions})",
    )
