"""Any switch that is reached by HTTP: an endpoint of the user's own is told to pause, to repoint and to resume, and says when that is so.

Each act is one `POST` of `{"migration", "action", "side", "seconds"}` with the action check, pause, repoint, verify or resume. 2xx: it is
so, however often it is asked; any other answer: it is not, and the text says why. `seconds` is how long the caller waits.
"""

from __future__ import annotations

import math
import time
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.errors import CrossfadeError, TimedOut
from pipeline.spec.secret import Secret
from pipeline.traffic.base import SECONDS, Place, Side


class Settings(BaseModel):
    """`drivers.webhook` of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(min_length=1)  # https://switch.internal/shop
    token: Secret | None = None  # sent as `Authorization: Bearer …`
    ca: str | None = None  # a file with the certificate authority of the endpoint, where that is not a public one

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        try:
            url = httpx.URL(value)
        except httpx.InvalidURL:
            raise ValueError("must be a URL like https://switch.internal/shop") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("must be a URL like https://switch.internal/shop")
        if url.userinfo:
            raise ValueError("holds a password: use token: {env: …}")
        return value


class Webhook:
    """See `pipeline.traffic.base.Traffic`."""

    name = "webhook"

    def __init__(self, settings: Settings, migration: str) -> None:
        self._settings, self._migration = settings, migration
        self._http: httpx.Client | None = None

    def check(self) -> list[str]:
        try:
            self._post("check", None, None)
        except CrossfadeError as error:
            return [str(error)]
        return []

    def open(self) -> None:
        self._client()

    def pause(self, deadline: float) -> None:
        try:
            self._post("pause", None, deadline)
        except BaseException:
            self._post("resume", None, None)  # it may have paused after all
            raise

    def repoint(self, side: Side, deadline: float | None = None) -> None:
        self._post("repoint", side, deadline)

    def verify(self, side: Side, deadline: float | None = None) -> None:
        self._post("verify", side, deadline)

    def resume(self, deadline: float | None = None) -> None:
        self._post("resume", None, deadline)

    def release(self, side: Side) -> None:
        self.repoint(side)
        self.verify(side)
        self.resume()

    def state(self) -> list[Place]:
        return []

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def _post(self, action: str, side: Side | None, deadline: float | None) -> None:
        seconds = SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
        body: dict[str, Any] = {"migration": self._migration, "action": action, "side": side, "seconds": round(seconds, 3)}
        what = f"webhook {httpx.URL(self._settings.url).host}, {action}"
        try:
            answer = self._client().post(self._settings.url, json=body, timeout=max(0.05, seconds))
        except httpx.TimeoutException:
            raise TimedOut(f"{what}: no answer within {math.ceil(seconds * 1000)} ms") from None
        except httpx.HTTPError as error:
            raise CrossfadeError(f"{what}: {' '.join(str(error).split()) or type(error).__name__}") from None
        if not answer.is_success:
            raise CrossfadeError(f"{what}: HTTP {answer.status_code}: {' '.join(answer.text[:200].split()) or answer.reason_phrase}")

    def _client(self) -> httpx.Client:
        """One connection for all acts of a crossing: opening it takes its time."""
        if self._http is None:
            token = self._settings.token.read("drivers.webhook.token").get_secret_value() if self._settings.token else None
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            self._http = httpx.Client(headers=headers, verify=_trusted(self._settings.ca), trust_env=False)
        return self._http


def _trusted(ca: str | None) -> Any:
    if ca is None:
        return True
    import ssl

    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise CrossfadeError(f"drivers.webhook.ca: {ca} cannot be read: {error.strerror}") from None
