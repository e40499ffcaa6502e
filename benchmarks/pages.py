"""`python -m benchmarks.pages`: puts the figures of `results/latest.json` where pages of the documentation show them.

A table stands between `<!-- figures: NAME -->` and `<!-- end of figures -->` and is written anew as a whole, so that no page says what no
run has measured (a test holds them against the file). `make bench` leaves the pages alone: which run they tell of is for whoever changes
crossfade to decide.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks.records import Missing, Records
from benchmarks.result import records
from benchmarks.tables import tables

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
PAGES = tuple(ROOT / page for page in ("benchmarks/README.md", "docs/scaling.md", "docs/decisions/compression.md"))
_PLACE = re.compile(r"(?P<begin><!-- figures: (?P<name>[^>]+) -->\n).*?(?P<end><!-- end of figures -->)", re.DOTALL)


def fill(text: str, found: Records) -> str:
    """The page with its tables written anew. Raises `Missing` for a figure, `KeyError` for a table that there is not."""
    known = tables(found)
    return _PLACE.sub(lambda place: f"{place['begin']}{known[place['name']]()}\n{place['end']}", text)


def main() -> int:
    """The command. 0: the pages have the figures; 1: something is not in the results, and one line says what."""
    found = Records(records(RESULTS))
    try:
        filled = {page: fill(page.read_text(), found) for page in PAGES}
    except (Missing, KeyError) as error:
        print(f"{RESULTS.relative_to(ROOT)}: there is no {error}", file=sys.stderr)
        return 1
    for page, text in filled.items():
        page.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
