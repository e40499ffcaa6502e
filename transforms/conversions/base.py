"""What a conversion is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from pipeline.model import Engine

Sql = Callable[[Engine, str], str | None]


def as_it_is(engine: Engine, expr: str) -> str | None:
    """The SQL of a conversion that changes nothing."""
    return expr


def no_sql(engine: Engine, expr: str) -> str | None:
    """The SQL of a conversion that only Python can do."""
    return None


@dataclasses.dataclass(frozen=True)
class Conversion:
    """`python` takes a text that is not NULL (None: the text stays as it is); `sql` takes a text expression (NULL stays NULL) and
    answers None where SQL cannot say the same. `exact`: every value arrives and can be had back; otherwise `why` says what happens,
    beginning with `refuses` when the target rejects some values loudly and the others arrive. `possible` False: never.
    """

    python: Callable[[str], str] | None = dataclasses.field(default=None, compare=False)
    sql: Sql = dataclasses.field(default=as_it_is, compare=False)
    exact: bool = True
    why: str = ""
    possible: bool = True

    def then(self, following: Conversion) -> Conversion:
        """This one, then `following`."""
        first, second = self.python, following.python
        both = (lambda value: second(first(value))) if first and second else first or second
        reasons = [one.why for one in (self, following) if one.why]
        # a change of form is worse news than a refusal
        reasons.sort(key=lambda why: why.startswith("refuses"))
        return Conversion(
            both,
            lambda engine, expr: None if (made := self.sql(engine, expr)) is None else following.sql(engine, made),
            self.exact and following.exact,
            "; ".join(reasons),
            self.possible and following.possible,
        )


IDENTITY = Conversion()


def refuses(what: str) -> Conversion:
    """The text as it is; the target rejects some."""
    return Conversion(exact=False, why=f"refuses {what}")


def impossible(why: str) -> Conversion:
    """No conversion."""
    return Conversion(exact=False, why=why, possible=False)
