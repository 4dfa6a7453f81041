"""Answers about image files, many of them: decoded ahead by a pool of threads, bad files told and not fatal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dermonas.errors import ImageError
from dermonas.serving.served import BATCH, Served


def answer_files(
    served: Served, files: Sequence[Path], pool: ThreadPoolExecutor, *, tta: bool, max_pixels: int
) -> Iterator[dict[str, Any]]:
    """Yield one answer a file, in order: "error" ("" for none), and where there is none "label", "probability",
    "abstain", "reason" and "probabilities", a list by class in label order.

    The next batch is decoded while one runs; no more than two are held.

    Raises:
        ConfigError: `tta` of a model that was trained without flips.
    """

    def view(path: Path) -> Tensor | str:
        try:
            image = path.read_bytes()
        except OSError as error:
            return f"unreadable ({error.strerror or type(error).__name__})"
        try:
            return served.view(image, "image", max_pixels=max_pixels)
        except ImageError as error:
            return str(error).removeprefix("image: ")

    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    ahead = [pool.submit(view, path) for path in batches[0]] if batches else []
    for number in range(len(batches)):
        seen = [one.result() for one in ahead]
        ahead = [pool.submit(view, path) for path in batches[number + 1]] if number + 1 < len(batches) else []
        yield from _answers(served, seen, tta)


def _answers(served: Served, seen: Sequence[Tensor | str], tta: bool) -> Iterator[dict[str, Any]]:
    views = [one for one in seen if isinstance(one, Tensor)]
    classes = served.description.classes
    found: Iterator[dict[str, Any]] = iter(())
    if views:
        output = served.logits(torch.stack(views), tta=tta)
        listed = served.probabilities(output.logits).tolist()
        answers = served.answers(output, top_k=len(classes))
        found = iter([{**answer, "probabilities": row} for answer, row in zip(answers, listed, strict=True)])
    for one in seen:
        if isinstance(one, str):
            yield {"error": one}
        else:
            answer = next(found)
            keys = ("label", "probability", "abstain", "reason", "probabilities")
            yield {"error": "", **{key: answer[key] for key in keys}}
