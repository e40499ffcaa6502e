"""COPY text: the one bulk form between readers, transforms and writers.

PostgreSQL's `COPY … TO STDOUT` (text format) and MySQL's `LOAD DATA` defaults agree on it: tab between fields, newline after a row,
`\\N` for NULL, backslash escapes. A bulk reader yields blocks of whole lines; a bulk writer takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from pipeline.model import Text

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0", "Z": "\x1a"}
_SPECIAL = frozenset("\\\t\n\r")
_TOGETHER = 256  # rows that are looked at together: one that needs escaping costs the others their shortcut
_NULL = "\x00"  # stands for NULL until it is known that no value has it


def escape(value: Text) -> str:
    """One field. `None` becomes `\\N`."""
    if value is None:
        return "\\N"
    # a set test over the characters is slower than four `in`s for short values
    if "\\" in value or "\t" in value or "\n" in value or "\r" in value:
        return value.translate(_ESCAPES)
    return value


def encode(rows: Iterable[Sequence[Text]]) -> bytes:
    """Rows of canonical text as COPY text, UTF-8."""
    rows = rows if isinstance(rows, Sequence) else list(rows)
    return b"".join([_block(rows[at : at + _TOGETHER]) for at in range(0, len(rows), _TOGETHER)])


def _block(rows: Sequence[Sequence[Text]]) -> bytes:
    """Nearly always nothing is to be escaped: joined first, and then looked at as a whole."""
    nulls = 0
    lines_: list[str] = []
    for row in rows:
        if None in row:
            nulls += row.count(None)
            lines_.append("\t".join([_NULL if value is None else value for value in row]))
        else:
            lines_.append("\t".join(row))  # type: ignore[arg-type]
    text = "\n".join(lines_)
    if (
        "\\" not in text
        and "\r" not in text
        and text.count("\n") == len(rows) - 1
        and text.count("\t") == sum(map(len, rows)) - len(rows)
        and text.count(_NULL) == nulls
    ):
        return (text.replace(_NULL, "\\N") if nulls else text).encode() + b"\n"
    esc = escape
    return "".join(["\t".join([esc(v) for v in row]) + "\n" for row in rows]).encode()


def unescape(field: str) -> Text:
    """One field back. `\\N` becomes None."""
    if "\\" not in field:
        return field
    if field == "\\N":
        return None
    out: list[str] = []
    at = 0
    while (hit := field.find("\\", at)) >= 0:
        out.append(field[at:hit])
        letter = field[hit + 1 : hit + 2]
        out.append(_LETTERS.get(letter, letter))
        at = hit + 2
    out.append(field[at:])
    return "".join(out)


def lines(blocks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Whole blocks (ending in a newline) from arbitrary ones."""
    rest = b""
    for block in blocks:
        data = rest + bytes(block)
        cut = data.rfind(b"\n") + 1
        if cut:
            yield data[:cut]
        rest = data[cut:]
    if rest:
        raise ValueError("COPY text ends in the middle of a line")


def decode(block: bytes) -> list[list[Text]]:
    """A block of whole lines as rows of canonical text."""
    text = block.decode()
    if "\\" not in text:
        return [line.split("\t") for line in text.split("\n")[:-1]]  # type: ignore[misc]
    return [[unescape(field) for field in line.split("\t")] for line in text.split("\n")[:-1]]


def reshape(blocks: Iterable[bytes], shape: Callable[[list[Text]], Sequence[Text] | None]) -> Iterator[bytes]:
    """Blocks of whole lines through a row function; a row for which it answers None is left out."""
    for block in blocks:
        yield encode([out for row in decode(block) if (out := shape(row)) is not None])
