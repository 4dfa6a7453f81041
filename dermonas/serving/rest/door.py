"""The ASGI application: who may enter, which route, what a refusal looks like, one log line a request."""

from __future__ import annotations

import hmac
import logging
import time
import uuid
from collections.abc import Collection, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Message, Receive, Scope, Send

from dermonas.errors import DermonasError
from dermonas.serving.rest.logs import event, places
from dermonas.serving.rest.metrics import Metrics
from dermonas.serving.rest.refusal import Refusal, refusal_of

OPEN = frozenset({"/ping", "/health"})
"""Routes that need no token: a balancer asks them, and they say nothing but yes or no."""
FACTS = "dermonas.facts"
"""Key of a request's scope: a dictionary of what its log line says besides."""

_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
_GONE = 499  # the log's status of a caller who left; nginx's


class Door:
    """Serves routes.

    Args:
        routes: Starlette's.
        metrics: What counts.
        token: That a caller must bear; "" lets everybody in.
        public: Paths that need none, besides `OPEN`; what lies there must say nothing of models or callers.
    """

    def __init__(
        self, routes: Sequence[BaseRoute], metrics: Metrics, token: str = "", public: Collection[str] = ()
    ) -> None:
        self._router = Router(routes, redirect_slashes=False)
        self._paths = {route.path for route in routes if isinstance(route, Route)}
        self._metrics, self._token, self._public = metrics, token.encode(), OPEN.union(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever happens becomes a response of one line."""
        if scope["type"] != "http":
            return
        started, status = time.perf_counter(), 0
        request_id = uuid.uuid4().hex[:16]
        facts: dict[str, object] = {}
        scope[FACTS], scope["app"] = facts, self  # with an app, the router raises what it cannot find

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()), *_HEADERS, (b"x-request-id", request_id.encode()),
                ]  # fmt: skip
            await send(message)

        try:
            try:
                self._admit(scope)
                await self._router(scope, receive, told)
            except ClientDisconnect:
                status = _GONE
            except Exception as error:  # the last one who can
                refusal = self._refusal(error)
                facts["refused"] = refusal.kind
                self._metrics.refused.labels(refusal.kind).inc()
                if not status:
                    await _response(refusal)(scope, receive, told)
        finally:
            seconds = time.perf_counter() - started
            route = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            level = logging.DEBUG if route in OPEN else logging.INFO
            event(level, "request", id=request_id, route=route, status=status, ms=round(1e3 * seconds, 1), **facts)

    def _admit(self, scope: Scope) -> None:
        if not self._token or scope["path"] in self._public:
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise Refusal(401, "a valid bearer token is needed", "token", {"WWW-Authenticate": "Bearer"})

    def _refusal(self, error: Exception) -> Refusal:
        if isinstance(error, DermonasError):
            return refusal_of(error)
        if isinstance(error, HTTPException):
            lines = {404: "there is no such route", 405: "this route does not know the method"}
            line = lines.get(error.status_code, "the request is wrong")
            return Refusal(error.status_code, line, "route", error.headers)
        event(logging.ERROR, "failure", error=places(error))
        return Refusal(500, "the server failed; its log says where", "failure")


def _response(refusal: Refusal) -> Response:
    return JSONResponse(refusal.content(), refusal.status, refusal.headers)
