"""Which columns of a PostgreSQL table an update may leave out of its event: those whose values can be stored out of line (TOAST)."""

from __future__ import annotations

from pipeline.model import Kind, LogicalType, Table
from transforms.shapecode import toastable

_TOAST_TARGET = 2032
_ROW_HEADER = 32
_POINTER = 18
_ALIGNED = 8  # what a value's beginning may be moved up by, at most


def may_be_left_out(table: Table, name: str) -> bool:
    """Whether a value of the column can ever be stored out of line. PostgreSQL moves the largest values of a row out, one by one, until
    the rest fits into 2 KB: a short column's turn never comes if it fits with everything that is no longer than itself, and a pointer
    for each of the others.
    """
    type = next(column.type for column in table.columns if column.name == name)
    if not toastable(type):
        return False
    mine = _most_bytes(type)
    if mine is None:
        return True
    others = (_most_bytes(column.type) for column in table.columns)
    width = sum(min(size, max(mine, _POINTER)) + _ALIGNED if size is not None else max(mine, _POINTER) + _ALIGNED for size in others)
    return _ROW_HEADER + len(table.columns) // 8 + width > _TOAST_TARGET


def _most_bytes(type: LogicalType) -> int | None:
    """The longest a value can be in a row of PostgreSQL, where its type says so."""
    if type.kind is Kind.TEXT and type.length:
        return 4 * type.length + 4
    if type.kind is Kind.BITS and type.length:
        return type.length // 8 + 9
    if type.kind is Kind.DECIMAL and type.precision:
        return type.precision // 2 + 12
    return None if toastable(type) else 16
