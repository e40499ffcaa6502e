"""What is wrong with a key, given the rows that both sides have for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from pipeline.model import Difference, Key, TableId, Text
from pipeline.verify.side import Rows, Texts

MASK = "***"
_SHOWN = 400


@dataclasses.dataclass(frozen=True)
class Judge:
    """Compares rows of one pair: `same` for columns whose texts may differ in form, letter by letter for all others."""

    table: TableId  # target
    columns: tuple[str, ...]
    same: tuple[Callable[[Text, Text], bool] | None, ...]
    masked: frozenset[str] = frozenset()

    def equal(self, ours: Texts, theirs: Texts) -> bool:
        """Whether two rows hold the same values."""
        return ours == theirs or not self.differing(ours, theirs)

    def differing(self, ours: Texts, theirs: Texts) -> list[int]:
        """Which columns differ."""
        return [
            at for at, (a, b, same) in enumerate(zip(ours, theirs, self.same, strict=True)) if a != b and (same is None or not same(a, b))
        ]

    def alike(self, source: Sequence[Texts], target: Sequence[Texts]) -> bool:
        """Whether both sides have the same rows for a key."""
        if len(source) != len(target):
            return False
        if len(source) > 1:
            source, target = sorted(source, key=_order), sorted(target, key=_order)
        return all(self.equal(a, b) for a, b in zip(source, target, strict=True))

    def candidates(self, source: Rows, target: Rows) -> list[Key]:
        """Keys at which the sides are not alike."""
        found = [key for key, rows in source.items() if not self.alike(rows, target.get(key, ()))]
        return found + [key for key in target if key not in source]

    def difference(self, key: Key, source: Sequence[Texts], target: Sequence[Texts]) -> Difference:
        """The finding on a key whose rows are not alike."""
        if len(source) > len(target):
            return Difference(self.table, key, "missing", self.columns, self._shown(range(len(self.columns)), source[-1]), ())
        if len(source) < len(target):
            return Difference(self.table, key, "extra", self.columns, (), self._shown(range(len(self.columns)), target[-1]))
        both = zip(sorted(source, key=_order), sorted(target, key=_order), strict=True)
        ours, theirs = next((a, b) for a, b in both if not self.equal(a, b))
        at = self.differing(ours, theirs)
        cut = [_beside(ours[n], theirs[n]) for n in at]
        names = tuple(self.columns[n] for n in at)
        return Difference(
            self.table,
            key,
            "different",
            names,
            tuple(self._masked(name, a) for name, (a, _) in zip(names, cut, strict=True)),
            tuple(self._masked(name, b) for name, (_, b) in zip(names, cut, strict=True)),
        )

    def _shown(self, at: Sequence[int], row: Texts) -> Texts:
        return tuple(self._masked(self.columns[n], _shortened(row[n], 0)) for n in at)

    def _masked(self, column: str, text: Text) -> Text:
        return MASK if text is not None and column in self.masked else text


def _order(row: Texts) -> list[tuple[bool, str]]:
    return [(text is not None, text or "") for text in row]


def _beside(a: Text, b: Text) -> tuple[Text, Text]:
    """Two long texts cut to the neighbourhood of their first different character."""
    if a is None or b is None:
        return _shortened(a, 0), _shortened(b, 0)
    at = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    start = max(0, at - _SHOWN // 4) if max(len(a), len(b)) > _SHOWN else 0
    return _shortened(a, start), _shortened(b, start)


def _shortened(text: Text, start: int) -> Text:
    if text is None or len(text) <= _SHOWN:
        return text
    return ("…" if start else "") + text[start : start + _SHOWN] + ("…" if start + _SHOWN < len(text) else "")
