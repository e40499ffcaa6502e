"""The picture of a run: what was measured beside a peer, bar by bar, with the slowest and the fastest run as whiskers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.result import Figure

_OURS, _PEER, _TEXT = "#1668b0", "#b0bec5", "#263238"
_ROW = 0.62  # inches


def draw(figures: Sequence[Figure], path: Path, where: str) -> None:
    """Writes a PNG, one part a benchmark; nothing when nothing was measured beside a peer."""
    beside = [figure for figure in figures if figure.peer]
    if not beside:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    parts: dict[tuple[str, str], list[Figure]] = {}
    for figure in beside:
        parts.setdefault((figure.benchmark, figure.unit), []).append(figure)
    style: Any = {"font.size": 9.5, "text.color": _TEXT, "axes.labelcolor": _TEXT, "xtick.color": _TEXT, "ytick.color": _TEXT}
    with plt.rc_context(style):
        heights = [len(part) for part in parts.values()]
        whole, axes = plt.subplots(
            len(parts), 1, figsize=(11, _ROW * sum(heights) + 1.1 * len(parts) + 0.6), height_ratios=heights, squeeze=False
        )
        for ((benchmark, unit), part), ax in zip(parts.items(), axes[:, 0], strict=True):
            _bars(ax, part)
            ax.set_title(benchmark, loc="left", fontweight="bold")
            ax.set_xlabel(unit)
        whole.text(0.99, 0.005, where, ha="right", va="bottom", fontsize=7.5, color="#78909c")
        whole.tight_layout(rect=(0, 0.01, 1, 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.savefig(path, dpi=110, bbox_inches="tight")
        plt.close(whole)


def _bars(ax: Any, figures: Sequence[Figure]) -> None:
    longest = max(max(*figure.ours, *figure.peer) for figure in figures)
    for at, figure in enumerate(figures):
        for offset, runs, color, name in ((-0.19, figure.ours, _OURS, "crossfade"), (0.19, figure.peer, _PEER, figure.peer_name)):
            middle = statistics.median(runs)
            ax.barh(
                at + offset, middle, height=0.34, color=color, xerr=[[middle - min(runs)], [max(runs) - middle]], ecolor=_TEXT, capsize=2
            )
            ratio = f", {figure.median / statistics.median(figure.peer):.2f} times" if color == _OURS else ""
            ax.text(max(runs) + longest * 0.008, at + offset, f"{name}: {middle:,.0f}{ratio}", va="center", fontsize=8)
    ax.set_yticks(range(len(figures)), [_wrapped(figure.workload) for figure in figures])
    ax.set_xlim(0, longest * 1.38)
    ax.invert_yaxis()
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.xaxis.set_major_formatter(lambda value, _at: f"{value:,.0f}")


def _wrapped(text: str, width: int = 46) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
