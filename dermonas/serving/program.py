"""A network as a torch.export program: weights and graph in one archive that holds no pickle.

The program gives logits and the last feature map, from which the class activation map follows without gradients,
and takes any batch. It needs torch alone: neither the code that built the network nor timm.
"""

from __future__ import annotations

import copy
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from dermonas.errors import ConfigError, StorageError

Program = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps float32 (batch, 3, size, size) to logits (batch, classes) and the last feature map (batch, features, h, w)."""

TOLERANCE = 1e-5
"""Largest difference between program and network, absolute and relative. Source: issue 4."""
_BATCHES = (1, 2, 5)  # checked; 2 is also the batch that is traced, for torch.export would make 0 and 1 constants

# What an archive of plain tensors consists of, behind its first folder. Anything else, such as a custom object, an
# opaque value or compiled code, would be unpickled or run while it loads.
_PLAIN = re.compile(
    r"(data/weights/weight_\d+|data/constants/tensor_\d+|models/model\.json|archive_format|archive_version|byteorder"
    r"|data/(weights/model_weights|constants/model_constants)_config\.json|\.data/(version|serialization_id))"
)
_EMPTY = "data/sample_inputs/model.pt"  # always written; without example inputs it has no content


class _LogitsAndMap(nn.Module):
    """A network whose forward is `logits_and_map`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.network.logits_and_map(images)  # type: ignore[operator]
        return logits, features


def export_program(network: nn.Module, size: int, path: Path) -> Path:
    """Write a network in evaluation mode as a program for float32 on the CPU, and check that it answers the same.

    Args:
        network: Has `logits_and_map`; an auxiliary head is left out. It is not changed.
        size: Side of the input in pixels.
        path: Ends in ".pt2".

    Raises:
        ConfigError: The network cannot be exported, or its program differs from it by more than `TOLERANCE`.
        StorageError: The disk refuses.

    Source: DESIGN 4.
    """
    network = copy.deepcopy(network).cpu().float().eval()
    if getattr(network, "auxiliary", None) is not None:
        network.auxiliary = None  # type: ignore[assignment]  # serves training alone
    example = torch.zeros(2, 3, size, size)
    dynamic = {"images": {0: torch.export.Dim("batch", min=1)}}
    try:
        with torch.no_grad():
            program = torch.export.export(_LogitsAndMap(network), (example,), dynamic_shapes=dynamic)
    except Exception as error:  # torch.export raises almost anything
        raise ConfigError(f"the network cannot be exported ({' '.join(str(error).split())[:300]})") from error
    program.example_inputs = None  # they would be pickled
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # holds paths of this machine
    fresh = path.with_name(f".{path.stem}.partial.pt2")
    try:
        torch.export.save(program, fresh)
        _check_equal(network, load_program(fresh), size)
        return fresh.replace(path)
    except (OSError, RuntimeError) as error:
        raise StorageError(f"cannot write {path}: {' '.join(str(error).split())[:200]}") from error
    finally:
        fresh.unlink(missing_ok=True)


def _check_equal(network: nn.Module, program: Program, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for batch in _BATCHES:
        images = torch.randn(batch, 3, size, size, generator=generator)
        with torch.inference_mode():
            wanted, found = network.logits_and_map(images), program(images)  # type: ignore[operator]
        for name, a, b in zip(("logits", "feature map"), wanted, found, strict=True):
            if a.shape != b.shape or not torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE):
                raise ConfigError(f"the exported program's {name} differ from the network's for a batch of {batch}")


def load_program(path: Path) -> Program:
    """Load a program on the CPU, refusing every archive that would be unpickled.

    No pickle is not yet no harm: a graph is code too. Load only what the registry's digest vouches for.

    Raises:
        StorageError: It is absent, damaged, or holds more than plain tensors and a graph.
    """
    check_plain(path)
    try:
        module = torch.export.load(path).module()
    except Exception as error:  # a damaged archive raises almost anything
        raise StorageError(f"{path} is damaged ({' '.join(str(error).split())[:200]}): register again") from error
    return module


def check_plain(path: Path) -> None:
    """Refuse an archive in which a loader would find something to unpickle.

    Raises:
        StorageError: See `load_program`; names the first such member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.partition("/")[2]
                empty = name == _EMPTY and member.file_size == 0
                if not empty and (not _PLAIN.fullmatch(name) or _pickled(archive, member)):
                    raise StorageError(f"{path} holds {name}, which would be unpickled: register the model again")
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist: register the model again") from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StorageError(f"{path} is damaged ({error}): register the model again") from error


def _pickled(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Tell whether a table of tensors marks one of them as pickled."""
    if not member.filename.endswith("_config.json"):
        return False
    entries = json.loads(archive.read(member)).get("config", {}).values()
    return any(entry.get("use_pickle") is not False for entry in entries)
