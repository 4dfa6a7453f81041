"""Randomness without global state.

Every draw comes from a generator keyed by (seed, purpose, ...): the same key gives the same numbers
whatever ran before, so a resumed run repeats an uninterrupted one without saved generator states.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Key = str | int


def derive(seed: int, *keys: Key) -> int:
    """Derive an independent 63-bit seed from a seed and a path of keys.

    Args:
        seed: The run's seed, any integer.
        keys: Purpose, epoch, step, module path: what tells this draw from the others.

    Returns:
        An integer in [0, 2**63).
    """
    text = "\x1f".join([str(int(seed)), *(f"{type(key).__name__}:{key}" for key in keys)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def numpy_generator(seed: int, *keys: Key) -> np.random.Generator:
    """Return a NumPy generator keyed by (seed, *keys)."""
    return np.random.default_rng(derive(seed, *keys))


def torch_generator(seed: int, *keys: Key) -> torch.Generator:
    """Return a CPU torch generator keyed by (seed, *keys).

    Draws stay on the CPU on purpose: CPU and CUDA runs then see the same random numbers.
    """
    import torch

    return torch.Generator().manual_seed(derive(seed, *keys))


@contextlib.contextmanager
def forked(seed: int, *keys: Key) -> Iterator[None]:
    """Run a block with torch's global generators seeded by (seed, *keys), then restore them.

    For code that draws from torch's global state and takes no generator (module constructors,
    dropout). All visible CUDA devices are forked too.
    """
    import torch

    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, *keys) & 0xFFFF_FFFF)
        yield
