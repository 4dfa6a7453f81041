"""Recipes: one YAML file of named settings for all entry points, overridden by the command line.

A recipe has shared keys (dataset, data, seed, mode) and one section per entry point. Every section is
checked whichever entry point reads it, so a misspelt key is found at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import yaml

from dermonas.data.config import PrepareConfig, output_folder
from dermonas.errors import ConfigError
from dermonas.search.config import SearchConfig
from dermonas.training.config import BenchmarkConfig, TrainConfig
from pipelines.app_config import AppConfig
from pipelines.audit_config import AuditConfig
from pipelines.compare_config import CompareConfig
from pipelines.controller_pretrain_config import ControllerPretrainConfig
from pipelines.controller_report_config import ControllerReportConfig
from pipelines.controller_search_config import ControllerSearchConfig
from pipelines.describe_config import DescribeConfig
from pipelines.evaluate_config import EvaluateConfig
from pipelines.explain_config import ExplainConfig
from pipelines.pipeline_config import PipelineConfig
from pipelines.predict_config import PredictConfig
from pipelines.register_config import RegisterConfig
from pipelines.robustness_config import RobustnessConfig
from pipelines.serve_config import ServeConfig

Config = TypeVar("Config")

STAGES: dict[str, type[Any]] = {
    "prepare": PrepareConfig,
    "search": SearchConfig,
    "describe": DescribeConfig,
    "train": TrainConfig,
    "benchmark": BenchmarkConfig,
    "evaluate": EvaluateConfig,
    "explain": ExplainConfig,
    "compare": CompareConfig,
    "register": RegisterConfig,
    "serve": ServeConfig,
    "predict": PredictConfig,
    "app": AppConfig,
    "pipeline": PipelineConfig,
    "robustness": RobustnessConfig,
    "controller-pretrain": ControllerPretrainConfig,
    "controller-search": ControllerSearchConfig,
    "controller-report": ControllerReportConfig,
    "audit": AuditConfig,
}
# A shared key and what each entry point calls it.
SHARED: dict[str, dict[str, str]] = {
    "dataset": {"prepare": "dataset"},
    "data": {"prepare": "out", "search": "data", "train": "data", "benchmark": "data", "audit": "data"},
    "seed": {
        "prepare": "seed",
        "search": "seed",
        "train": "seed",
        "benchmark": "seed",
        "register": "seed",
        "robustness": "first_seed",
        "controller-pretrain": "seed",
        "controller-search": "first_seed",  # several seeds follow it, as those of train follow its seed
        "controller-report": "seed",
        "audit": "seed",
    },
    "mode": {"search": "mode", "controller-search": "mode"},
}
DEFAULT = Path(__file__).parent / "recipes" / "phantom.yaml"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A recipe as read: the file's name, and each entry point's own values."""

    name: str
    path: Path
    stages: Mapping[str, Mapping[str, Any]]


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        ConfigError: If the file is missing, no YAML mapping, or has an unknown key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(p.name for p in DEFAULT.parent.glob("*.yaml")))
        raise ConfigError(f"recipe {path}: {error.strerror}; recipes in {DEFAULT.parent}: {known}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"recipe {path} must be a mapping of keys, not {type(content).__name__}")
    _known(f"recipe {path}", "", content, {*SHARED, *STAGES})
    stages: dict[str, dict[str, Any]] = {}
    for stage, config in STAGES.items():
        section = content.get(stage) or {}
        if not isinstance(section, dict):
            raise ConfigError(f"recipe {path}: {stage} must be a mapping of keys")
        _known(f"recipe {path}", f"{stage}.", section, {field.name for field in dataclasses.fields(config)})
        shared = {names[stage]: content[key] for key, names in SHARED.items() if stage in names and key in content}
        stages[stage] = {**shared, **section}
    return Recipe(path.stem, path, stages)


def _known(where: str, prefix: str, keys: Iterable[str], allowed: set[str]) -> None:
    for key in keys:
        if key not in allowed:
            close = difflib.get_close_matches(str(key), sorted(allowed), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(sorted(allowed))}"
            raise ConfigError(f"{where}: unknown key '{prefix}{key}'; {hint}")


def read_config(stage: str, argv: Sequence[str]) -> tuple[Any, Recipe]:
    """Read an entry point's configuration: recipe, then command line.

    Args:
        stage: Name of the entry point.
        argv: Arguments without the program's name: `--config FILE` and `--key value` in any order.

    Returns:
        The validated configuration and the recipe.

    Raises:
        ConfigError: One line that names the key, the value and what is allowed.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path, default=DEFAULT)
    found, rest = first.parse_known_args(list(argv))
    recipe = read_recipe(found.config)
    config = parse(STAGES[stage], recipe.stages[stage], rest, stage)
    return config, recipe


def parse(kind: type[Config], defaults: Mapping[str, Any], argv: Sequence[str], stage: str) -> Config:
    """Build a configuration dataclass from a recipe's values and command-line words; none may be abbreviated."""
    given = {word.split("=")[0][2:] for word in argv if word.startswith("--")} - {"help"}
    _known("command line", "--", given, {field.name for field in dataclasses.fields(STAGES[stage])})
    parser = jsonargparse.ArgumentParser(prog=f"python -m pipelines.{stage.replace('-', '_')}", exit_on_error=False)
    parser.add_argument("--config", type=str, help="recipe, a YAML file (default: the phantom recipe)")
    parser.add_class_arguments(kind, as_group=False)
    try:
        recipe = parser.parse_object(dict(defaults))  # defaults that are only set are not checked
        values = parser.parse_args(list(argv), namespace=recipe).as_dict()
    except (argparse.ArgumentError, jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise ConfigError(_one_line(str(error))) from error
    values.pop("config")
    return kind(**values)


def by_step(argv: Sequence[str], steps: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Part the words of a command line that goes several steps: its own, and those of each step.

    Args:
        argv: `--key value` is the entry point's own, `--step.key value` or `--step.key=value` a step's.
        steps: Names of the steps.
    """
    mine: list[str] = []
    overrides: dict[str, list[str]] = {}
    words = iter(argv)
    for word in words:
        step, dot, key = word.removeprefix("--").partition(".")
        if not (word.startswith("--") and dot and step in steps):
            mine.append(word)
            continue
        given = [f"--{key}"] if "=" in key else [f"--{key}", next(words, "")]
        overrides.setdefault(step, []).extend(given)
    return mine, overrides


def prepared_folder(recipe: Recipe) -> Path:
    """Return the folder that the recipe's prepare writes to."""
    return output_folder(parse(PrepareConfig, recipe.stages["prepare"], [], "prepare"))


def plain(config: Any) -> dict[str, Any]:
    """Return a configuration as YAML-able values, paths as text."""
    return {key: _plain(value) for key, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _one_line(message: str) -> str:
    """Keep a parser's message, drop its layout."""
    return " ".join(part.strip(" -") for part in message.splitlines() if part.strip())
