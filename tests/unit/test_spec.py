"""migration.yaml: what a good file becomes, and that every bad one is refused in one line that names file and key, showing no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.control.unused import unused
from pipeline.errors import BadInput
from pipeline.spec import load, parse, render_example
from pipeline.spec.tables import TableEntry, split_name, written
from transforms.check import check

GOOD = """
name: shop-to-crm
source: {url: "mysql://crossfade@db1:3306/shop", password: {env: SOURCE_PASSWORD}}
target: {url: "postgresql://crossfade@db2:5432/crm", password: {file: /run/secrets/target}}
kafka: {bootstrap: "kafka:9092"}
connect: {url: "http://connect:8083"}
schema: create                 # create | existing: whether the target's tables are made from the source's
tables:
  - from: shop.*               # everything, same names, into the target's default schema
  - from: shop.customer        # a later, more exact entry wins
    to: crm.person
    columns:                   # target column: source column, or one step or a list of steps; columns not named keep their names
      full_name: {concat: [first_name, last_name], separator: " "}
      email: {lower: email}
      state: {map: status, values: {A: active, I: inactive, N: no, 1: on, true: x}}
    drop: [legacy_flag]
    where: "deleted_at is null"
backfill: {workers: 4, chunk_rows: 50000}
reads: {steps: [1, 5, 25, 50, 100], hold: 60s, driver: flags}
cutover: {pause_budget: 5s, max_lag: 2s, driver: pgbouncer}
on_error: stop                 # stop | quarantine
"""


def test_the_documented_file_is_read_as_it_says() -> None:
    migration = parse(GOOD)
    check(migration)
    assert (migration.source.engine, migration.target.engine) == ("mysql", "postgresql")
    assert (migration.source.schema_name, migration.target.schema_name) == ("shop", "public")
    assert (migration.schema_, migration.on_error, migration.reverse, migration.indexes) == ("create", "stop", "auto", "after")
    assert (migration.reads.hold, migration.cutover.pause_budget, migration.backfill.chunk_rows) == (60.0, 5.0, 50_000)
    entry = migration.tables[1]
    assert (entry.from_, entry.to, entry.drop, entry.where) == ("shop.customer", "crm.person", ("legacy_flag",), "deleted_at is null")
    # YAML 1.1 would read no and on as truth values
    assert entry.columns["state"]["values"] == {"A": "active", "I": "inactive", "N": "no", "1": "on", "true": "x"}


def test_a_migration_comes_back_from_its_own_json() -> None:
    migration = parse(GOOD)
    stored = migration.model_dump_json(by_alias=True)
    assert parse(stored) == migration
    assert parse(parse(stored).model_dump_json(by_alias=True)) == migration


def test_secrets_are_read_when_asked_for_and_shown_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "password"
    secret.write_text("t0p/secret\n")
    migration = parse(GOOD.replace("/run/secrets/target", str(secret)))
    monkeypatch.setenv("SOURCE_PASSWORD", "s3cret")
    read = [endpoint.secret() for endpoint in (migration.source, migration.target)]
    assert [value.get_secret_value() for value in read if value] == ["s3cret", "t0p/secret"]
    shown = f"{migration!r} {migration} {migration.model_dump()} {migration.model_dump_json()} {read}"
    assert "s3cret" not in shown
    assert "t0p" not in shown


def test_a_missing_secret_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_PASSWORD", raising=False)
    with pytest.raises(BadInput, match=r"^m\.yaml: source\.password\.env: environment variable SOURCE_PASSWORD is not set$"):
        parse(GOOD, "m.yaml").check_secrets()
    monkeypatch.setenv("SOURCE_PASSWORD", "x")
    for path, message in ((tmp_path / "none", "cannot read"), (tmp_path, "is a directory")):
        with pytest.raises(BadInput, match=rf"target\.password\.file: .*{message}|target\.password\.file: {message}"):
            parse(GOOD.replace("/run/secrets/target", str(path))).check_secrets()


BAD = {
    "password in the URL": ("crossfade@db1", "crossfade:hunter2@db1", "source.url: holds a password: take it out and write"),
    "password in the query": (":3306/shop", ":3306/shop?password=hunter2", "source.url: holds a password"),
    "password in the file": ("{env: SOURCE_PASSWORD}", "hunter2", "source.password: a secret does not go into this file"),
    "password as an option": ('kafka: {bootstrap: "kafka:9092"}', 'kafka: {bootstrap: "k:1", options: {sasl.password: hunter2}}', "kafka.options.sasl.password: a secret does not"),
    "token of a driver": ("on_error: stop", "on_error: stop\ndrivers: {pgbouncer: {admin_password: hunter2}}", "drivers.pgbouncer.admin_password: a secret does not"),
    "password of a connector": ("on_error: stop", "on_error: stop\nstreams: [{config: {database.password: hunter2}}]", "streams[0].config.database.password: a secret"),
    "two secrets": ("{env: SOURCE_PASSWORD}", "{env: A, file: /b}", "source.password: needs exactly one of env and file"),
    "scheme": ("mysql://", "oracle://", "source.url: must begin with postgresql://"),
    "no database": ("db2:5432/crm", "db2:5432", "target.url: names no database"),
    "bad port": ("db2:5432", "db2:http", "target.url: is not a URL"),
    "unknown key": ("on_error:", "on_eror:", "on_eror: unknown key (did you mean 'on_error'?)"),
    "unknown key deep down": ("drop:", "dorp:", "tables[1].dorp: unknown key (did you mean 'drop'?)"),
    "unknown key in a part": ("chunk_rows", "chunkrows", "backfill.chunkrows: unknown key (did you mean 'chunk_rows'?)"),
    "missing key": ('kafka: {bootstrap: "kafka:9092"}', "", "kafka: is missing"),
    "wrong type": ("workers: 4", "workers: many", "backfill.workers: must be a valid integer"),
    "out of range": ("workers: 4", "workers: 0", "backfill.workers: must be greater than or equal to 1"),
    "wrong word": ("on_error: stop", "on_error: panic", "on_error: must be 'stop' or 'quarantine'"),
    "duration": ("hold: 60s", "hold: soon", "reads.hold: is not a duration"),
    "steps fall": ("[1, 5, 25, 50, 100]", "[5, 1]", "reads.steps: must rise"),
    "name": ("name: shop-to-crm", 'name: "../etc"', "name: must be of a-z"),
    "no tables": ("tables:", "tables: []\nignored:", "ignored: unknown key"),
    "tables is no list": ("tables:", "tables: {a: b}\nverify: {}\nxtables:", "xtables: unknown key"),
    "table name": ("from: shop.customer", "from: a.b.c", "tables[1].from: is not a table name"),
    "wildcard with columns": ("from: shop.customer", "from: shop.c*", "tables[1].columns: needs an entry for one table"),
    "wildcard into one": ("from: shop.*  ", "from: shop.*\n    to: one  ", "tables[0].to: many tables cannot go into one"),
    "the same twice": ("- from: shop.*  ", "- {from: shop.customer, to: crm.person}  ", "tables[1]: says the same as tables[0]"),
    "unknown transform": ("{lower: email}", "{lowwer: email}", "tables[1].columns.email.lowwer: unknown transform (did you mean 'lower'?)"),
    "option of a transform": ("values: {A", "valeus: {A", "tables[1].columns.state.valeus: unknown key (did you mean 'values'?)"),
    "transform without columns": ("[first_name, last_name]", "[]", "tables[1].columns.full_name.concat: takes at least 2 columns, not 0"),
    "duplicate key": ("on_error: stop", "on_error: stop\nname: again", "key 'name' is there twice (first on line 2)"),
    "duplicate key deep down": ("{lower: email}", "{lower: email, lower: b}", "key 'lower' is there twice"),
    "python tag": ("name: shop-to-crm", "name: !!python/object/apply:os.system [id]", "tag !!python/object/apply:os.system is not allowed"),
    "own tag": ("name: shop-to-crm", "name: !secret x", "tag !secret is not allowed"),
    "two documents": ("on_error: stop", "on_error: stop\n---\na: b", "but found another document"),
    "not YAML": ("tables:", "tables: [", "line "),
    "tab": ("  - from: shop.*", "\t- from: shop.*", "line "),
    "wrong connect": ("http://connect:8083", "connect:8083", "connect.url: must be http://"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD.values(), ids=list(BAD))
def test_a_bad_file_is_refused_in_one_line(case: tuple[str, str, str], tmp_path: Path) -> None:
    old, new, message = case
    assert old in GOOD
    path = tmp_path / "migration.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(BadInput) as caught:
        check(load(path))
    text = str(caught.value)
    assert text.startswith("migration.yaml: ")
    assert message in text
    assert "\n" not in text
    assert "hunter2" not in text
    assert caught.value.exit_code == 2


def _stream(**more: object) -> str:
    data = yaml.safe_load(GOOD)
    data["streams"] = [{"name": "a", "tables": ["shop.a*"], **more}, {"name": "b", **more}]
    return json.dumps(data)


@pytest.mark.parametrize("key", [{"slot": "s1"}, {"server_id": 7}, {"publication": "p"}])
def test_a_slot_or_server_id_used_twice_is_refused(key: dict[str, object]) -> None:
    (name,) = key
    assert parse(_stream()).streams[1].name == "b"
    with pytest.raises(BadInput, match=rf"streams\[1\]\.{name}: .* is used by streams\[0\] too"):
        parse(_stream(**key))


@pytest.mark.parametrize(
    ("source", "target", "to", "refused"),
    [
        ("postgresql://a@db/x", "postgresql://b@db:5432/x", None, True),
        ("postgresql://a@localhost/x", "postgres://b@127.0.0.1/x", "public.t", True),
        ("postgresql://a@db/x", "postgresql://b@db/x", "t2", False),
        ("postgresql://a@db/x", "postgresql://b@db/y", None, False),
        ("mysql://a@db/x", "mariadb://b@db:3306/y", None, False),
        ("mysql://a@db/x", "mariadb://b@db:3306/y", "x.t", True),
        ("mysql://a@db/x", "mysql://b@db:3307/x", None, False),
    ],
)
def test_a_table_onto_itself_is_refused(source: str, target: str, to: str | None, refused: bool) -> None:
    data = yaml.safe_load(GOOD) | {
        "source": {"url": source},
        "target": {"url": target},
        "tables": [{"from": "t"} | ({"to": to} if to else {})],
    }
    if not refused:
        parse(json.dumps(data))
        return
    with pytest.raises(BadInput, match=r"tables\[0\]: \w+\.t would be copied onto itself"):
        parse(json.dumps(data))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(BadInput) as caught:
            load(path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    refused(tmp_path, "is a directory, not a file")
    refused(tmp_path / "none.yaml", "there is no such file")
    path = tmp_path / "m.yaml"
    for content, message in (
        (b"", "m.yaml: is empty"),
        (b"# only a comment\n", "m.yaml: is empty"),
        (b"- a\n", "m.yaml: must be a mapping of keys to values, not a list"),
        (b"just text", "not a text"),
        (b"name: \xff\xfe", "is not UTF-8 text"),
        (b"name: a\0b", "m.yaml: "),
        (b"a: " + b"x" * 50_000_000, "is larger than 1 MB"),
        (b"a: " + b"[" * 5000, "nested more than 40 deep"),
        (b"[" * 5000, "nested more than 40 deep"),
        (b"? [a, b]\n: c", "a key must be a word"),
        (b"a: &a [*a]", "an alias holds itself"),
        (b"a: &a\n  b: *a", "an alias holds itself"),
    ):
        path.write_bytes(content)
        refused(path, message)


def test_a_yaml_bomb_is_refused_before_it_goes_off() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    with pytest.raises(BadInput, match="expands to more than 50000 values"):
        parse("\n".join(lines))


def test_a_few_anchors_are_welcome() -> None:
    text = GOOD.replace("backfill: {workers: 4, chunk_rows: 50000}", "backfill: &b {workers: 4}").replace(
        "on_error", "verify: {<<: *b}\non_error"
    )
    assert parse(text).verify.workers == 4


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("mysql://app:hunter2@db1:3306/shop", "postgresql://app@db2/crm"),
        ("postgresql://app@db2/My%20Shop", "mariadb://app@db1/x-y"),
        ("mysql://app@[::1]:3306/a-b'c", "postgresql://app@db2/crm"),
    ],
)
def test_the_file_that_init_writes_is_a_good_one(source: str, target: str) -> None:
    text = render_example(source, target)
    migration = parse(text)
    check(migration)
    assert "hunter2" not in text
    (entry,) = migration.tables
    assert entry.source("x")[0] == migration.source.schema_name
    with pytest.raises(BadInput, match="target: "):
        render_example(source, "http://x")


def test_names_are_split_at_dots_outside_quotes() -> None:
    assert split_name("a") == ("a",)
    assert split_name("a.b") == ("a", "b")
    assert split_name('"a.b"."c""d"') == ("a.b", 'c"d')
    assert split_name("`x`.`y``z`") == ("x", "y`z")
    for bad in ("", ".", "a.", ".a", '"a', '"a"b', "a..b"):
        with pytest.raises(ValueError, match=r"."):
            split_name(bad)


def test_a_key_that_nothing_looks_at_is_said_at_plan() -> None:
    assert [f.object for f in unused(parse(GOOD))] == ["reads"]
    said = unused(
        parse(
            GOOD.replace("backfill: {", "backfill: {throttle: {http: 'http://freno/check', max_apply_lag: 5s}, ")
            + "apply: {batch_ms: 10, retry_max: 1s}\nverify: {workers: 3, max_rate: 5, max_differences: 7, repair: auto}\n"
        )
    )
    assert {(f.id, f.severity) for f in said} == {("spec.unused", "warning")}
    assert [f.object for f in said] == [
        "backfill.throttle.max_apply_lag",
        "backfill.throttle.http",
        "apply.batch_ms",
        "verify.repair",
        "reads",
    ]
    assert [f.object for f in unused(parse(GOOD.replace("schema: create ", "schema: existing\nindexes: before ")))] == ["reads", "indexes"]


@given(
    st.text(st.sampled_from("ab[]*?!-.\"`'\\ \n"), min_size=1, max_size=8), st.text(st.sampled_from("ab[]*?!-."), min_size=1, max_size=8)
)
def test_s23_every_table_name_can_be_written_as_exactly_itself(name: str, other: str) -> None:
    entry = TableEntry.model_validate({"from": written("s", name), "to": written("t", name)})
    assert (entry.wild, entry.exactness(), entry.source("public"), entry.target(name, "public")) == (False, 2, ("s", name), ("t", name))
    assert entry.matches("s", other, "public") is (other == name)
