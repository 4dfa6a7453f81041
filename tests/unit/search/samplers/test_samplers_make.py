from __future__ import annotations

import subprocess
import sys

import pytest
from sampler_fakes import Product

from dermonas.controller.model import Controller, ControllerSettings
from dermonas.controller.pool import Target
from dermonas.errors import ConfigError
from dermonas.search.samplers import NAMES, make
from dermonas.search.samplers.evolution import EvolutionSampler, EvolutionSettings
from dermonas.search.samplers.local import LocalSampler
from dermonas.search.samplers.nao import NaoSampler, NaoSettings
from dermonas.search.samplers.random import RandomSampler
from dermonas.search.samplers.tpe import PRESETS, TPESampler
from dermonas.space.nasbench201 import NasBench201Space

DOMAIN = Product((2, 2))


def test_every_name_builds_what_it_says():
    kinds = {
        "tpe": TPESampler, "random": RandomSampler, "evolution": EvolutionSampler, "local": LocalSampler,
        "nao": NaoSampler,
    }  # fmt: skip
    assert set(kinds) == set(NAMES)
    for name, kind in kinds.items():
        domain = NasBench201Space() if name == "nao" else DOMAIN
        for mode in ("paper", "modern"):
            sampler = make(name, domain, 7, mode, zero_start=True, controller=Controller(ControllerSettings(6, 6)))
            assert type(sampler) is kind
            assert (sampler.name, sampler.seed, sampler.mode, sampler.zero_start) == (name, 7, mode, True)


def test_the_preset_reaches_the_sampler():
    for preset, settings in PRESETS.items():
        sampler = make("tpe", DOMAIN, 0, "paper", tpe=preset)
        assert isinstance(sampler, TPESampler)
        assert sampler.settings == settings


def test_an_evolutions_numbers_reach_it():
    sampler = make("evolution", DOMAIN, 0, population=7, tournament=3)
    assert isinstance(sampler, EvolutionSampler)
    assert sampler.settings == EvolutionSettings(7, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "grid"}, "'grid': use one of tpe, random, evolution, local"),
        ({"mode": "old"}, "'old': use paper or modern"),
        ({"tpe": "fast"}, "'fast': use paper or code"),
        ({"tpe": "fast", "name": "random"}, "'fast': use paper or code"),
        ({"population": 0}, "population is 0: use 1 or more"),
        ({"tournament": 0, "name": "evolution"}, "tournament is 0: use 1 or more"),
        ({"name": "nao"}, "sampler is 'nao': give a controller"),
        ({"name": "nao", "controller": Controller(ControllerSettings(6, 6))}, "no controller speaks of product"),
    ],
)
def test_unknown_names_say_what_is_allowed(changes, message):
    with pytest.raises(ConfigError, match=message):
        make(**{"name": "tpe", "domain": DOMAIN, "seed": 0, "mode": "paper", **changes})


def test_the_package_imports_nothing_heavy():
    code = "import dermonas.search.samplers, sys; sys.exit(any(m in sys.modules for m in ('optuna', 'torch', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_controller_of_another_space_is_refused():
    speaks = Controller(ControllerSettings(7, 27))
    with pytest.raises(ConfigError, match="speaks 27 tokens of 7 symbols, nasbench201 needs 6 of 6"):
        make("nao", NasBench201Space(), 0, controller=speaks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"initial": 1}, "initial is 1: use 2 or more"),
        ({"seeds": 0}, "seeds is 0: use 1 or more"),
        ({"count": 0}, "count: 0 is not possible"),
        ({"neighbours": -1}, "neighbours: -1 is not possible"),
        ({"near": 1.1}, "near: 1.1 is not possible"),
        ({"at_least": 11}, "at_least: 11 is more than count"),
        ({"target": Target(0.0, 1.0)}, "worst 0.0 is below best 1.0"),
    ],
)
def test_impossible_settings_of_nao_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        NaoSettings(**changes)
