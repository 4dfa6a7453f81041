"""The page's routes beside the server's own: its files, the model that answers, its cells, the registered versions."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dermonas.errors import StorageError
from dermonas.serving.rest.release import Release
from dermonas.serving.rest.service import Service
from dermonas.web.cells import cells
from dermonas.web.versions import rows

STATIC = Path(__file__).with_name("static")
INDEX = "index.html"

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Nothing from elsewhere, nothing inline, no text made into markup: whatever a registry, a file or a caller holds, it
# stays text. "blob:" are images that the page makes itself, of chosen files and drawings.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "X-Frame-Options": "DENY",
}
# Seconds that the table of versions is kept: a page loaded again and again does not burden the registry. It is read
# anew once another version answers, so that the page does not call one champion and be answered by the other.
_KEPT = 5.0


class Page:
    """Routes of the page, as `dermonas.serving.rest.routes.Beside`.

    Its files are public: they are the same for everybody, and ask for the token that the other routes need.

    Args:
        service: That answers.
        client: Of the tracking store that holds the model.
        name: Of the registered model.
        most: Versions of the table.

    Raises:
        StorageError: A file of the page cannot be read.
    """

    def __init__(self, service: Service, client: MlflowClient, name: str, most: int) -> None:
        self._service, self._client, self._name, self._most = service, client, name, most
        self._files = _files()
        self._reading = asyncio.Lock()  # one at a time: registry and matplotlib
        self._table: tuple[float, Callable[[], object], list[dict[str, Any]]] = (0.0, lambda: None, [])
        self._drawn: dict[str, Any] = {}

    @property
    def public(self) -> frozenset[str]:
        """Paths that need no token."""
        return frozenset(self._files)

    def routes(self) -> list[BaseRoute]:
        """Return them; each file has a route of its own, so that no path of a request becomes a path of a file."""
        return [
            *(Route(path, self._file, methods=["GET"]) for path in self._files),
            Route("/page/model", self.model, methods=["GET"]),
            Route("/page/cells", self.cells, methods=["GET"]),
            Route("/page/versions", self.versions, methods=["GET"]),
        ]

    async def _file(self, request: Request) -> Response:
        content, media = self._files[request.url.path]
        return Response(content, media_type=media, headers=_HEADERS)

    async def model(self, request: Request) -> Response:
        """Say what answers, with its card, and what may be asked of it."""
        return JSONResponse({**about(self._service.release), "limits": self._limits()}, headers=_HEADERS)

    def _limits(self) -> dict[str, float]:
        limits = self._service.limits
        return {"body_bytes": limits.body_bytes, "pixels": limits.pixels}

    async def cells(self, request: Request) -> Response:
        """Draw the cells of the version that answers; once for each."""
        version = self._service.release.version
        async with self._reading:
            if self._drawn.get("version") != version:
                self._drawn = await self._within(cells, self._client, self._name, version)
            return JSONResponse(self._drawn, headers=_HEADERS)

    async def versions(self, request: Request) -> Response:
        """List the registered versions."""
        async with self._reading:
            until, answering, found = self._table
            if time.monotonic() > until or answering() is not self._service.release:
                answering = weakref.ref(self._service.release)
                found = await self._within(rows, self._client, self._name, self._most)
                self._table = (time.monotonic() + _KEPT, answering, found)
            return JSONResponse({"name": self._name, "versions": found}, headers=_HEADERS)

    async def _within(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run what blocks in a thread, and give up on it after a request's time."""
        try:
            async with asyncio.timeout(self._service.limits.seconds):
                return await asyncio.to_thread(work, *arguments)
        except TimeoutError as error:
            raise StorageError("the registry did not answer in time") from error


def about(release: Release) -> dict[str, Any]:
    """Return what the page says of a version, JSON-able."""
    description = release.served.description
    return {
        **release.about,
        "network": description.name,
        "dataset": description.dataset,
        "dataset_digest": description.dataset_digest,
        "synthetic": description.synthetic,
        "classes": list(description.classes),
        "stored": description.stored,
        "size": description.size,
        "temperature": description.temperature,
        "abstain_below": description.abstain_below,
        "abstain_rule": description.abstain_rule,
        "unfamiliar_above": description.unfamiliar_above,
        "unfamiliar_rule": description.unfamiliar_rule,
        "card": release.card,
    }


def _files() -> dict[str, tuple[bytes, str]]:
    """Return the page's files and media types by path."""
    try:
        files = {path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in STATIC.iterdir() if path.is_file()}
        return {"/": files.pop(INDEX), **{f"/static/{name}": file for name, file in sorted(files.items())}}
    except (OSError, KeyError) as error:
        raise StorageError(f"{STATIC} lacks a file of the page or holds another: install dermonas again") from error
