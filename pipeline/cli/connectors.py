"""`crossfade connectors render|validate|status|restart NAME`: the migration's Debezium connectors."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import output
from pipeline.errors import BadInput, ConnectError, CrossfadeError, Transient

if TYPE_CHECKING:
    from pipeline.control.runtime import Runtime
    from pipeline.control.streamplans import StreamPlan

FAILED = 1
app = typer.Typer(name="connectors", help="The migration's Debezium connectors.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The migration's name, or its file.", envvar="CROSSFADE_NAME")]
Stream = Annotated[str | None, typer.Option("--stream", help="Only this stream.", show_default=False)]


def _chosen(name: str, stream: str | None) -> tuple[Runtime, list[StreamPlan]]:
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime
    from pipeline.control.streamplans import stream_plans

    runtime = Runtime(find(name))
    plans = stream_plans(runtime)
    if stream is None:
        return runtime, plans
    chosen = [plan for plan in plans if plan.name == stream]
    if not chosen:
        raise BadInput(f"migration {runtime.name} has no stream {stream!r}: it has {', '.join(plan.name for plan in plans)}")
    return runtime, chosen


def _reference(runtime: Runtime) -> str | None:
    """What stands for the password, without writing the file that holds it."""
    from connectors.secrets import reference
    from pipeline.control.prepare import password_reference

    if runtime.migration.connect.source_password is not None or runtime.source.password is None:
        return runtime.migration.connect.source_password
    if runtime.migration.connect.secrets_dir is None:
        return password_reference(runtime)  # says what is missing

    return reference(runtime.migration.connect.secrets_dir, runtime.name, "source.password")


@app.command()
def render(name: Name, stream: Stream = None) -> None:
    """Print the connectors' settings as they would be registered. Passwords are references."""
    from pipeline.control.prepare import connector_config

    runtime, plans = _chosen(name, stream)
    password = _reference(runtime)
    configs = {plan.connector: connector_config(runtime, plan, password) for plan in plans}

    def people() -> None:
        for connector, config in configs.items():
            output.raw(f"# {connector}\n" + "\n".join(f"{key}={value}" for key, value in sorted(config.items())))

    output.show(configs, people)


@app.command()
def validate(name: Name, stream: Stream = None) -> None:
    """Have Kafka Connect check the settings, database connection included. Writes the secrets file that the check needs."""
    from pipeline.control.prepare import connect_client, connector_config, password_reference

    runtime, plans = _chosen(name, stream)
    password = password_reference(runtime)
    with connect_client(runtime) as connect:
        faults = {plan.connector: connect.validate(connector_config(runtime, plan, password)) for plan in plans}

    def people() -> None:
        for connector, lines in faults.items():
            for line in lines:
                output.line(f"{connector}: {line}", style="bold red")
            if not lines:
                output.line(f"{connector}: ok", style="green")

    output.show(faults, people)
    if any(faults.values()):
        raise typer.Exit(FAILED)


def _registered(name: str, stream: str | None) -> tuple[Runtime, list[StreamPlan]]:
    """Those of the way back too, where there is one; a stream's name means both directions'."""
    from pipeline.control.reverse import way_back
    from pipeline.control.streamplans import stream_plan

    runtime, plans = _chosen(name, stream)
    with contextlib.suppress(Transient):  # a database that is away does not keep anybody from looking at connectors
        if (back := way_back(runtime)) is not None:
            found = [stream_plan(back.migration, one.name) for one in back.store.streams() if stream in (None, one.name)]
            return runtime, [*plans, *found]
    return runtime, plans


@app.command()
def status(name: Name, stream: Stream = None) -> None:
    """Show whether the connectors run, and where they are. Exit code 1 when one does not."""
    from pipeline.control.prepare import connect_client

    runtime, plans = _registered(name, stream)
    found = []
    with connect_client(runtime) as connect:
        for plan in plans:
            state = connect.status(plan.connector)
            found.append(
                {
                    "stream": plan.name,
                    "connector": plan.connector,
                    "state": "absent" if state is None else state.state.lower(),
                    "tasks": [] if state is None else [{"id": task.id, "state": task.state.lower()} for task in state.tasks],
                    "running": state is not None and state.running,
                    "failure": "" if state is None else state.failure,
                    "offsets": connect.offsets(plan.connector),
                }
            )

    def people() -> None:
        rows = [
            [e["stream"], e["connector"], e["state"], ", ".join(t["state"] for t in e["tasks"]) or "none", e["failure"]]  # type: ignore[attr-defined]
            for e in found
        ]
        output.table(["stream", "connector", "state", "task", "failure"], rows)

    output.show({"connectors": found}, people)
    if not all(entry["running"] for entry in found):
        raise typer.Exit(FAILED)


@app.command()
def restart(
    name: Name,
    stream: Stream = None,
    all_: Annotated[bool, typer.Option("--all", help="Also what has not failed.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait until they run.")] = 60.0,
) -> None:
    """Restart what has failed, and wait until it runs."""
    from pipeline.control.prepare import connect_client

    runtime, plans = _registered(name, stream)
    with connect_client(runtime) as connect:
        for plan in plans:
            if connect.status(plan.connector) is None:
                raise ConnectError(f"connector {plan.connector} is not there", hint="crossfade start registers it")
            if all_:
                connect.restart_all(plan.connector)
            else:
                connect.restart(plan.connector)
        for plan in plans:
            connect.wait_running(plan.connector, timeout=timeout)
            with contextlib.suppress(CrossfadeError):  # it runs, and that is what was asked for
                runtime.store.audit("connector restart", plan.connector)
    names = [plan.connector for plan in plans]
    output.show({"running": names}, lambda: output.line(f"running: {', '.join(names)}"))
