"""MySQL-family stream positions: GTIDs of both products and file positions, in commit order."""

from __future__ import annotations

import pytest

from connectors.mysql.position import beyond, joined, of_id
from pipeline.errors import CrossfadeError

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER = "3e11fa47-71ca-11e1-9e33-c80aa9429563"


@pytest.mark.parametrize(
    ("position", "than", "expected"),
    [
        ("0-1-10", "", True),
        ("0-1-10", "0-1-9", True),
        ("0-1-9", "0-1-10", False),
        ("0-1-9", "0-1-9", False),
        ("0-2-10", "0-1-9", True),  # another server took over: the domain's sequence goes on
        ("1-1-5", "0-1-9", True),  # a domain not heard of yet
        ("1-1-5", "0-1-9,1-1-5", False),
        ("0-1-9,1-1-6", "0-1-9,1-1-5", True),
        (f"{UUID}:23", f"{UUID}:1-22", True),
        (f"{UUID}:9", f"{UUID}:1-22", False),
        (f"{UUID.upper()}:9", f"{UUID}:1-8:10-22", False),
        (f"{OTHER}:1", f"{UUID}:1-22", True),
        (f"{UUID}:1-30", f"{UUID}:1-22,\n{OTHER}:1-4", True),
        ("binlog.000010:4", "binlog.000009:99999", True),
        ("my.bin.1000000:4", "my.bin.999999:5", True),
        ("binlog.000009:4", "binlog.000009:4", False),
    ],
)
def test_order(position: str, than: str, expected: bool) -> None:
    assert beyond(position, than) is expected


def test_s6_gtid_and_file_positions_are_not_compared() -> None:
    with pytest.raises(CrossfadeError, match="cannot be compared"):
        beyond("0-1-10", "binlog.000009:4")
    with pytest.raises(CrossfadeError, match="no MySQL or MariaDB stream position"):
        beyond("0/16B3748", "0-1-10")


def test_end_markers() -> None:
    assert of_id("0-1-69") == "0-1-69"
    assert of_id("file=m-bin.000003,pos=377") == "m-bin.000003:377"


def test_domains_add_up() -> None:
    assert joined("", "0-1-1") == "0-1-1"
    assert joined("0-1-1", "0-1-2") == "0-1-2"
    assert joined("0-1-9,1-1-5", "1-2-6") == "0-1-9,1-2-6"
    assert joined(f"{UUID}:1-7", f"{UUID}:8") == f"{UUID}:8"


def test_a_domain_given_twice_adds_up_too() -> None:
    assert joined("0-1-4", "0-1-5,0-1-6") == "0-1-6"
    assert joined("0-1-9", "0-1-7") == "0-1-9"
    assert joined("0-1-9", "binlog.000003:4") == "binlog.000003:4"
