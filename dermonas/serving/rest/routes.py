"""The routes: /invocations, /ping and /health, /version, /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, Gauge
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dermonas.serving.rest.door import FACTS
from dermonas.serving.rest.refusal import Refusal
from dermonas.serving.rest.service import Service

_AGAIN = {"Retry-After": "1"}
_CLOSE = {"Connection": "close"}


class Beside(Protocol):
    """Routes that stand beside the server's own."""

    @property
    def public(self) -> frozenset[str]:
        """Paths of those that need no token."""

    def routes(self) -> list[BaseRoute]:
        """Return them."""


class Places:
    """So many requests at a time, and no queue: who finds no place is told at once.

    Args:
        most: Places.
        taken: Shows how many are taken.
    """

    def __init__(self, most: int, taken: Gauge) -> None:
        self._most, self._taken, self._count = most, taken, 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            Refusal: 429, there is none.
        """
        if self._count >= self._most:
            raise Refusal(429, "too many requests at the same time: ask again in a second", "busy", _AGAIN)
        self._count += 1
        self._taken.inc()
        try:
            yield
        finally:
            self._count -= 1
            self._taken.dec()


class Api:
    """Routes over a service; `stopping` says that no more should come."""

    def __init__(self, service: Service) -> None:
        limits, metrics = service.limits, service.metrics
        self.service, self.stopping = service, False
        self._arriving = Places(limits.arriving, metrics.arriving)
        self._answering = Places(limits.requests, metrics.answering)

    def routes(self) -> list[BaseRoute]:
        """Return them."""
        return [
            Route("/invocations", self.invocations, methods=["POST"]),
            Route("/ping", self.health, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/version", self.version, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    async def invocations(self, request: Request) -> Response:
        """Answer MLflow's request formats."""
        facts, service = request.scope[FACTS], self.service
        _check_headers(request)
        with self._arriving.one():
            body = await self._body(request)
        facts["bytes"] = len(body)
        with self._answering.one():
            try:
                async with asyncio.timeout(service.limits.seconds):
                    found = await service.answer(body)
            except TimeoutError:
                line = f"no answer within {service.limits.seconds:g} s: ask again, or for fewer images"
                raise Refusal(503, line, "seconds", _AGAIN) from None
        facts.update(images=found.images, abstained=found.abstained, version=found.version)
        service.metrics.images.inc(found.images)
        service.metrics.abstained.inc(found.abstained)
        return Response(found.body, media_type="application/json")

    async def _body(self, request: Request) -> bytes:
        limits = self.service.limits
        too_long = Refusal(413, f"the body is longer than {limits.body_mib:g} MiB", "bytes")
        stated = request.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > limits.body_bytes:
            raise too_long
        body = bytearray()
        try:
            async with asyncio.timeout(limits.body_seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limits.body_bytes:
                        raise too_long
        except TimeoutError:
            line = f"the body did not arrive within {limits.body_seconds:g} s"
            raise Refusal(400, line, "slow", _CLOSE) from None
        return bytes(body)

    async def health(self, request: Request) -> Response:
        """Say whether requests are welcome."""
        return JSONResponse({"status": "stopping" if self.stopping else "ok"}, 503 if self.stopping else 200)

    async def version(self, request: Request) -> Response:
        """Say which model answers."""
        release = self.service.release
        description = release.served.description
        return JSONResponse(
            {
                **release.about,
                "network": description.name,
                "dataset": description.dataset,
                "synthetic": description.synthetic,
                "classes": list(description.classes),
            }
        )

    async def metrics(self, request: Request) -> Response:
        """Say what was counted, for Prometheus."""
        return Response(self.service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _check_headers(request: Request) -> None:
    """Refuse a body that is no plain JSON before it is read; a compressed one could grow without bound."""
    media, *parameters = [part.strip().lower() for part in request.headers.get("content-type", "").split(";")]
    if media != "application/json" or any(one.replace('"', "") != "charset=utf-8" for one in parameters if one):
        raise Refusal(415, "the content type must be application/json in UTF-8", "media")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refusal(415, "the body must not be compressed", "media")
