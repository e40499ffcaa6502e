"""The demo's picture: throughput of both sides, the copy's progress and the lag over time, phases shaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.local.timeline import Span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PHASE_COLORS = {
    "before": "#f3f5f6",
    "preparing": "#fff6da",
    "copying": "#e3f0fb",
    "following": "#e7f6ea",
    "cutting-over": "#fbdcd2",
    "switched": "#ddeef7",
    "rolled-back": "#eef6dd",
    "verifying": "#f3ecfa",
}
_SOURCE, _TARGET, _COPY, _LAG = "#b35900", "#1668b0", "#1668b0", "#1b7f4b"
_CROSSING = "#b71c1c"
_TEXT = "#263238"


@dataclasses.dataclass(frozen=True, slots=True)
class Curves:
    """What is drawn. Times in seconds since the load began."""

    title: str
    spans: Sequence[Span]
    source_rate: Sequence[tuple[float, float]]  # transactions committed by the load, per second
    target_rate: Sequence[tuple[float, float]]  # transactions applied, per second
    copied: Sequence[tuple[float, float]]  # rows copied so far
    lag_ms: Sequence[tuple[float, float]]
    p50: float | None
    p99: float | None
    crossings: Sequence[tuple[float, str]] = ()  # when, and what is written there


def draw(curves: Curves, path: Path) -> None:
    """Writes the PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    style: Any = {
        "font.size": 10.5,
        "axes.edgecolor": "#90a4ae",
        "axes.labelcolor": _TEXT,
        "text.color": _TEXT,
        "xtick.color": _TEXT,
        "ytick.color": _TEXT,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with plt.rc_context(style):
        figure, (top, middle, bottom) = plt.subplots(3, 1, sharex=True, figsize=(11, 8.2), height_ratios=(3, 2, 3), layout="constrained")
        figure.suptitle(curves.title, fontsize=14, fontweight="bold", x=0.01, ha="left")
        for axes in (top, middle, bottom):
            _shade(axes, curves.spans)
            axes.grid(axis="y", color="#cfd8dc", linewidth=0.6)
            axes.set_axisbelow(True)
            for at, _ in curves.crossings:
                axes.axvline(at, color=_CROSSING, linewidth=1.2, linestyle=":")
        _name_phases(top, curves.spans)
        for at, name in curves.crossings:
            where = {"transform": middle.get_xaxis_transform(), "rotation": 90, "ha": "right", "va": "bottom", "fontsize": 8.5}
            middle.text(at, 0.05, name, color=_CROSSING, **where)

        _line(top, curves.source_rate, _SOURCE, "committed by the application", linewidth=1.4)
        _line(top, curves.target_rate, _TARGET, "applied on the other side", linewidth=1.8)
        top.set_ylabel("transactions per second")
        top.set_ylim(bottom=0)
        top.legend(loc="lower right", framealpha=0.9, edgecolor="none")

        times = [at for at, _ in curves.copied]
        rows = [count for _, count in curves.copied]
        middle.fill_between(times, rows, color=_COPY, alpha=0.18, linewidth=0)
        middle.plot(times, rows, color=_COPY, linewidth=1.6)
        middle.set_ylabel("rows copied")
        middle.set_ylim(bottom=0)
        middle.yaxis.set_major_locator(MaxNLocator(4))
        middle.yaxis.set_major_formatter(FuncFormatter(_short))

        if curves.lag_ms:
            bottom.scatter([at for at, _ in curves.lag_ms], [ms for _, ms in curves.lag_ms], s=9, color=_LAG, alpha=0.7, linewidths=0)
            bottom.set_yscale("log")
            values = [ms for _, ms in curves.lag_ms]
            bottom.set_ylim(max(min(values), 1.0) / 2, max(values) * 2)
            bottom.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            bottom.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:,g}"))
            bottom.yaxis.set_minor_locator(NullLocator())
        for value, name in ((curves.p50, "p50"), (curves.p99, "p99")):
            if value is not None:
                bottom.axhline(value, color=_LAG, linewidth=1.1, linestyle="--")
                bottom.annotate(
                    f"{name} {value:,.0f} ms",
                    (1, value),
                    xycoords=("axes fraction", "data"),
                    xytext=(-4, 5),
                    textcoords="offset points",
                    ha="right",
                    fontweight="bold",
                    color=_LAG,
                    bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.85, "edgecolor": "none"},
                )
        bottom.set_ylabel("end-to-end lag, ms")
        bottom.set_xlabel("seconds since the application started writing")
        bottom.set_xlim(0, max((span.end for span in curves.spans), default=1))
        figure.savefig(path, dpi=130)
        plt.close(figure)


def _line(axes: Axes, points: Sequence[tuple[float, float]], color: str, label: str, **style: Any) -> None:
    axes.plot([at for at, _ in points], [value for _, value in points], color=color, label=label, **style)


def _shade(axes: Axes, spans: Sequence[Span]) -> None:
    for span in spans:
        axes.axvspan(span.start, span.end, color=_PHASE_COLORS.get(span.name, "#f5f5f5"), linewidth=0, zorder=0)


def _name_phases(axes: Axes, spans: Sequence[Span]) -> None:
    """Names above the plot; upright inside it where a phase is too short for its name; none where it is too short even for that."""
    whole = max((span.end for span in spans), default=1.0) or 1.0
    for span in spans:
        share = span.seconds / whole
        if share < 0.012 * len(span.name):
            if share > 0.018:
                middle = (span.start + span.end) / 2
                axes.text(middle, 0.97, span.name, transform=axes.get_xaxis_transform(), rotation=90, ha="center", va="top", fontsize=9.5)
        else:
            axes.annotate(
                span.name,
                ((span.start + span.end) / 2, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=10,
            )


def _short(value: float, _position: object) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    return f"{value / 1_000:g} k" if value >= 1_000 else f"{value:g}"
