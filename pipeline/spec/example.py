"""The commented file that `crossfade init` writes."""

from __future__ import annotations

import re
import urllib.parse

from pipeline.errors import BadInput

_TEMPLATE = """\
# What crossfade moves, from where to where, and how carefully.
# Passwords are never in this file: they are read from the environment or from a file when they are needed.
name: {name}

source:
  url: {source}
  password: {{env: SOURCE_PASSWORD}}      # or {{file: /run/secrets/source}}
  # tls: {{mode: verify-full, ca: /etc/ssl/source-ca.pem}}
target:
  url: {target}
  password: {{env: TARGET_PASSWORD}}

kafka: {{bootstrap: "localhost:9092"}}
connect: {{url: "http://localhost:8083"}}

schema: create                 # create: the target's tables are made from the source's; existing: they are there
indexes: after                 # keys and indexes are built once the rows are there (only with schema: create); or before

tables:
  - from: {schema}.*{pad}# every table that has a key, same names, into the target's default schema
  # - from: {schema}.customer    # an exact entry wins over a wildcard
  #   to: person
  #   columns:                   # target column: source column, one step, or a list of steps; others keep their names
  #     full_name: {{concat: [first_name, last_name], separator: " "}}
  #     email: [email, trim, lower]
  #     state: {{map: status, values: {{A: active, I: inactive}}}}
  #   drop: [legacy_flag]
  #   where: "deleted_at is null"
  # - from: {schema}.audit_log
  #   skip: true

backfill:
  workers: 4                   # chunks copied side by side
  chunk_rows: 50000
  # max_rate: 20000            # rows a second over all workers

cutover:
  pause_budget: 5s             # how long writes may wait; beyond it everything is undone
  max_lag: 2s
  # driver: pgbouncer
  # fence: {{roles: [shop_app]}} # the application's roles: a cutover keeps them away from the side that it leaves

reverse: auto                  # the old database keeps following the new one until `crossfade complete`; none: no way back
complete: {{old_tables: keep}}   # or rename, or drop: what `crossfade complete` does to the old tables
on_error: stop                 # stop | quarantine: what a row that the target refuses does
on_schema_change: {{additive: ignore, other: stop}}   # a column that the source gets: ignore, apply (add it to the target too) or stop
"""


def _take_password_out(url: str, option: str) -> str:
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
    except ValueError:
        raise BadInput(f"{option}: is not a URL: write postgresql://user@host:port/database") from None
    if parts.scheme not in ("postgresql", "postgres", "mysql", "mariadb") or not parts.hostname or not parts.path.strip("/"):
        raise BadInput(f"{option}: write postgresql://user@host:port/database, mysql://… or mariadb://…")
    if parts.password is not None:
        user, _, host = parts.netloc.rpartition("@")
        parts = parts._replace(netloc=f"{user.partition(':')[0]}@{host}")
    return urllib.parse.urlunsplit(parts)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def render_example(source_url: str, target_url: str) -> str:
    """The file for these two databases. A password in a URL is left out. Raises BadInput."""
    source = _take_password_out(source_url, "source")
    target = _take_password_out(target_url, "target")
    parts = urllib.parse.urlsplit(source)
    database = urllib.parse.unquote(parts.path.strip("/"))
    schema = database if parts.scheme in ("mysql", "mariadb") else "public"
    old = re.sub(r"[^a-z0-9]+", "-", database.lower()).strip("-")
    new = re.sub(r"[^a-z0-9]+", "-", urllib.parse.unquote(urllib.parse.urlsplit(target).path).lower()).strip("-")
    name = f"{old[:18] or 'old'}-to-{new[:18] or 'new'}".strip("-")
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", schema)
    shown = schema if plain else '"' + schema.replace('"', '""') + '"'
    text = _TEMPLATE.format(name=name, source=_quoted(source), target=_quoted(target), schema=shown, pad=" " * max(1, 17 - len(shown)))
    return text if plain else text.replace(f"- from: {shown}.*", f"- from: '{shown.replace(chr(39), chr(39) * 2)}.*'", 1)
