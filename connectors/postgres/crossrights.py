"""What a role lacks to cross: to make an application's roles read-only, to see and end every session of theirs, to read and move counters.

What it may not see it cannot end: without the rights to see them, sessions that write look as if they were not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from connectors.base import Address
from connectors.postgres.look import Look, looked
from connectors.postgres.names import quote
from connectors.postgres.sequences import counters_of
from pipeline.model import Finding, TableId

_ADMIN_TOO = 160000
"""Since PostgreSQL 16 CREATEROLE reaches only roles on which one has the ADMIN option (user.c, AlterRoleSet)."""


def lacks(address: Address, roles: Sequence[str], tables: Iterable[TableId], *, moves: bool) -> list[Finding]:
    """Errors, each with the statement that puts it right: roles that are not there, rights over those that are, and over the counters
    behind columns of these tables, which are there; `moves` says whether they are to be set on this side, or only read."""

    def look(seen: Look) -> None:
        for role in roles:
            _role(seen, role)
        if not seen.superuser:
            _counters(seen, tables, moves)

    return looked(address, "crossing", look)


def _role(seen: Look, role: str) -> None:
    found = seen.rows(
        "SELECT r.rolsuper AS super, me.rolcreaterole AS creates, pg_catalog.pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION') AS admin,"
        " pg_catalog.pg_has_role(r.oid, 'USAGE') AS inherits, pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') AS ends,"
        " pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees"
        " FROM pg_catalog.pg_roles r, pg_catalog.pg_roles me WHERE r.rolname = %s AND me.rolname = current_user",
        role,
    )
    if not found:
        message = f"cutover.fence.roles names {role}, and there is no such role"
        seen.say("fence.role", "error", seen.object, message, f"CREATE ROLE {quote(role)} LOGIN, or take it out of the list")
        return
    has, mine, theirs = found[0], quote(seen.role), quote(role)
    if seen.superuser:
        return
    if has["super"]:
        fix = f"ALTER ROLE {theirs} NOSUPERUSER; or let crossfade connect as a superuser"
        seen.grant("fence", role, "may not fence a superuser", fix)
        return
    if not has["creates"]:
        message = f"may not make role {role} read-only without CREATEROLE"
        seen.grant("fence", role, message, f"ALTER ROLE {mine} WITH CREATEROLE")
    if seen.version >= _ADMIN_TOO and not has["admin"]:
        message = f"may not make role {role} read-only without the ADMIN option on it"
        seen.grant("fence", role, message, f"GRANT {theirs} TO {mine} WITH ADMIN OPTION")
    elif not has["inherits"] and not (has["ends"] and has["sees"]):
        message = f"may not see and end the sessions of role {role}"
        inherit = f"GRANT {theirs} TO {mine} WITH INHERIT TRUE" if seen.version >= _ADMIN_TOO else f"GRANT {theirs} TO {mine}"
        fix = f"{inherit}; or GRANT pg_signal_backend, pg_read_all_stats TO {mine}"
        seen.grant("fence", role, message, fix)


def _counters(seen: Look, tables: Iterable[TableId], moves: bool) -> None:
    needed = ("SELECT", "UPDATE") if moves else ("SELECT",)
    # Names in a schema that one may not use cannot even be looked up; that right is asked for with the others.
    known = [table for table in tables if seen.one("SELECT pg_catalog.has_schema_privilege(%s, 'USAGE')", table.schema)]
    for table, column, sequence in counters_of(seen.db, known):
        left = [right for right in needed if not seen.one("SELECT pg_catalog.has_sequence_privilege(%s, %s)", sequence, right)]
        if left:
            message = f"may not {'move' if left[-1] == 'UPDATE' else 'read'} the counter behind {table}.{column}"
            seen.grant("sequence", sequence, message, f"GRANT {', '.join(needed)} ON SEQUENCE {sequence} TO {quote(seen.role)}")
