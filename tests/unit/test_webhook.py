"""The webhook driver against an endpoint on loopback."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import CrossfadeError, TimedOut
from pipeline.traffic.webhook import Settings, Webhook


class Switch(http.server.ThreadingHTTPServer):
    """Remembers what it was asked; answers as it is told to."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answers: dict[str, tuple[int, str, float]] = {}
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Switch

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body | {"token": self.headers["Authorization"]})
        status, text, seconds = self.server.answers.get(body["action"], (204, "", 0.0))
        time.sleep(seconds)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Switch, Webhook]]:
    monkeypatch.setenv("SWITCH_TOKEN", "s3cret-of-the-switch")
    server = Switch()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/shop"
    driver = Webhook(Settings.model_validate({"url": url, "token": {"env": "SWITCH_TOKEN"}}), "shop")
    yield server, driver
    driver.close()
    server.shutdown()
    server.server_close()


def test_each_act_is_one_post(switch: tuple[Switch, Webhook]) -> None:
    server, driver = switch
    assert driver.check() == []
    driver.pause(time.monotonic() + 5)
    driver.repoint("target")
    driver.verify("target")
    driver.resume()
    assert [(a["action"], a["side"]) for a in server.asked] == [
        ("check", None),
        ("pause", None),
        ("repoint", "target"),
        ("verify", "target"),
        ("resume", None),
    ]
    assert {a["token"] for a in server.asked} == {"Bearer s3cret-of-the-switch"} and {a["migration"] for a in server.asked} == {"shop"}
    assert 4 < server.asked[1]["seconds"] <= 5


def test_s31_what_is_refused_or_late_is_said_and_resumed(switch: tuple[Switch, Webhook]) -> None:
    server, driver = switch
    server.answers = {"pause": (409, "two\nclients do not leave", 0), "check": (503, "", 0)}
    with pytest.raises(CrossfadeError, match=r"webhook 127\.0\.0\.1, pause: HTTP 409: two clients do not leave"):
        driver.pause(time.monotonic() + 5)
    assert "HTTP 503" in driver.check()[0]
    server.answers = {"pause": (204, "", 1.5)}
    with pytest.raises(TimedOut, match="pause: no answer within"):
        driver.pause(time.monotonic() + 0.3)
    assert [a["action"] for a in server.asked] == ["pause", "resume", "check", "pause", "resume"]
    server.shutdown()
    server.server_close()
    driver.close()
    assert "s3cret" not in str(driver.check())


@pytest.mark.parametrize("url", ["ftp://x/y", "nothing", "https://a:b@x/y", "https://"])
def test_urls_that_will_not_do(url: str) -> None:
    with pytest.raises(ValidationError, match=r"must be a URL|holds a password"):
        Settings.model_validate({"url": url})
