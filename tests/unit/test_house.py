"""The house: project file, environment, import rules, links, and the size of files."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml
from mlflow.projects._project_spec import Project, load_project
from mlflow.utils import PYTHON_VERSION
from mlflow.utils.environment import _PythonEnv
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted([*(ROOT / "dermonas").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])
HEAVY = (
    "torch", "torchvision", "mlflow", "optuna", "lightning", "timm", "matplotlib", "pandas", "sklearn", "cv2",
    "pytorch_metric_learning", "umap", "starlette", "uvicorn", "prometheus_client",
)  # fmt: skip


@pytest.fixture(scope="module")
def project() -> Project:
    return load_project(str(ROOT))


def _requirements(name: str) -> dict[str, Requirement]:
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {requirement.name.lower(): requirement for requirement in found}


def test_entry_points_declare_config_alone_and_name_a_module(project):
    points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert {"main", "prepare", "search", "describe"} <= set(points)
    for name in points:
        point = project.get_entry_point(name)
        assert list(point.parameters) == ["config"]
        # A path would be resolved against the caller's folder: the default would fail from elsewhere.
        assert point.parameters["config"].type == "string"
        assert (ROOT / point.parameters["config"].default).is_file()
        module = re.fullmatch(r"python -m (pipelines\.\w+) --config \{config\}", point.command)
        assert module is not None
        assert (ROOT / f"{module[1].replace('.', '/')}.py").is_file()
    assert project.get_entry_point("main").command == project.get_entry_point("search").command


def test_undeclared_parameters_arrive_as_options_and_nothing_else_does(project, tmp_path):
    search = project.get_entry_point("search")
    alone = search.compute_command({"config": "my recipe.yaml"}, str(tmp_path))
    assert alone == "python -m pipelines.search --config 'my recipe.yaml'"
    more = search.compute_command({"trials": "20", "study": "a b"}, str(tmp_path))
    assert more == "python -m pipelines.search --config pipelines/recipes/phantom.yaml --trials 20 --study 'a b'"


def test_the_project_environment_takes_the_running_interpreter(project):
    assert project.env_type == "python_env"
    assert "python" not in yaml.safe_load(Path(project.env_config_path).read_text())
    environment = _PythonEnv.from_yaml(project.env_config_path)
    assert environment.python == PYTHON_VERSION
    assert environment.dependencies == ["-r requirements.txt"]


def test_every_dependency_is_pinned_within_its_range():
    pinned = _requirements("requirements.txt")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {Requirement(text).name for text in wanted} == set(pinned)
    for text in wanted:
        requirement = Requirement(text)
        pin = pinned[requirement.name]
        assert [clause.operator for clause in pin.specifier] == ["=="], pin
        assert requirement.specifier.contains(next(iter(pin.specifier)).version), text
        assert pin.extras == requirement.extras
    for pin in _requirements("requirements-dev.txt").values():
        assert [clause.operator for clause in pin.specifier] == ["=="], pin


def _python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_no_package_imports_anything_heavy():
    code = """
import importlib, json, pkgutil, sys
import dermonas, pipelines
names = ["dermonas", "dermonas.errors", "dermonas.events", "dermonas.seeding"]
for root in (dermonas, pipelines):
    names += [found.name for found in pkgutil.walk_packages(root.__path__, root.__name__ + ".") if found.ispkg]
for name in names:
    importlib.import_module(name)
print(json.dumps([names, sorted({name.split(".")[0] for name in sys.modules})]))
"""
    names, loaded = json.loads(_python(code))
    assert len(names) > 10
    assert not set(HEAVY) & set(loaded)


def test_imaging_imports_pillow_numpy_and_torch_alone():
    allowed = {"PIL", "numpy", "torch", "dermonas", *sys.stdlib_module_names}
    for path in (ROOT / "dermonas" / "imaging").rglob("*.py"):
        extra = {"pydicom"} if path.name == "dicom.py" else set()  # imported where a file needs it
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed | extra, path


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-logo", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    for name in ("dermonas", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_import_rules_hold(copy):
    done = _lint_imports(copy)
    assert done.returncode == 0, done.stdout + done.stderr


FAULTS = [
    ("dermonas.imaging.upward", "from dermonas.data import manifest", "Imports point downward"),
    ("dermonas.data.sideways", "from dermonas.nn import cell", "Imports point downward"),
    ("dermonas.newcomer", "", "Imports point downward"),
    ("dermonas.nn.entry", "import pipelines.search", "The library never imports an entry point"),
    ("dermonas.search.tracked", "import mlflow", "MLflow only"),
    ("pipelines.sampled", "from optuna import samplers", "Optuna only"),
    ("dermonas.nn.pretrained", "def f():\n    import timm", "timm only"),
    ("dermonas.serving.trained", "from dermonas.training import record", "Serving imports imaging"),
    ("dermonas.objective.trained", "import lightning.pytorch", "Lightning only"),
    ("dermonas.nn.explained", "import pytorch_grad_cam", "grad-cam only"),
    ("dermonas.data.augmented", "import albumentations", "albumentations only"),
    ("dermonas.contrastive.mined", "from pytorch_metric_learning import miners", "pytorch-metric-learning only"),
    ("dermonas.comparison.spread", "def f():\n    from umap import UMAP", "umap only"),
    ("pipelines.spread", "import umap", "umap only"),
    ("dermonas.serving.open", "import starlette.routing", "Starlette, uvicorn"),
    ("pipelines.opened", "import uvicorn", "Starlette, uvicorn"),
    ("dermonas.space.heavy", "import torch.nn", "No torch in space"),
    ("dermonas.imaging.tables", "import pandas", "Imaging needs"),
    ("dermonas.search.tested", "import hyperopt", "What only tests need"),
]


@pytest.fixture(scope="module")
def faulty(copy) -> str:
    """Return what lint-imports says of a copy with every fault planted; one run, for it takes a second."""
    paths = [copy / f"{module.replace('.', '/')}.py" for module, _, _ in FAULTS]
    try:
        for path, (_, code, _) in zip(paths, FAULTS, strict=True):
            path.write_text(f"{code}\n")
        done = _lint_imports(copy)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("module", "code", "rule"), FAULTS)
def test_a_planted_fault_breaks_its_rule(faulty, module, code, rule):
    verdicts, _, report = faulty.partition("Broken contracts\n")
    assert re.search(rf"^{re.escape(rule)}.* BROKEN", verdicts, re.MULTILINE), verdicts
    section = re.search(
        rf"^{re.escape(rule)}[^\n]*\n-+\n(.*?)(?=^[^\n]+\n-{{10,}}\n|\Z)", report, re.MULTILINE | re.DOTALL
    )
    assert section is not None, report
    assert module in section[1], section[1]


def test_allowed_places_are_allowed(copy):
    allowed = {
        "tracking": "mlflow",
        "serving": "mlflow",
        "web": "mlflow",
        "search": "optuna",
        "training": "lightning",
        "explain/gradcam.py": "pytorch_grad_cam",
        "nn/baselines.py": "timm",
        "data/augmentation.py": "albumentations",
        "controller": "pytorch_metric_learning",
        "comparison/controller": "umap",
        "serving/rest": "uvicorn",
    }
    made: list[Path] = []
    try:
        for place, module in allowed.items():
            path = copy / "dermonas" / place
            if path.suffix != ".py":
                path /= "planted.py"
            if path.exists():
                continue
            if not path.parent.exists():
                path.parent.mkdir()
                (path.parent / "__init__.py").touch()
                made.append(path.parent)
            path.write_text(f"import {module}\n")
            made.append(path)
        done = _lint_imports(copy)
    finally:
        for path in reversed(made):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert done.returncode == 0, done.stdout


def test_no_file_is_two_files():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in CODE}
    assert {path: length for path, length in lengths.items() if length > 280} == {}
    assert not [path for path in CODE if path.stem in ("utils", "helpers")]


def test_links_between_pages_lead_somewhere():
    links = [
        page.parent / link
        for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
        for link in re.findall(r"(?<!!)\[[^]!]*\]\(([^)#:]+)\)", page.read_text())
    ]
    assert len(links) > 6
    assert [link for link in links if not link.exists()] == []


def test_every_decision_is_linked_from_the_readme():
    linked = re.findall(r"\((docs/decisions/[\w-]+\.md)\)", (ROOT / "README.md").read_text())
    written = [f"docs/decisions/{path.name}" for path in (ROOT / "docs" / "decisions").glob("*.md")]
    assert sorted(linked) == sorted(written)


def test_files_named_in_faithfulness_exist():
    text = (ROOT / "docs" / "faithfulness.md").read_text()
    named = set(re.findall(r"`((?:dermonas|pipelines|tests|benchmarks|models|docs)/[\w./-]+)`", text))
    assert len(named) > 30
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_ci_runs_the_readmes_test_command():
    assert re.search(r"^exec make .*\btest\b", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "\nmake test\n" in (ROOT / "README.md").read_text()


def test_every_test_file_has_a_name_of_its_own():
    """Pytest imports them by that name: of two it refuses one, and its tests are not run."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
