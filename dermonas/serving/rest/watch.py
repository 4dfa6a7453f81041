"""Looks up again and again which version should be served, and lets it take over once it is loaded and tried."""

from __future__ import annotations

import asyncio
import logging

from dermonas.errors import DermonasError
from dermonas.serving.rest.logs import event
from dermonas.serving.rest.release import Release, Source, Wanted
from dermonas.serving.rest.service import Service

_MOST = 64  # a version that failed is tried again after 1, 2, 4, ... this many looks


class Watch:
    """Follows an alias. What fails leaves the release that answers where it is.

    Args:
        source: Which version, and its files.
        service: Where it takes over.
        seconds: From one look to the next.
    """

    def __init__(self, source: Source, service: Service, seconds: float) -> None:
        self._source, self._service, self._seconds = source, service, seconds
        self._failed: Wanted | None = None
        self._failures = self._rest = 0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            await self.look()

    async def look(self) -> None:
        """Look once."""
        try:
            wanted = await asyncio.to_thread(self._source.wanted)
        except DermonasError as error:
            self._tell("registry not read", error)
            return
        now = self._service.release
        if wanted == Wanted(now.version, now.digest):
            self._failed, self._failures = None, 0
            return
        if wanted == self._failed and self._rest:
            self._rest -= 1
            return
        try:
            release = await asyncio.to_thread(Release.of, self._source, wanted)
        except DermonasError as error:
            self._failures = self._failures + 1 if wanted == self._failed else 0
            self._failed, self._rest = wanted, min(1 << self._failures, _MOST) - 1
            self._tell("version refused", error, version=wanted.version, serving=now.version)
            return
        self._service.swap(release)
        event(logging.INFO, "version took over", version=release.version, before=now.version, digest=release.digest)

    def _tell(self, name: str, error: DermonasError, **fields: str) -> None:
        self._service.metrics.watch_failures.inc()
        event(logging.ERROR, name, message=str(error), **fields)
