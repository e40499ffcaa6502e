"""What is written to a source: tables, their first rows, and transactions made inside the server, so that the client is no limit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.stage import Database

HOT_SHARE = 100
"""One in so many rows of `item` is hot."""


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """`body` is what one transaction does: {n} is its number from 1 on, {rows}, {lines}, {people}, {wides} how many rows there are."""

    name: str
    per_transaction: float  # row events, on average
    body: str
    share: float = 1.0  # of the row events that a run asks for: rows of this one are larger
    undo: Callable[[str, Sizes], Sequence[str]] = lambda _engine, _sizes: ()
    """Statements for a target of that product, after which the same events have the same work to do again: rows that were inserted are
    gone, those that were deleted are back. What is updated need not be: it is written whatever is there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """First rows of the tables. `item` is the large one; zero leaves a table empty."""

    rows: int
    people: int = 0
    wides: int = 0
    visits: int = 0

    @property
    def lines(self) -> int:
        """Rows of `line`, which refers to `item` and to `sale`."""
        return self.rows // 2

    @property
    def sales(self) -> int:
        return max(1, self.rows // 4)

    @property
    def customers(self) -> int:
        return max(1, self.rows // 20)


SHOP = ("customer", "item", "sale", "line", "visit")
"""Five tables, three of them with foreign keys; `item` has about 160 bytes a row."""
_NUMBERS, _AMOUNTS, _NAMES, _TIMES, _TEXTS = 20, 10, 15, 8, 5
WIDE_COLUMNS = 1 + _NUMBERS + _AMOUNTS + _NAMES + _TIMES + _TEXTS + 1  # with its key and a JSON document


def _ddl(engine: str, *, foreign_keys: bool, json_as_text: bool) -> list[str]:
    postgres = engine == "postgresql"
    when, document, text = ("timestamp(6)", "jsonb", "text") if postgres else ("datetime(6)", "json", "text")
    document = text if json_as_text else document

    def refers(*pairs: tuple[str, str]) -> str:
        return "".join(f", FOREIGN KEY ({column}) REFERENCES {table} (id)" for column, table in pairs) if foreign_keys else ""

    wide = [f"n{i} bigint" for i in range(_NUMBERS)] + [f"a{i} numeric(12,2)" for i in range(_AMOUNTS)]
    wide += [f"s{i} varchar(60)" for i in range(_NAMES)] + [f"w{i} {when}" for i in range(_TIMES)] + [f"t{i} {text}" for i in range(_TEXTS)]
    return [
        "CREATE TABLE customer (id bigint NOT NULL PRIMARY KEY, name varchar(60) NOT NULL, city varchar(40))",
        "CREATE TABLE item (id bigint NOT NULL PRIMARY KEY, account bigint NOT NULL, amount numeric(12,2) NOT NULL, "
        "name varchar(60) NOT NULL, note varchar(200))",
        "CREATE TABLE sale (id bigint NOT NULL PRIMARY KEY, customer bigint NOT NULL, state varchar(12) NOT NULL"
        + refers(("customer",) * 2)
        + ")",
        "CREATE TABLE line (id bigint NOT NULL PRIMARY KEY, sale bigint NOT NULL, item bigint NOT NULL, quantity int NOT NULL, "
        "price numeric(12,2) NOT NULL" + refers(("sale", "sale"), ("item", "item")) + ")",
        "CREATE TABLE visit (id bigint NOT NULL PRIMARY KEY, account bigint NOT NULL, page varchar(80) NOT NULL)",
        f"CREATE TABLE wide (id bigint NOT NULL PRIMARY KEY, {', '.join(wide)}, d {document})",
        "CREATE TABLE person (id bigint NOT NULL PRIMARY KEY, full_name varchar(80) NOT NULL, email varchar(80) NOT NULL, "
        "country varchar(2) NOT NULL, state varchar(1) NOT NULL, secret varchar(80), phone varchar(40), visits bigint NOT NULL, "
        f"profile {document})",
    ]


def _first_rows(engine: str, sizes: Sizes) -> dict[str, str]:
    """By table."""
    postgres = engine == "postgresql"

    def series(rows: int) -> str:
        return f"FROM generate_series(1, {rows}) g" if postgres else f"FROM (SELECT seq AS g FROM seq_1_to_{rows}) s"

    def sure(text: str) -> str:
        return f"({text})::text" if postgres else text

    when = "timestamp '2020-01-01 00:00:00.5'" if postgres else "'2020-01-01 00:00:00.5'"
    wide = [f"g + {i}" for i in range(_NUMBERS)] + [f"g % 1000 + {i}.25" for i in range(_AMOUNTS)]
    wide += [f"concat('short text ', g, ' {i}')" for i in range(_NAMES)] + [when] * _TIMES
    wide += [f"concat('{'a longer text, ' * 8}', g, ' {i}')" for i in range(_TEXTS)]
    document = """concat('{"tags": ["a", "b"], "level": ', g % 50, ', "note": "', g, '", "flag": true}')""" + (
        "::jsonb" if postgres else ""
    )
    made = {
        "customer": (sizes.customers, "g, concat('customer ', g), 'Uppsala'"),
        "item": (sizes.rows, f"g, g % 1000, g % 100000 / 100.0, concat('name ', g), repeat(md5({sure('g')}), 3)"),
        "sale": (sizes.sales, f"g, g % {sizes.customers} + 1, 'open'"),
        "line": (sizes.lines, f"g, g % {sizes.sales} + 1, g, g % 50, 9.99"),
        "visit": (sizes.visits, "g, g % 1000, concat('/page/', g)"),
        "wide": (sizes.wides, f"g, {', '.join(wide)}, {document}"),
        "person": (
            sizes.people,
            "g, concat('First', g % 1000, ' Last', g), concat('User', g, '@Example.org'), "
            "CASE g % 3 WHEN 0 THEN 'SE' WHEN 1 THEN 'DE' ELSE 'FR' END, CASE g % 2 WHEN 0 THEN 'a' ELSE 'b' END, "
            f"md5({sure('g')}), concat(' +46 ', g, ' '), g % 10, {document}",
        ),
    }
    return {table: f"INSERT INTO {table} SELECT {columns} {series(rows)}" for table, (rows, columns) in made.items() if rows}


def fill(database: Database, sizes: Sizes, *, foreign_keys: bool = True, json_as_text: bool = False) -> None:
    """Tables with their first rows. The same on either product but for names of types."""
    statements = list(_first_rows(database.engine, sizes).values())
    if json_as_text:
        statements = [statement.replace("::jsonb", "") for statement in statements]
    analyze = "ANALYZE" if database.engine == "postgresql" else f"ANALYZE TABLE {', '.join((*SHOP, 'wide', 'person'))}"
    database.run(*_ddl(database.engine, foreign_keys=foreign_keys, json_as_text=json_as_text), *statements, analyze)


def _unchecked(engine: str) -> list[str]:
    """Foreign keys are not looked at: PostgreSQL, which makes no index for them, would read all of `line` for each row of `item`."""
    return ["SET session_replication_role = replica"] if engine == "postgresql" else []


UPDATES = Workload(
    "narrow updates, 10 a transaction",
    10,
    "UPDATE item SET amount = amount + 1 WHERE id BETWEEN ({n} * 7919) % ({rows} - 10) + 1 AND ({n} * 7919) % ({rows} - 10) + 10;",
)
INSERTS = Workload(
    "inserts, 10 a transaction",
    10,
    "INSERT INTO item VALUES " + ", ".join(f"({{rows}} + {{n}} * 10 + {i}, {i}, 1.50, 'new', 'a note')" for i in range(10)) + ";",
    undo=lambda engine, sizes: [*_unchecked(engine), f"DELETE FROM item WHERE id > {sizes.rows}"],
)
MIXED = Workload(
    "mixed over five tables with foreign keys, 1 to 50 a transaction",
    13,
    # 1 to 7, half of them 4 more, every third 1 to 37 more, every fifth 2 more.
    "UPDATE item SET amount = amount + 1 WHERE id BETWEEN ({n} * 104729) % ({rows} - 7) + 1 "
    "AND ({n} * 104729) % ({rows} - 7) + 1 + {n} % 7;"
    "IF {n} % 2 = 0 THEN "
    "INSERT INTO sale VALUES ({rows} + 20000000 + {n}, 1, 'new');"
    "INSERT INTO line VALUES ({rows} + 20000000 + {n} * 2, {rows} + 20000000 + {n}, {n} % {rows} + 1, 1, 2.50);"
    "INSERT INTO line VALUES ({rows} + 20000000 + {n} * 2 + 1, {rows} + 20000000 + {n}, {n} % {rows} + 1, 2, 2.50);"
    "DELETE FROM line WHERE id = {rows} + 20000000 + {n} * 2; END IF;"
    "IF {n} % 3 = 0 THEN UPDATE line SET quantity = quantity + 1 WHERE id BETWEEN ({n} * 31) % ({lines} - 37) + 1 "
    "AND ({n} * 31) % ({lines} - 37) + 1 + {n} % 37; END IF;"
    "IF {n} % 5 = 0 THEN INSERT INTO visit VALUES (20000000 + {n}, 1, '/mixed'); "
    "UPDATE customer SET city = concat('city ', {n}) WHERE id = {n} % {customers} + 1; END IF;",
    undo=lambda engine, sizes: [
        *_unchecked(engine),
        f"DELETE FROM line WHERE id > {sizes.rows + 20_000_000}",
        f"DELETE FROM sale WHERE id > {sizes.rows + 20_000_000}",
        "DELETE FROM visit WHERE id > 20000000",
    ],
)
WIDE = Workload(
    f"wide rows, {WIDE_COLUMNS} columns with JSON and text, 5 updates a transaction",
    5,
    "UPDATE wide SET n1 = n1 + 1, a1 = a1 + 0.01, s1 = concat('short ', {n}), t1 = concat('changed ', {n}) "
    "WHERE id BETWEEN ({n} * 7919) % ({wides} - 5) + 1 AND ({n} * 7919) % ({wides} - 5) + 5;",
    share=0.2,
)
HOT = Workload(
    "hot keys, 90 % of the updates on 1 % of the rows, 10 a transaction",
    10,
    "UPDATE item SET amount = amount + 1 WHERE id IN ("
    + ", ".join(f"({{n}} * 7919 + {i} * 104729) % ({{rows}} / {HOT_SHARE}) + 1" for i in range(9))
    + ", ({n} * 7919) % {rows} + 1);",
)
MAPPED = Workload(
    "a mapping of eight steps, 10 updates a transaction",
    10,
    "UPDATE person SET visits = visits + 1, email = concat('User', {n}, '@Example.org') "
    "WHERE id BETWEEN ({n} * 7919) % ({people} - 10) + 1 AND ({n} * 7919) % ({people} - 10) + 10;",
)
DELETES = Workload(
    "deletes, 10 a transaction",
    10,
    "DELETE FROM visit WHERE id BETWEEN ({n} - 1) * 10 + 1 AND {n} * 10;",
    undo=lambda engine, sizes: [_first_rows(engine, sizes)["visit"]],
)
ALL = (UPDATES, INSERTS, MIXED, WIDE, HOT, MAPPED, DELETES)
NAMED = dict(zip(("updates", "inserts", "mixed", "wide", "hot", "mapped", "deletes"), ALL, strict=True))
"""In this order they do not get in each other's way: keys of new rows are apart, and what is deleted was there from the start."""

MAPPING: Mapping[str, Any] = {
    "from": "person",
    "columns": {
        "first_name": {"split": "full_name", "separator": " ", "part": 1, "parts": 2},
        "last_name": {"split": "full_name", "separator": " ", "part": 2, "parts": 2},
        "email": ["email", "lower"],
        "country": {"map": "country", "values": {"SE": "Sweden", "DE": "Germany", "FR": "France"}},
        "status": {"map": "state", "values": {"a": "active", "b": "blocked"}},
        "secret": {"mask": "secret", "method": "partial", "keep_last": 4},
        "phone": ["phone", "trim"],
        "level": {"json_extract": "profile", "path": "level"},
    },
}
"""What becomes of `person` on crossfade's way; a peer that has no such steps moves it as it is."""


def filled_in(body: str, number: str, sizes: Sizes) -> str:
    """One transaction's statements with its number (a literal or a variable) in place."""
    values = {"n": number} | {name: str(getattr(sizes, name)) for name in ("rows", "lines", "customers", "people", "wides")}
    for name, value in values.items():
        body = body.replace("{" + name + "}", value)
    return body


def write(database: Database, workload: Workload, transactions: int, sizes: Sizes) -> None:
    """Runs the workload inside the server, one commit after the other."""
    if database.engine == "postgresql":
        body = filled_in(workload.body, "n::bigint", sizes)
        database.run(
            f"CREATE OR REPLACE PROCEDURE work(last bigint) LANGUAGE plpgsql AS $$ BEGIN FOR n IN 1..last LOOP {body} "
            "COMMIT; END LOOP; END $$",
            "SET synchronous_commit = off",  # writing the backlog is not what is measured
            f"CALL work({transactions})",
        )
        return
    body = filled_in(workload.body.replace("/ " + str(HOT_SHARE), "DIV " + str(HOT_SHARE)), "n", sizes)
    database.run(
        "DROP PROCEDURE IF EXISTS work",
        f"CREATE PROCEDURE work(last bigint) BEGIN DECLARE n bigint DEFAULT 1; WHILE n <= last DO START TRANSACTION; {body} COMMIT; "
        "SET n = n + 1; END WHILE; END",
        f"CALL work({transactions})",
    )
