"""Well-known binary, as Debezium sends geometry, to the text that ST_AsText and ST_AsEWKT print."""

from __future__ import annotations

import struct
from binascii import a2b_base64
from collections.abc import Mapping

from connectors.floats import float8

_NAMES = {1: "POINT", 2: "LINESTRING", 3: "POLYGON", 4: "MULTIPOINT", 5: "MULTILINESTRING", 6: "MULTIPOLYGON", 7: "GEOMETRYCOLLECTION"}
_Z, _M, _SRID = 0x80000000, 0x40000000, 0x20000000


def ewkt(value: Mapping[str, object]) -> str:
    """Debezium's `{"wkb": base64, "srid": n}`. An SRID of 0 or null is left out."""
    reader = _Reader(a2b_base64(str(value["wkb"])))
    text = reader.geometry()
    srid = value.get("srid") or reader.srid
    return f"SRID={srid};{text}" if srid else text


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._order = "<"
        self.srid = 0

    def _take(self, form: str) -> tuple[float, ...]:
        packed = struct.Struct(self._order + form)
        found = packed.unpack_from(self._data, self._at)
        self._at += packed.size
        return found

    def _number(self) -> int:
        return int(self._take("I")[0])

    def _header(self) -> tuple[int, int]:
        """Kind and number of coordinates; both ISO's thousands and PostGIS's flags tell of Z and M."""
        self._order = "<" if self._data[self._at] else ">"
        self._at += 1
        code = self._number()
        dimensions = 2 + bool(code & _Z) + bool(code & _M)
        if code & _SRID:
            self.srid = self._number()
        kind = code & 0x0FFFFFFF
        dimensions += {0: 0, 1: 1, 2: 1, 3: 2}[kind // 1000]
        return kind % 1000, dimensions

    def _points(self, count: int, dimensions: int) -> str:
        return ",".join(" ".join(float8(x) for x in self._take(f"{dimensions}d")) for _ in range(count))

    def _inner(self, kind: int, dimensions: int) -> str:
        """What stands between the outermost brackets."""
        match kind:
            case 1:
                return self._points(1, dimensions)
            case 2:
                return self._points(self._number(), dimensions)
            case 3:
                return ",".join(f"({self._points(self._number(), dimensions)})" for _ in range(self._number()))
            case 4:
                return ",".join(self._inner(*self._header()) for _ in range(self._number()))
            case 5 | 6:
                return ",".join(f"({self._inner(*self._header())})" for _ in range(self._number()))
            case 7:
                return ",".join(self.geometry() for _ in range(self._number()))
        raise ValueError(f"geometry of unknown kind {kind}")

    def geometry(self) -> str:
        kind, dimensions = self._header()
        if kind not in _NAMES:
            raise ValueError(f"geometry of unknown kind {kind}")
        inner = self._inner(kind, dimensions)
        return f"{_NAMES[kind]}({inner})" if inner else f"{_NAMES[kind]} EMPTY"
