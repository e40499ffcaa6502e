"""Catalogs and the tables made from them, on real servers: keys, hostile names, a thousand tables, any product to any."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from connectors.base import Address, Ddl, ShapedTable
from connectors.engine import connect, module
from pipeline.model import Catalog, Kind, Table, TableId
from tests.conftest import MakeDatabase

pytestmark = pytest.mark.system

HOSTILE = '"; drop table `x (a, b) REFERENCES "" . \n%s :y'
ENGINES = ("postgresql", "mysql")
Make = Callable[[str, str], Address]


@pytest.fixture
def make(pg_database: MakeDatabase, mariadb_database: MakeDatabase) -> Make:
    def database(engine: str, server: str) -> Address:
        made = (pg_database if engine == "postgresql" else mariadb_database)(server)
        return Address(made.url, made.password)

    return database


def run(address: Address, *statements: str) -> None:
    connection = connect(address, autocommit=True)
    for statement in statements:
        connection.cursor().execute(statement)
    connection.close()


def reflect(address: Address, engine: str) -> Catalog:
    found: Catalog = module(engine, "catalog").reflect(address)
    return found


def named(catalog: Catalog, name: str) -> Table:
    return next(table for id, table in catalog.tables.items() if id.name == name)


def schema_of(engine: str, address: Address) -> str:
    return "public" if engine == "postgresql" else address.url.rpartition("/")[2]


@pytest.mark.parametrize("engine", ENGINES)
def test_s23_hostile_names_are_told_as_they_are(engine: str, make: Make) -> None:
    address = make(engine, "source")
    quote = module(engine, "ddl").quote
    table, column, key, long = quote(HOSTILE), quote('a(b)`"c.\nd'), quote('k"`,'), quote("n" * 63)
    run(
        address,
        f"CREATE TABLE {table} ({key} int PRIMARY KEY, {column} varchar(20) UNIQUE, {long} int)",
        f"CREATE TABLE {long} (id int PRIMARY KEY, r int, CONSTRAINT {quote('f(k) REFERENCES')} FOREIGN KEY (r) REFERENCES {table} ({key}))",
        f"CREATE TABLE {quote('Case')} (id int PRIMARY KEY)",
        f"CREATE TABLE {quote('case')} (id int PRIMARY KEY, x int)",
    )
    catalog = reflect(address, engine)
    found = named(catalog, HOSTILE)
    assert (found.key, [c.name for c in found.columns]) == (('k"`,',), ['k"`,', 'a(b)`"c.\nd', "n" * 63])
    assert [(index.columns, index.unique) for index in found.indexes] == [(('a(b)`"c.\nd',), True)]
    (foreign,) = named(catalog, "n" * 63).foreign_keys
    assert (foreign.name, foreign.references, foreign.referred_columns) == ("f(k) REFERENCES", found.id, ('k"`,',))
    assert (len(named(catalog, "Case").columns), len(named(catalog, "case").columns)) == (1, 2)


def test_key_is_what_rows_can_be_matched_by(make: Make) -> None:
    address = make("postgresql", "source")
    run(
        address,
        "CREATE TABLE a (x int NOT NULL, y int NOT NULL, z int UNIQUE, UNIQUE (x, y))",
        "CREATE TABLE b (x int NOT NULL UNIQUE DEFERRABLE, y int NOT NULL)",
        "CREATE UNIQUE INDEX ON b (y) WHERE x > 1",
        "CREATE UNIQUE INDEX ON b ((x + y))",
        "CREATE TABLE c (x int NOT NULL UNIQUE, y int NOT NULL, z int NOT NULL)",
        "CREATE UNIQUE INDEX c_yz ON c (y, z)",
        "ALTER TABLE c REPLICA IDENTITY USING INDEX c_yz",
        "CREATE TABLE d (x int, y int)",
    )
    catalog = reflect(address, "postgresql")
    assert {id.name: table.key for id, table in catalog.tables.items()} == {"a": ("x", "y"), "b": (), "c": ("y", "z"), "d": ()}
    other = make("mysql", "source")
    run(
        other,
        "CREATE TABLE a (x int NOT NULL, y int NOT NULL, z int UNIQUE, UNIQUE (x, y))",
        "CREATE TABLE b (t text NOT NULL, UNIQUE (t(10)), u int, UNIQUE (u))",
    )
    assert {id.name: table.key for id, table in reflect(other, "mysql").tables.items()} == {"a": ("x", "y"), "b": ()}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_thousand_tables_take_seconds(engine: str, make: Make) -> None:
    address = make(engine, "source")
    run(address, *(f"CREATE TABLE t{n} (id int PRIMARY KEY, a varchar(20), b int UNIQUE)" for n in range(1000)))
    started = time.monotonic()
    catalog = reflect(address, engine)
    assert len(catalog.tables) == 1000
    assert time.monotonic() - started < 10


SHOP: dict[str, tuple[str, ...]] = {
    "postgresql": (
        "CREATE TYPE status AS ENUM ('new', 'it''s', 'a,b')",
        "CREATE DOMAIN amount AS numeric(12,2) DEFAULT 0 CHECK (value >= 0)",
        "CREATE TABLE person (id bigserial PRIMARY KEY, email text NOT NULL UNIQUE, boss bigint REFERENCES person, born date,"
        " active boolean NOT NULL DEFAULT true, note text DEFAULT 'it''s \\ so', made timestamptz DEFAULT now(), tag uuid DEFAULT gen_random_uuid())",
        "CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, person_id bigint NOT NULL REFERENCES person ON DELETE CASCADE,"
        " state status DEFAULT 'new', total amount, qty int DEFAULT -1 CHECK (qty > -2 AND qty <> 7), kind text CHECK (kind IN ('x', 'y')),"
        " twice int GENERATED ALWAYS AS (qty * 2) STORED, tags text[], UNIQUE (person_id, qty))",
        "CREATE INDEX orders_recent ON orders (lower(kind)) WHERE qty > 5",
        "CREATE INDEX orders_plain ON orders (kind DESC, qty) INCLUDE (total)",
        "COMMENT ON COLUMN orders.qty IS 'how many: it''s a \\ number'",
        "CREATE VIEW v AS SELECT 1 AS one",
    ),
    "mysql": (
        "CREATE TABLE person (id bigint unsigned AUTO_INCREMENT PRIMARY KEY, email varchar(190) NOT NULL UNIQUE, boss bigint unsigned, born date,"
        " active tinyint(1) NOT NULL DEFAULT 1, note varchar(40) DEFAULT 'it''s \\\\ so', made timestamp(3) NOT NULL DEFAULT current_timestamp(3)"
        " ON UPDATE current_timestamp(3), FOREIGN KEY (boss) REFERENCES person (id))",
        "CREATE TABLE orders (id int AUTO_INCREMENT PRIMARY KEY, person_id bigint unsigned NOT NULL, state enum('new','it''s','a,b') DEFAULT 'new',"
        " total decimal(12,2) DEFAULT 0.00, qty int DEFAULT -1 CHECK (qty > -2 AND qty <> 7), kind varchar(20) CHECK (kind IN ('x', 'y')),"
        " twice int AS (qty * 2) STORED, doc json, flags bit(9) DEFAULT b'101', body text COMMENT 'it''s a \\\\ text', INDEX (body(20)),"
        " UNIQUE (person_id, qty), CONSTRAINT owner FOREIGN KEY (person_id) REFERENCES person (id) ON DELETE CASCADE)",
        "CREATE VIEW v AS SELECT 1 AS one",
    ),
}


def plan(catalog: Catalog, target: str, schema: str, **changes: Any) -> Ddl:
    shapes = []
    for table in catalog.tables.values():
        carried = tuple(c for c in table.columns if c.generated is None or catalog.engine == target)
        shapes.append(ShapedTable(table, TableId(schema, table.id.name), carried, table.key, {c.name: c.name for c in carried}))
    flavour = "postgresql" if target == "postgresql" else "mariadb"
    found: Ddl = module(target, "ddl").plan_ddl(shapes, catalog, target, flavour)
    return found


def carry_out(address: Address, ddl: Ddl) -> int:
    """How many statements there was a need for."""
    connection = connect(address, autocommit=True)
    needed = 0
    for statement in (*ddl.before, *ddl.after):
        cursor = connection.cursor()
        if statement.exists is not None:
            cursor.execute(statement.exists)
            if cursor.fetchone():
                continue
            needed += 1
        cursor.execute(statement.sql)
    connection.close()
    return needed


@pytest.mark.parametrize("target", ENGINES)
@pytest.mark.parametrize("engine", ENGINES)
def test_tables_are_made_and_making_them_twice_changes_nothing(engine: str, target: str, make: Make) -> None:
    source, there = make(engine, "source"), make(target, "target")
    run(source, *SHOP[engine])
    catalog = reflect(source, engine)
    ddl = plan(catalog, target, schema_of(target, there))
    assert carry_out(there, ddl) > 0
    assert carry_out(there, ddl) == 0
    made = reflect(there, target)
    person, orders = named(made, "person"), named(made, "orders")
    assert (person.primary_key, orders.primary_key) == (("id",), ("id",))
    assert {(k.columns, k.references.name, k.on_delete) for k in orders.foreign_keys} == {(("person_id",), "person", "CASCADE")}
    assert [(k.columns, k.references) for k in person.foreign_keys] == [(("boss",), person.id)]
    assert {i.columns for i in orders.indexes if i.unique} == {("person_id", "qty")}
    assert {i.columns for i in person.indexes if i.unique} == {("email",)}
    assert len(orders.checks) == 2
    assert person.column("id").identity == ("by default" if target == "postgresql" else "auto_increment")
    assert (orders.column("state").type.kind, orders.column("state").type.labels) == (Kind.ENUM, ("new", "it's", "a,b"))
    assert not orders.column("person_id").nullable
    comment = orders.column("qty" if engine == "postgresql" else "body").comment
    assert comment == ("how many: it's a \\ number" if engine == "postgresql" else "it's a \\ text")
    assert (orders.column("twice").generated is not None) if engine == target else "twice" not in [c.name for c in orders.columns]
    # the defaults make the values that they make on the source
    connection = connect(there, autocommit=True)
    cursor = connection.cursor()
    cursor.execute("INSERT INTO person (email) VALUES ('a')")
    cursor.execute("SELECT id, note, active FROM person")
    assert cursor.fetchone() == (1, "it's \\ so", 1)
    cursor.execute("INSERT INTO orders (person_id, kind) VALUES (1, 'x')")
    cursor.execute("SELECT qty, state FROM orders")
    assert cursor.fetchone() == (-1, "new")
    for broken in ("INSERT INTO orders (person_id, qty) VALUES (1, 7)", "INSERT INTO orders (person_id) VALUES (99)"):
        with pytest.raises(Exception, match=r"(?i)constraint"):
            cursor.execute(broken)
    connection.close()
    said = {finding.id for finding in ddl.findings}
    assert "object.view" in said
    assert ({"index.method", "type.lossy"} <= said) == ((engine, target) == ("postgresql", "mysql"))
    assert ("collation.case" in said) == ((engine, target) == ("mysql", "postgresql"))


@pytest.mark.parametrize("engine", ENGINES)
def test_renamed_table_in_the_same_database_gets_indexes_of_its_own(engine: str, make: Make) -> None:
    address = make(engine, "source")
    run(
        address,
        "CREATE TABLE a (id int PRIMARY KEY, x int CHECK (x > 0), y int)",
        "CREATE INDEX a_x ON a (x)",
        "CREATE UNIQUE INDEX a_y ON a (y)",
    )
    catalog = reflect(address, engine)
    table = named(catalog, "a")
    names = {"id": "id", "x": "y", "y": "x"}
    columns = tuple(type(c)(name=names[c.name], type=c.type, nullable=c.nullable) for c in table.columns)
    shape = ShapedTable(table, TableId(table.id.schema, "b"), columns, ("id",), names)
    ddl = module(engine, "ddl").plan_ddl([shape], catalog, engine, catalog.flavour)
    assert carry_out(address, ddl) == 4 + (1 if engine == "postgresql" else 0)  # a check has a validation of its own there
    assert carry_out(address, ddl) == 0
    made = named(reflect(address, engine), "b")
    assert {(i.columns, i.unique) for i in made.indexes} == {(("y",), False), (("x",), True)}
    assert "y" in made.checks[0][1] and "x" not in made.checks[0][1]
