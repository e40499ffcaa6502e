"""Kafka Connect's REST API: validate, register, status, wait, restart, pause, resume, stop, offsets, remove.

Every fault is a `ConnectError` in one line that names the connector. Connect repeats settings and stack traces in its answers: only
a setting's name with its complaint, and the line of a trace that says what went wrong, reach a message, with known secrets cut out.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import tenacity

from pipeline.errors import ConnectError, TimedOut

T = TypeVar("T")
_SECRET = re.compile(r"(?i)(password|secret|token|sasl\.jaas\.config|credential)")
_PAIR = re.compile(r"(?i)((?:password|passwd|pwd|secret|token)\s*[=:]\s*)\S+")
_AROUND = re.compile(
    r"Connector configuration is invalid and contains the following \d+ error\(s\):|You can also find the above list of errors at .*"
)
_NO_PLUGIN = re.compile(r"Failed to find any class that implements Connector and which name matches ([\w.$]+),")
_CAUSE = re.compile(r"^(?:Caused by: )?(?:[\w$]+\.)+([\w$]+(?:Exception|Error)\w*): ?(.*)$")


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """Where Kafka Connect is and how it is spoken to."""

    url: str
    user: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    token: str | None = dataclasses.field(default=None, repr=False)
    ca: str | None = None  # PEM file of the authority that signed Connect's certificate
    certificate: str | None = None  # PEM files of a client certificate
    key: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class TaskState:
    """One task. `trace` is the line of its stack trace that says what went wrong."""

    id: int
    state: str
    worker: str
    trace: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectorState:
    """A connector and its tasks. States are Connect's own: RUNNING, PAUSED, STOPPED, FAILED, UNASSIGNED, RESTARTING."""

    name: str
    state: str
    trace: str
    tasks: tuple[TaskState, ...]

    @property
    def running(self) -> bool:
        """Whether the connector and all of its tasks run."""
        return self.state == "RUNNING" and bool(self.tasks) and all(task.state == "RUNNING" for task in self.tasks)

    @property
    def failure(self) -> str:
        """What went wrong, or "" when nothing has."""
        if self.state == "FAILED":
            return self.trace or "failed"
        return next((f"task {task.id}: {task.trace or 'failed'}" for task in self.tasks if task.state == "FAILED"), "")


class ConnectClient:
    """One Kafka Connect cluster."""

    def __init__(self, access: Access | str, *, timeout: float = 30.0, transport: httpx.BaseTransport | None = None) -> None:
        self._access = access = Access(access) if isinstance(access, str) else access
        auth = httpx.BasicAuth(access.user, access.password or "") if access.user is not None else None
        headers = {"Authorization": f"Bearer {access.token}"} if access.token is not None else {}
        self._http = httpx.Client(
            base_url=access.url.rstrip("/"),
            auth=auth,
            headers=headers,
            timeout=timeout,
            verify=_tls(access),
            transport=transport,
            trust_env=False,  # a proxy for the way out has no business between us and Connect
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    # -- what is there ---------------------------------------------------------------------------------------------------------------

    def version(self) -> str:
        """Version of the workers. The cheapest question: whether Connect answers at all."""
        return str(self._ask("GET", "/", "Kafka Connect")["version"])

    def plugins(self) -> dict[str, str]:
        """Connector classes that are installed, with their versions."""
        return {plugin["class"]: plugin.get("version") or "" for plugin in self._ask("GET", "/connector-plugins", "Kafka Connect")}

    def names(self) -> list[str]:
        """All connectors."""
        return sorted(self._ask("GET", "/connectors", "Kafka Connect"))

    def config(self, name: str) -> dict[str, str] | None:
        """Settings as they were registered (references stay references), or None when there is no such connector."""
        found: dict[str, str] | None = self._ask("GET", f"{_path(name)}/config", name, missing=None)
        return found

    def status(self, name: str) -> ConnectorState | None:
        """How the connector is, or None when there is none of that name."""
        answer = self._ask("GET", f"{_path(name)}/status", name, missing=None)
        if answer is None:
            return None
        connector = answer["connector"]
        tasks = tuple(
            TaskState(task["id"], task["state"], task.get("worker_id", ""), self._cause(task.get("trace", ""))) for task in answer["tasks"]
        )
        return ConnectorState(name, connector["state"], self._cause(connector.get("trace", "")), tasks)

    def topics(self, name: str) -> list[str]:
        """Topics that the connector has written to since it was made."""
        answer = self._ask("GET", f"{_path(name)}/topics", name, missing={})
        return sorted(answer.get(name, {}).get("topics", []))

    def offsets(self, name: str) -> list[Mapping[str, Any]]:
        """Where the connector would go on reading, as it has told Kafka: `[{"partition": {…}, "offset": {…}}]`."""
        answer = self._ask("GET", f"{_path(name)}/offsets", name, missing={})
        return [entry for entry in answer.get("offsets", []) if entry.get("offset")]

    # -- changing things ---------------------------------------------------------------------------------------------------------------

    def validate(self, config: Mapping[str, str]) -> list[str]:
        """What the connector's own check says, one line a setting, empty when all is well. Debezium connects to the database for it."""
        kind = config["connector.class"]
        answer = self._ask("PUT", f"/connector-plugins/{quote(kind, safe='')}/config/validate", config["name"], json=dict(config))
        lines = []
        for entry in answer["configs"]:
            for error in entry["value"].get("errors") or []:
                key = entry["value"]["name"]
                said = "is not accepted" if _SECRET.search(key) else self._clean(error, config)
                lines.append(f"{key}: {said}")
        return lines

    def register(self, config: Mapping[str, str]) -> None:
        """Makes the connector, or gives it these settings (Connect restarts it when they differ)."""
        self._ask("PUT", f"{_path(config['name'])}/config", config["name"], json=dict(config))

    def restart(self, name: str) -> None:
        """Restarts the connector and its tasks where they have failed."""
        self._ask("POST", f"{_path(name)}/restart?includeTasks=true&onlyFailed=true", name)

    def restart_all(self, name: str) -> None:
        """Restarts the connector and its tasks, failed or not."""
        self._ask("POST", f"{_path(name)}/restart?includeTasks=true&onlyFailed=false", name)

    def pause(self, name: str) -> None:
        """The tasks stay, holding the slot, and read nothing."""
        self._ask("PUT", f"{_path(name)}/pause", name)

    def resume(self, name: str) -> None:
        """After `pause` or `stop`."""
        self._ask("PUT", f"{_path(name)}/resume", name)

    def stop(self, name: str, *, timeout: float = 30.0) -> None:
        """Ends the tasks, keeping connector and offsets; returns when no task is left, so slot or binlog connection is free."""
        self._ask("PUT", f"{_path(name)}/stop", name)
        self.wait(name, lambda state: state.state == "STOPPED" and not state.tasks, "stopped", timeout=timeout, tolerate_failure=True)

    def forget_offsets(self, name: str, *, timeout: float = 30.0) -> None:
        """Deletes the offsets of a stopped connector: a connector of that name begins anew."""
        # a task that has just ended may still be writing its offsets
        self._patiently(lambda: self._ask("DELETE", f"{_path(name)}/offsets", name), timeout)

    def remove(self, name: str, *, offsets: bool = True, timeout: float = 30.0) -> None:
        """Removes the connector and, unless told otherwise, its offsets; one that is not there is fine."""
        if self.status(name) is None:
            return
        if offsets:
            self.stop(name, timeout=timeout)
            self.forget_offsets(name, timeout=timeout)
        self._ask("DELETE", _path(name), name, missing=None)
        self._until(lambda: self.status(name) is None, timeout, f"connector {name} is still there after {timeout:g} s")

    # -- waiting -----------------------------------------------------------------------------------------------------------------------

    def wait(
        self, name: str, done: Callable[[ConnectorState], bool], what: str, *, timeout: float, tolerate_failure: bool = False
    ) -> ConnectorState:
        """Waits for a state. Raises `ConnectError` as soon as it has failed, `TimedOut` with the state it is in."""
        last: ConnectorState | None = None

        def look() -> bool:
            nonlocal last
            last = self.status(name)
            if last is not None and last.failure and not tolerate_failure:
                raise ConnectError(f"connector {name} failed: {last.failure}")
            return last is not None and done(last)

        self._until(look, timeout, lambda: f"connector {name} is not {what} after {timeout:g} s (it is {_words(last)})")
        assert last is not None
        return last

    def wait_running(self, name: str, *, timeout: float = 60.0) -> ConnectorState:
        """Waits until the connector and its task run."""
        return self.wait(name, lambda state: state.running, "running", timeout=timeout)

    def wait_streaming(self, name: str, *, stored: bool, timeout: float = 120.0) -> list[Mapping[str, Any]]:
        """Waits until the connector runs and, with `stored`, its position is in Kafka; answers the offsets that there are then.

        A binlog connector whose position is not stored yet would begin at a later one if Connect died now, and what lies between
        would be gone: nothing may rely on the stream before this. A replication slot keeps its own position.
        """
        found: list[Mapping[str, Any]] = []

        def streaming(state: ConnectorState) -> bool:
            nonlocal found
            if not state.running:
                return False
            found = self.offsets(name)
            return bool(found) or not stored

        self.wait(name, streaming, "streaming", timeout=timeout)
        return found

    # -- pieces ------------------------------------------------------------------------------------------------------------------------

    def _ask(self, method: str, path: str, name: str, *, json: Any = None, missing: Any = ...) -> Any:
        """One request. 409 means that the workers are rebalancing: asked again for a while. Raises `ConnectError`."""
        of = name if name == "Kafka Connect" else f"connector {name}"

        def once() -> httpx.Response:
            try:
                answer = self._http.request(method, path, json=json)
            except (httpx.HTTPError, OSError) as error:
                why = self._scrub(str(error)) or type(error).__name__
                raise ConnectError(f"{of}: Kafka Connect at {self._place()} cannot be reached ({why})") from None
            if answer.status_code == 409:
                raise _Rebalancing(f"{of}: Kafka Connect is rebalancing")
            return answer

        response = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Rebalancing),
            wait=tenacity.wait_exponential(0.1, max=2),
            stop=tenacity.stop_after_delay(60),
            reraise=True,
        )(once)
        if response.status_code == 404 and missing is not ...:
            return missing
        if response.is_success:
            try:
                return response.json() if response.content else None
            except ValueError:
                raise ConnectError(f"{of}: {self._place()} does not answer like Kafka Connect") from None
        raise ConnectError(f"{of}: {self._said(response, json if isinstance(json, dict) else {})}")

    def _said(self, response: httpx.Response, config: Mapping[str, str]) -> str:
        if response.status_code in {401, 403}:
            return f"Kafka Connect at {self._place()} does not let us in (HTTP {response.status_code}): check its user, password or token"
        try:
            message = str(response.json().get("message", ""))
        except (ValueError, AttributeError):
            message = ""
        if (absent := _NO_PLUGIN.search(message)) is not None:
            return f"Kafka Connect has no plugin {absent[1]}: put it into its plugin.path"
        return _AROUND.sub("", self._clean(message, config)).strip() or f"HTTP {response.status_code}"

    def _place(self) -> str:
        return httpx.URL(self._access.url).copy_with(username=None, password=None, query=None).__str__()

    def _clean(self, text: str, config: Mapping[str, str]) -> str:
        """A complaint without the values of secret settings, in one line."""
        for key, value in config.items():
            if value and _SECRET.search(key) and not value.startswith("${"):
                text = text.replace(value, "***")
        return self._scrub(text)

    def _scrub(self, text: str) -> str:
        for secret in (self._access.password, self._access.token):
            if secret:
                text = text.replace(secret, "***")
        line = " ".join(_PAIR.sub(r"\1***", text).split())
        return line if len(line) <= 500 else f"{line[:240]} … {line[-240:]}"  # what the matter is stands at either end

    def _cause(self, trace: str) -> str:
        """The innermost cause that says something: the first line is nearly always a wrapper's."""
        said = [match for line in trace.splitlines() if (match := _CAUSE.match(line.strip()))]
        if not said:
            return self._scrub(trace.splitlines()[0]) if trace else ""
        best = next((match for match in reversed(said) if match[2]), said[-1])
        return self._scrub(f"{best[1]}: {best[2]}".rstrip(": "))

    def _until(self, look: Callable[[], bool], timeout: float, message: str | Callable[[], str]) -> None:
        try:
            tenacity.Retrying(
                retry=tenacity.retry_if_result(lambda done: not done),
                wait=tenacity.wait_exponential(0.05, max=0.5),
                stop=tenacity.stop_after_delay(timeout),
            )(look)
        except tenacity.RetryError:
            raise TimedOut(message if isinstance(message, str) else message()) from None

    def _patiently(self, act: Callable[[], T], timeout: float) -> T:
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(ConnectError),
            wait=tenacity.wait_fixed(0.5),
            stop=tenacity.stop_after_delay(timeout),
            reraise=True,
        )(act)


class _Rebalancing(ConnectError):
    """The workers are sharing out their work: ask again."""


def _path(name: str) -> str:
    return f"/connectors/{quote(name, safe='')}"


def _words(state: ConnectorState | None) -> str:
    if state is None:
        return "not there"
    tasks: Sequence[str] = [f"task {task.id} {task.state.lower()}" for task in state.tasks]
    return ", ".join([state.state.lower(), *tasks]) + (f": {state.failure}" if state.failure else "")


def _tls(access: Access) -> Any:
    if not access.url.lower().startswith("https"):
        return True
    import ssl

    try:
        context = ssl.create_default_context(cafile=access.ca)
        if access.certificate:
            context.load_cert_chain(access.certificate, access.key)
    except OSError as error:
        raise ConnectError(f"connect: TLS files cannot be read ({error.strerror or error})") from None
    return context
