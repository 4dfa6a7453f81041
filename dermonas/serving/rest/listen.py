"""A service on a socket until it is told to stop: uvicorn, with patience for slow callers that ends."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import math
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dermonas.errors import ConfigError
from dermonas.serving.rest.door import Door
from dermonas.serving.rest.limits import Limits
from dermonas.serving.rest.refusal import Refusal
from dermonas.serving.rest.routes import Api

_IDLE = 15  # seconds that a connection may rest between requests
_LINGER = 2.0  # seconds to swallow what a refused caller still sends, so that it reads why
_HEADERS = 15.0  # seconds for a request's headers
_FULL = Refusal(429, "too many connections: try again", "connections")


class Impatient(H11Protocol):
    """uvicorn's protocol, which by itself waits for headers, and swallows a refused body, for ever."""

    _patience: asyncio.TimerHandle | None = None
    _lingers = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for headers, not for ever; where too many are connected, say so and hang up."""
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            transport.write(_whole(_FULL))
            transport.close()
            return
        self._within(_HEADERS)

    def handle_events(self) -> None:
        """Stop the clock once headers are here, and start it as the next ones begin to arrive."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._settled()
        elif self.conn.their_state is h11.IDLE and (self._patience is None or self._lingers):
            self._within(_HEADERS)

    def on_response_complete(self) -> None:
        """Where a caller was refused and still sends, hear it out for a moment."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._within(_LINGER)
            self._lingers = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._settled()
        super().connection_lost(exc)

    def _within(self, seconds: float) -> None:
        self._settled()
        self._patience = self.loop.call_later(seconds, self._give_up)

    def _settled(self) -> None:
        self._lingers = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def _whole(refusal: Refusal) -> bytes:
    """Return a response as it goes over the wire, for who is refused before asking."""
    body = json.dumps(refusal.content()).encode()
    phrase = http.HTTPStatus(refusal.status).phrase
    head = f"HTTP/1.1 {refusal.status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again once it has stopped."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises:
        ConfigError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host} port {port} ({reason}): choose another --port or --host") from error


def listen(
    listener: socket.socket,
    door: Door,
    api: Api,
    limits: Limits,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then take no more, answer what is in flight, and return.

    Args:
        listener: See `bind`.
        door: The application.
        api: Told when it stops.
        limits: How many may be connected, and how long a request in flight may take.
        beside: Runs meanwhile.
    """
    longest = math.ceil(limits.body_seconds + limits.seconds) + 1
    config = uvicorn.Config(
        door, http=Impatient, ws="none", lifespan="off", loop="asyncio", log_config=None, access_log=False,
        server_header=False, timeout_keep_alive=_IDLE, timeout_graceful_shutdown=longest,
        limit_concurrency=limits.connections + 1,  # uvicorn counts who has just come, and refuses at the limit itself
    )  # fmt: skip
    asyncio.run(_listen(_Server(config), listener, api, beside))


async def _listen(
    server: _Server,
    listener: socket.socket,
    api: Api,
    beside: Callable[[], Coroutine[Any, Any, None]] | None,
) -> None:
    def stop() -> None:
        server.force_exit = api.stopping  # the second signal
        api.stopping = server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    task = None if beside is None else loop.create_task(beside())
    try:
        await server.serve(sockets=[listener])
    finally:
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
