"""From a request's body to its answer: read and decode in a pool of threads, run in batches, word the answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dermonas.errors import DermonasError, ImageError
from dermonas.serving.request import Parameters
from dermonas.serving.rest.batches import Batches
from dermonas.serving.rest.formats import Asked, read
from dermonas.serving.rest.limits import Limits
from dermonas.serving.rest.logs import event, places
from dermonas.serving.rest.metrics import Metrics
from dermonas.serving.rest.pixels import stacked
from dermonas.serving.rest.release import Release
from dermonas.serving.served import BATCH, Output

Value = TypeVar("Value")
Crop = NDArray[np.uint8]


@dataclass(frozen=True)
class Answered:
    """An answer, and what may be said of it without its content.

    Attributes:
        body: JSON.
        images: Rows.
        abstained: Rows on which the model abstained.
        version: Which answered.
    """

    body: bytes
    images: int
    abstained: int
    version: str


class Service:
    """Answers requests with one release, which another one may replace meanwhile.

    Args:
        release: The first one.
        limits: Bounds.
        threads: That read and decode.
        metrics: What counts.
    """

    def __init__(self, release: Release, limits: Limits, threads: int, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._batches = Batches(metrics.batches.observe)
        self._show(release)

    def _show(self, release: Release) -> None:
        self.release = release
        self.metrics.model(release.served.description.registered, release.version, release.digest)

    def swap(self, release: Release) -> None:
        """Answer with another release from the next request on; those that began keep the one they began with."""
        self._show(release)
        self.metrics.swaps.inc()

    def close(self) -> None:
        """End the threads, once what they do is done."""
        self._pool.shutdown(cancel_futures=True)
        self._batches.close()

    async def answer(self, body: bytes) -> Answered:
        """Answer a request.

        Raises:
            DermonasError: It cannot be answered; see `refusal_of`. Of several bad rows the first is named.
        """
        release = self.release
        asked, first = await self._in_pool(self._begin, release, body)
        others = [self._in_pool(self._crop, release, asked, row) for row in range(1, len(asked.images))]
        crops = [first, *await _all(others)]
        served, tta = release.served, asked.parameters.tta
        steps = [
            asyncio.wrap_future(self._batches.submit(served, stacked(crops[start : start + BATCH]), tta=tta))
            for start in range(0, len(crops), BATCH)
        ]
        outputs = await _all(steps)
        return await self._in_pool(_worded, release, outputs, asked.parameters)

    def _begin(self, release: Release, body: bytes) -> tuple[Asked, Crop]:
        asked = read(body, self.limits.rows)
        return asked, self._crop(release, asked, 0)

    def _crop(self, release: Release, asked: Asked, row: int) -> Crop:
        image, most = asked.image(row), self.limits.pixels
        try:
            return release.served.crop(image, f"row {row}: image", max_pixels=most, strict=True)
        except DermonasError:
            raise
        except Exception as error:  # what a decoder did not foresee of a stranger's file is the file's fault
            event(logging.WARNING, "decoder failed", error=places(error))
            raise ImageError(f"row {row}: image: corrupt") from None

    def _in_pool(self, work: Callable[..., Value], *arguments: Any) -> Awaitable[Value]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)


async def _all(parts: Sequence[Awaitable[Value]]) -> list[Value]:
    """Await all of them; of several errors the first part's is raised."""
    found = await asyncio.gather(*parts, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return [one for one in found if not isinstance(one, BaseException)]


def _worded(release: Release, outputs: Sequence[Output], parameters: Parameters) -> Answered:
    answers = [
        {**answer, **release.about}
        for output in outputs
        for answer in release.served.answers(output, top_k=parameters.top_k, cam=parameters.cam)
    ]
    body = json.dumps({"predictions": answers}).encode()
    return Answered(body, len(answers), sum(answer["abstain"] for answer in answers), release.version)
