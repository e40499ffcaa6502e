"""PostgreSQL stream positions: the end LSN of a transaction as a decimal number, which grows in commit order.

Row LSNs of transactions that ran side by side interleave and are no position (materialize#5262).
"""

from __future__ import annotations


def beyond(position: str, than: str) -> bool:
    """Whether `position` comes after `than` in commit order; "" is before everything."""
    if not than:
        return True
    return int(position) > int(than)


def of_id(identity: str) -> str:
    """The position of a transaction by the id of its END, `<txid>:<end LSN>`."""
    return identity.rpartition(":")[2]


def of_lsn(lsn: str) -> str:
    """`16/B374D848` as a position."""
    high, _, low = lsn.partition("/")
    return str((int(high, 16) << 32) + int(low, 16))
