"""`migration.yaml`: the whole file as one frozen model."""

from __future__ import annotations

import re
import urllib.parse
from typing import Any, Literal

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pipeline.model import Engine
from pipeline.spec.policy import Apply, Backfill, Complete, Cutover, OnSchemaChange, Reads, Verify
from pipeline.spec.secret import Secret
from pipeline.spec.strict import Strict, fault, no_secrets
from pipeline.spec.tables import TableEntry

_ENGINES: dict[str, Engine] = {"postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
_PORTS = {"postgresql": 5432, "mysql": 3306}
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?")
_SLOT = re.compile(r"[a-z0-9_]{1,63}")


class Tls(Strict):
    """How a connection is encrypted. Paths are of PEM files on the machine that connects."""

    mode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class Endpoint(Strict):
    """One database: a URL without a password, the password by reference, TLS and driver options."""

    url: str
    password: Secret | None = None
    tls: Tls = Tls()
    options: dict[str, str] = Field(default_factory=dict)  # as the driver names them
    default_schema: str | None = None  # where names without a schema are; PostgreSQL: public, MySQL: the URL's database
    connector_url: str | None = None  # the same database as Kafka Connect sees it, when it sees it elsewhere

    _where: str = PrivateAttr(default="endpoint")

    @field_validator("url", "connector_url")
    @classmethod
    def _fit(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urllib.parse.urlsplit(value)
            _ = parts.port
        except ValueError:
            raise fault("is not a URL: write postgresql://user@host:port/database") from None
        if parts.scheme not in _ENGINES:
            raise fault("must begin with postgresql://, mysql:// or mariadb://")
        if parts.password is not None or re.search(r"(?i)[?&](password|passwd|pwd|sslpassword)=", value):
            raise fault("holds a password: take it out and write password: {env: NAME} or password: {file: PATH}")
        if not parts.hostname:
            raise fault("names no host: write postgresql://user@host:port/database")
        if not parts.path.strip("/"):
            raise fault("names no database: write postgresql://user@host:port/database")
        return value

    @field_validator("options")
    @classmethod
    def _no_secret_options(cls, value: dict[str, str]) -> dict[str, str]:
        no_secrets(value, "write password: {env: NAME} beside url")
        return value

    @property
    def engine(self) -> Engine:
        """The family of the product."""
        return _ENGINES[urllib.parse.urlsplit(self.url).scheme]

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urllib.parse.urlsplit(self.url).port or _PORTS[self.engine]

    @property
    def user(self) -> str:
        return urllib.parse.unquote(urllib.parse.urlsplit(self.url).username or "")

    @property
    def database(self) -> str:
        return urllib.parse.unquote(urllib.parse.urlsplit(self.url).path.strip("/"))

    @property
    def schema_name(self) -> str:
        """Where table names without a schema are."""
        return self.default_schema or (self.database if self.engine == "mysql" else "public")

    def secret(self) -> SecretStr | None:
        """The password, read now. Raises BadInput naming the key and the variable or file."""
        return None if self.password is None else self.password.read(f"{self._where}.password")

    def same_server(self, other: Endpoint) -> bool:
        """As far as the URLs tell. MySQL databases of one server can see each other, PostgreSQL's cannot."""
        here = "localhost" if self.host in _LOCAL else self.host
        there = "localhost" if other.host in _LOCAL else other.host
        same = self.engine == other.engine and here == there and self.port == other.port
        return same and (self.engine == "mysql" or self.database == other.database)


class Kafka(Strict):
    """Where Kafka is and how the topics are made."""

    bootstrap: str = Field(min_length=1)
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str | None = None
    password: Secret | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    replication_factor: int = Field(default=1, ge=1, le=32)
    retention_hours: int | None = Field(default=None, ge=1)  # None: the streams' topics keep everything until they are removed
    options: dict[str, str] = Field(default_factory=dict)

    _where: str = PrivateAttr(default="kafka")

    @field_validator("options")
    @classmethod
    def _no_secret_options(cls, value: dict[str, str]) -> dict[str, str]:
        no_secrets(value, "write password: {env: NAME} beside bootstrap")
        return value

    def secret(self) -> SecretStr | None:
        """The SASL password, read now."""
        return None if self.password is None else self.password.read(f"{self._where}.password")

    @model_validator(mode="after")
    def _whole(self) -> Kafka:
        if self.protocol.startswith("SASL") and not (self.mechanism and self.username and self.password):
            raise fault(f"{self.protocol} needs mechanism, username and password", "protocol")
        return self


class Connect(Strict):
    """Kafka Connect. Connector configurations hold references, never passwords: either crossfade writes them into `secrets_dir`
    (a properties file that Connect's FileConfigProvider named `file` reads), or `source_password`/`target_password` are ready references.
    """

    url: str
    secrets_dir: str | None = None
    source_password: str | None = None
    target_password: str | None = None
    username: str | None = None
    password: Secret | None = None
    ca: str | None = None

    _where: str = PrivateAttr(default="connect")

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        parts = urllib.parse.urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise fault("must be http://host:port or https://host:port")
        if parts.password is not None:
            raise fault("holds a password: take it out and write username and password: {env: NAME}")
        return value.rstrip("/")

    @field_validator("source_password", "target_password")
    @classmethod
    def _reference(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\$\{[^}]+\}", value):
            raise fault("must be a reference of Connect's config provider such as ${file:/run/secrets/db.properties:password}")
        return value

    def secret(self) -> SecretStr | None:
        """The password of Connect's own REST API, read now."""
        return None if self.password is None else self.password.read(f"{self._where}.password")


class Stream(Strict):
    """One connector, one topic, one position. `tables` are patterns as in `tables[].from`; a stream without any takes the rest."""

    name: str = "main"
    tables: tuple[str, ...] = ()
    slot: str | None = None
    publication: str | None = None
    server_id: int | None = Field(default=None, ge=1, le=4294967295)
    config: dict[str, str] = Field(default_factory=dict)  # connector settings on top of crossfade's own

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise fault("must be of a-z, 0-9, _ and -, at most 40 characters")
        return value

    @field_validator("config")
    @classmethod
    def _no_secret_config(cls, value: dict[str, str]) -> dict[str, str]:
        no_secrets(value, "use a reference of Connect's config provider such as ${file:PATH:KEY}")
        return value

    @field_validator("slot")
    @classmethod
    def _slot(cls, value: str | None) -> str | None:
        if value is not None and not _SLOT.fullmatch(value):
            raise fault("must be of a-z, 0-9 and _, at most 63 characters")
        return value


class Migration(Strict):
    """The file."""

    name: str
    source: Endpoint
    target: Endpoint
    kafka: Kafka
    connect: Connect
    schema_: Literal["create", "existing"] = Field(default="create", alias="schema")
    indexes: Literal["after", "before"] = "after"
    tables: tuple[TableEntry, ...] = Field(min_length=1)
    streams: tuple[Stream, ...] = (Stream(),)
    backfill: Backfill = Backfill()
    apply: Apply = Apply()
    verify: Verify = Verify()
    reads: Reads = Reads()
    cutover: Cutover = Cutover()
    complete: Complete = Complete()
    drivers: dict[str, dict[str, Any]] = Field(default_factory=dict)  # settings of the traffic drivers, by driver name
    reverse: Literal["auto", "none"] = "auto"
    on_error: Literal["stop", "quarantine"] = "stop"
    on_schema_change: OnSchemaChange = OnSchemaChange()
    accept: tuple[str, ...] = ()  # ids of findings that do not refuse a start: somebody has seen to them

    _file: str = PrivateAttr(default="migration.yaml")

    def model_post_init(self, context: Any) -> None:
        self.named(self._file)

    def named(self, file: str) -> Migration:
        """Tells the model which file it came from, for messages."""
        self._file = file
        self.source._where = f"{file}: source"
        self.target._where = f"{file}: target"
        self.kafka._where = f"{file}: kafka"
        self.connect._where = f"{file}: connect"
        return self

    @property
    def file(self) -> str:
        """Name of the file, for messages."""
        return self._file

    def at(self, path: str) -> str:
        """`migration.yaml: tables[2].where`, for messages."""
        return f"{self._file}: {path}"

    def check_secrets(self) -> None:
        """Reads every secret once. Raises BadInput for the first that is not there."""
        for holder in (self.source, self.target, self.kafka, self.connect):
            holder.secret()

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise fault("must be of a-z, 0-9, _ and -, at most 40 characters, beginning and ending with a letter or digit")
        return value

    @field_validator("drivers")
    @classmethod
    def _no_secret_settings(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, settings in value.items():
            try:
                no_secrets(settings, "write {env: NAME} or {file: PATH}")
            except PydanticCustomError as error:
                raise fault(str((error.context or {})["message"]), f"{name}.{(error.context or {})['key']}") from None
        return value

    @field_validator("streams")
    @classmethod
    def _apart(cls, value: tuple[Stream, ...]) -> tuple[Stream, ...]:
        if not value:
            raise fault("needs at least one stream")
        for attribute, what in (("name", "stream name"), ("slot", "slot"), ("publication", "publication"), ("server_id", "server id")):
            seen: dict[Any, int] = {}
            for at, stream in enumerate(value):
                mine = getattr(stream, attribute)
                if mine is not None and seen.setdefault(mine, at) != at:
                    raise fault(f"{what} {mine!r} is used by streams[{seen[mine]}] too", f"[{at}].{attribute}")
        if sum(1 for stream in value if not stream.tables) > 1:
            raise fault("only one stream may be without tables: it takes what the others leave")
        return value

    @model_validator(mode="after")
    def _two_sides(self) -> Migration:
        exact: dict[tuple[tuple[str, str], tuple[str, str]], int] = {}
        same = self.source.same_server(self.target)
        for at, entry in enumerate(self.tables):
            if entry.skip:
                continue
            source = entry.source(self.source.schema_name)
            target = entry.target(source[1], self.target.schema_name)
            if same and source == target:
                raise fault(f"{source[0]}.{source[1]} would be copied onto itself: name another table or schema with `to`", f"tables[{at}]")
            if exact.setdefault((source, target), at) != at:
                raise fault(f"says the same as tables[{exact[source, target]}] (from {entry.from_})", f"tables[{at}]")
        return self
