"""What is written to a source: tables, their first rows, and transactions made inside the server, so that the client is no limit."""

from __future__ import annotations

import dataclasses

from benchmarks.stage import Database


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """`body` is what one transaction does: {n} is its number from 1 on, {rows} how many rows the table has."""

    name: str
    per_transaction: int  # row events
    body: str


_TABLES = (
    "CREATE TABLE item (id bigint NOT NULL PRIMARY KEY, account bigint NOT NULL, amount numeric(12,2) NOT NULL, "
    "name varchar(60) NOT NULL, note varchar(200))",
    "CREATE TABLE line (id bigint NOT NULL PRIMARY KEY, item bigint NOT NULL, quantity int NOT NULL, price numeric(12,2) NOT NULL, "
    "FOREIGN KEY (item) REFERENCES item (id))",
)
"""A narrow table and its child, for either product."""


def fill(database: Database, rows: int) -> None:
    """Tables with their first rows."""
    database.run(*_TABLES)
    if database.engine == "postgresql":
        database.run(
            "INSERT INTO item SELECT g, g % 1000, g % 100000 / 100.0, 'name ' || g, repeat(md5(g::text), 3) "
            f"FROM generate_series(1, {rows}) g",
            f"INSERT INTO line SELECT g, g, g % 50, 9.99 FROM generate_series(1, {rows // 2}) g",
            "ANALYZE",
        )
    else:
        database.run(
            "INSERT INTO item SELECT seq, seq % 1000, seq % 100000 / 100.0, concat('name ', seq), repeat(md5(seq), 3) "
            f"FROM seq_1_to_{rows}",
            f"INSERT INTO line SELECT seq, seq, seq % 50, 9.99 FROM seq_1_to_{rows // 2}",
            "ANALYZE TABLE item, line",
        )


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
    "mixed, two tables with a foreign key, 8 a transaction",
    8,
    "INSERT INTO item VALUES ({rows} + {n}, 1, 5.00, 'mixed', NULL);"
    "INSERT INTO line VALUES ({rows} + {n} * 2, {rows} + {n}, 1, 2.50);"
    "INSERT INTO line VALUES ({rows} + {n} * 2 + 1, {rows} + {n}, 2, 2.50);"
    "UPDATE item SET amount = amount + 1 WHERE id BETWEEN ({n} * 104729) % ({rows} - 3) + 1 AND ({n} * 104729) % ({rows} - 3) + 3;"
    "UPDATE line SET quantity = quantity + 1 WHERE id = ({n} * 31) % ({rows} / 2) + 1;"
    "DELETE FROM line WHERE id = {rows} + {n} * 2;",
)
ALL = (UPDATES, INSERTS, MIXED)


def write(database: Database, workload: Workload, transactions: int, rows: int) -> None:
    """Runs the workload inside the server."""
    if database.engine == "postgresql":
        body = workload.body.replace("{n}", "n::bigint").replace("{rows}", str(rows))
        database.run(
            f"CREATE OR REPLACE PROCEDURE work(last bigint) LANGUAGE plpgsql AS $$ BEGIN FOR n IN 1..last LOOP {body} "
            "COMMIT; END LOOP; END $$",
            f"CALL work({transactions})",
        )
    else:
        body = workload.body.replace("{n}", "n").replace("{rows} / 2", f"{rows // 2}").replace("{rows}", str(rows))
        database.run(
            "DROP PROCEDURE IF EXISTS work",
            f"CREATE PROCEDURE work(last bigint) BEGIN DECLARE n bigint DEFAULT 1; WHILE n <= last DO START TRANSACTION; {body} COMMIT; "
            "SET n = n + 1; END WHILE; END",
            f"CALL work({transactions})",
        )
