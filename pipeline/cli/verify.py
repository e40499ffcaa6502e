"""`crossfade verify` and `repair`: does the target hold what the source holds, and make it so."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from pipeline.cli import output
from pipeline.cli.services import on_signal

Name = Annotated[str, typer.Argument(metavar="NAME", help="The migration's name, or its file.")]
OnlyTable = Annotated[str | None, typer.Option("--table", help="Only this table, by its source or target name.")]
SHOWN = 20


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("verify")(verify)
    app.command("repair")(repair)


def verify(
    name: Name,
    full: Annotated[
        bool, typer.Option("--full", help="Every row, now (what happens without it too, as long as nothing else is asked).")
    ] = True,
    table: OnlyTable = None,
) -> None:
    """Compares every row by checksums inside both databases; lag is never a difference. Exit code 1 when there are differences."""
    report, _ = _run(name, table, mend=False)
    if report["differences"] or not report["complete"]:
        raise typer.Exit(1)


def repair(name: Name, table: OnlyTable = None) -> None:
    """Verifies, and reads rows that differ from the source again."""
    report, left = _run(name, table, mend=True)
    if left or not report["complete"]:
        raise typer.Exit(1)


def _run(name: str, table: str | None, *, mend: bool) -> tuple[dict[str, object], int]:
    from pipeline.control.cutover import leading
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime
    from pipeline.control.verifying import Verifier

    migration = find(name)
    runtime = Runtime(migration)
    runtime = leading(runtime)  # a migration that was never started is said so at once
    stop = threading.Event()
    on_signal(stop.set)
    total = sum(pair.source.rows for pair in runtime.pairs.values())
    with output.progress("verify", total or None) as meter:
        rows: dict[str, int] = {}

        def told(rate: object) -> None:
            rows[str(rate.table)] = rate.rows  # type: ignore[attr-defined]
            meter.set(sum(rows.values()))

        verifier = Verifier(runtime, stop=stop, on_progress=told)
        try:
            report = verifier.full(table)
            document = report.as_json() | {
                "found": [
                    {"table": str(d.table), "key": d.key, "kind": d.kind, "columns": d.columns, "source": d.source, "target": d.target}
                    for d in report.found[:1000]
                ]
            }
            left = 0
            if mend:
                mended = verifier.repair(report)
                left = sum(len(m.left) + len(m.unsettled) for m in mended.values())
                document["repaired"] = sum(m.repaired for m in mended.values())
                document["left"] = left
        finally:
            verifier.close()
    output.document(document)
    output.table(
        ("source", "target", "rows", "missing", "extra", "different", "s"),
        [
            (t["source"], t["target"], t["rows_compared"], t["missing"], t["extra"], t["different"], t["seconds"])
            for t in document["tables"]
        ],
    )
    for d in report.found[:SHOWN]:
        values = "; ".join(f"{c}: {s!r} → {t!r}" for c, s, t in zip(d.columns, d.source, d.target, strict=False))
        output.line(f"{d.kind} {d.table} {', '.join(map(str, d.key))} {values}")
    said = f"{runtime.name}: {report.differences} differences"
    if mend:
        said += f", {document['repaired']} repaired, {left} left"
    output.line(said + ("" if report.complete else " so far: stopped; the same command goes on"))
    return document, left
