"""What an account lacks to cross: to lock an application's accounts, to see and end every session of theirs, to move counters.

What it may not see it cannot end: without PROCESS the list of sessions has one's own alone, and nothing says that others are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from connectors.base import Address
from connectors.mysql.ddl import qualified, quote
from connectors.mysql.look import Look, every, looked
from pipeline.model import Finding, TableId

_SUPER_NO_MORE = (11, 0)
"""Since MariaDB 11.0 SUPER does not bring CONNECTION ADMIN."""


def lacks(address: Address, roles: Sequence[str], tables: Iterable[TableId], *, moves: bool) -> list[Finding]:
    """Errors, each with the statement that puts it right: rights, and accounts (`app` or `app@10.%`) that are not there. `tables` are;
    `moves` says whether their counters are to be set on this side, or only read."""

    def look(seen: Look) -> None:
        mine = sorted(tables)
        _fence(seen, roles, sorted({table.schema for table in mine}))
        for table in mine if moves else ():
            _counter(seen, table)

    return looked(address, "crossing", look)


def _fence(seen: Look, roles: Sequence[str], schemas: Sequence[str]) -> None:
    if not roles:
        return
    mariadb = seen.flavour == "mariadb"
    ends = "CONNECTION ADMIN" if mariadb else "CONNECTION_ADMIN"
    seen.need("CREATE USER", "*.*", id_="fence", why="it may not lock accounts")
    seen.need("PROCESS", "*.*", id_="fence", why="it does not see the sessions of others")
    if not seen.grants.may("SUPER") or (mariadb and seen.version >= _SUPER_NO_MORE):
        seen.need(ends, "*.*", id_="fence", why="it may not end the sessions of others")
    if not mariadb:
        seen.need("XA_RECOVER_ADMIN", "*.*", id_="fence", why="it does not see prepared transactions")
    if not seen.grants.may("SELECT", "mysql", "user"):
        seen.need("SELECT", "mysql.*", "mysql", id_="fence", why="it may not see which accounts there are")
        return
    if seen.setting("event_scheduler") == "ON":
        _events(seen, schemas)
    for role in roles:
        name, _, host = role.partition("@")
        at = (" AND Host = %s", (name, host)) if host else ("", (name,))
        if not seen.rows(f"SELECT 1 AS there FROM mysql.user WHERE User = %s{at[0]}", *at[1]):
            message = f"cutover.fence.roles names {role}, and there is no such account"
            seen.say("fence.role", "error", seen.object, message, "CREATE USER for the application, or take it out of the list")


def _events(seen: Look, schemas: Sequence[str]) -> None:
    """An event runs in no session of its definer's, and a locked account does not hold it up: it would write behind the fence."""
    query = "SELECT name FROM mysql.event WHERE status = 'ENABLED' AND db = %s"
    if seen.flavour != "mariadb":  # there only who may change a database's events sees them
        query = "SELECT event_name AS name FROM information_schema.events WHERE status = 'ENABLED' AND event_schema = %s"
        for schema in schemas:
            seen.need("EVENT", every(schema), schema, id_="fence", why="it does not see the events that may write there")
    for schema in schemas:
        for row in seen.rows(query, schema):
            message = "the event may write behind the fence, which shuts out sessions alone"
            fix = f"ALTER EVENT {quote(schema)}.{quote(str(row['name']))} DISABLE for the crossing"
            fix += "; or accept: [fence.event], if it writes to nothing that moves"
            seen.say("fence.event", "error", f"{schema}.{row['name']}", message, fix)


def _counter(seen: Look, table: TableId) -> None:
    if seen.one(
        "SELECT 1 AS counts FROM information_schema.tables WHERE table_schema = %s AND table_name = %s AND auto_increment IS NOT NULL",
        table.schema,
        table.name,
    ):
        for right in ("ALTER",) if seen.flavour == "mariadb" else ("ALTER", "CREATE", "INSERT"):
            seen.need(right, qualified(table), table.schema, table.name, id_="sequence", why="it may not move the table's AUTO_INCREMENT")
