"""A caller of a running server, by the standard library alone."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import time
from dataclasses import dataclass
from typing import Any

from workplace import PATIENCE, Process


@dataclass(frozen=True)
class Reply:
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def line(self) -> str:
        """A refusal's one line, its form checked."""
        found = self.json
        assert set(found) == {"error_code", "message"}, found
        assert "\n" not in found["message"]
        assert b"Traceback" not in self.body
        return str(found["message"])


@dataclass(frozen=True)
class Caller:
    """Calls one server, a connection a call."""

    port: int
    seconds: float = PATIENCE

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.seconds)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self.call("GET", path)

    def post(self, content: Any, **headers: str) -> Reply:
        """POST /invocations: bytes as they are, anything else as JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.call("POST", "/invocations", body, **{"Content-Type": "application/json", **headers})

    def ask(self, *images: bytes, **params: Any) -> Reply:
        """Ask about encoded images."""
        return self.post(
            {"inputs": {"image": [base64.b64encode(image).decode() for image in images]}, "params": params}
        )

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=self.seconds)


def caller_of(process: Process) -> Caller:
    """Wait until a server listens, and return a caller of it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        said = process.out.read_text() if process.out.exists() else ""
        found = re.search(r"^serving .* at http://127\.0\.0\.1:(\d+)$", said, re.MULTILINE)
        if found:
            return Caller(int(found[1]))
        assert process.poll() is None, process.err.read_text()
        time.sleep(0.02)
    raise AssertionError(process.err.read_text())
