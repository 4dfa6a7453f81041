"""The package alone: in a process and a folder that know nothing of the project, with every pickle forbidden."""

from __future__ import annotations

import ast
import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import dermonas
from dermonas.data.augmentation import Evaluate
from dermonas.errors import StorageError
from dermonas.imaging.decode import decode
from dermonas.imaging.resize import resize
from dermonas.serving.digest import files_digest, verify
from dermonas.serving.package import CODE
from dermonas.serving.score import score_packaged
from dermonas.tracking import registry
from dermonas.tracking.runs import tracked

SOURCE = Path(dermonas.__file__).parent
REFUSED = (
    "dermonas.nn", "dermonas.data", "dermonas.training", "dermonas.tracking", "dermonas.evaluation", "dermonas.space",
    "dermonas.metrics", "dermonas.search", "dermonas.seeding", "pipelines", "timm", "lightning", "pytorch_lightning",
    "albumentations", "cv2", "optuna", "pytorch_grad_cam", "sklearn", "scipy", "matplotlib", "torchvision",
)  # fmt: skip
SCRIPT = '''
import json, pickle, sys

class Absent:
    """Finds what another finder does, apart from what is not installed here."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in json.loads(sys.argv[1])):
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Absent(finder) for finder in sys.meta_path]
import mlflow, pandas, torch

def refuse(*_, **__):
    raise AssertionError("something was unpickled")

class Unpickler(pickle.Unpickler):
    load = refuse

for owner, name, put in (
    (pickle, "load", refuse), (pickle, "loads", refuse), (pickle, "Unpickler", Unpickler), (torch, "load", refuse),
):
    setattr(owner, name, put)
rows = pandas.DataFrame({"image": json.load(sys.stdin)})
answers = []
for folder in sys.argv[2:]:
    model = mlflow.pyfunc.load_model(folder)
    table = model.predict(rows, params={"top_k": 3, "cam": True, "tta": False})
    answers.append(json.loads(table.to_json(orient="records", double_precision=15)))
import dermonas
print(json.dumps({"answers": answers, "dermonas": dermonas.__file__, "modules": sorted(sys.modules)}))
'''


@pytest.fixture
def registered(cells, timm, tmp_path, run_tables, monkeypatch):
    """Both packages as they come out of a registry, checked, with the digests that it holds."""
    shutil.copy(run_tables, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    found = []
    with tracked("dermonas/noise", "register", "name", {}) as run:
        for packed in (cells, timm):
            folder = tmp_path / packed.description.name
            shutil.copytree(packed.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
            digest = files_digest(folder)
            with registry.logged(run, "dermonas-noise", folder, {}) as model:
                pass
            version = registry.register(run, "dermonas-noise", model, run.id, {registry.FILES: digest}, "")
            fetched = registry.fetch(version, tmp_path / f"fetched {packed.description.name}")
            verify(fetched, digest)
            found.append((packed, fetched, version))
    return found


def test_registered_models_answer_as_evaluation_without_the_project(registered, images, tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MLFLOW"))}
    folders = [str(fetched) for _, fetched, _ in registered]
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, json.dumps(REFUSED), *folders],
        input=json.dumps([base64.b64encode(image).decode() for image in images]),
        cwd=tmp_path,
        env={**environment, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert Path(found["dermonas"]).is_relative_to(folders[0])
    assert not [name for name in found["modules"] if any(f"{name}.".startswith(f"{one}.") for one in REFUSED)]
    held = {name for name in found["modules"] if name.split(".")[0] == "dermonas"}
    assert held <= {"dermonas", *(_module(name) for name in CODE)}
    for (packed, _, version), answers in zip(registered, found["answers"], strict=True):
        names = packed.description.classes
        assert {answer["version"] for answer in answers} == {str(version.version)}
        assert {answer["digest"] for answer in answers} == {version.tags[registry.FILES]}
        for answer, image in zip(answers, images, strict=True):
            view = torch.stack([Evaluate(packed.view)(resize(decode(image), packed.view.stored))])
            with torch.inference_mode():
                logits = packed.network(view).double()
            wanted = torch.softmax(logits / packed.description.temperature, 1)[0]
            listed = {one["label"]: one["probability"] for one in answer["probabilities"]}
            np.testing.assert_allclose([listed[name] for name in names], wanted, atol=1e-5)
            assert base64.b64decode(answer["cam"]).startswith(b"\x89PNG")


def _module(name):
    return f"dermonas.{name[:-3].replace('/', '.')}".removesuffix(".__init__")


def test_scoring_in_a_process_of_its_own_gives_the_same(cells, images, tmp_path):
    files = []
    for number, image in enumerate(images):
        files.append(tmp_path / f"{number}.img")
        files[-1].write_bytes(image)
    folder = shutil.copytree(cells.folder, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__"))
    np.testing.assert_allclose(score_packaged(folder, files), cells.served.predict(images), atol=1e-6)
    assert not list(folder.rglob("__pycache__"))
    (folder / "artifacts" / "model.json").unlink()
    with pytest.raises(StorageError, match=r"model\.json cannot be read .*; register it again"):
        score_packaged(folder, files)


def test_packaged_code_imports_what_a_package_may_need():
    allowed = {"PIL", "numpy", "torch", *sys.stdlib_module_names}
    packaged = {_module(name) for name in CODE}
    for name in (*CODE, "serving/model.py"):
        more = {"serving/model.py": {"mlflow", "pandas"}, "imaging/dicom.py": {"pydicom"}}.get(name, set())
        for node in ast.walk(ast.parse((SOURCE / name).read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                own = module.split(".")[0] == "dermonas"
                assert module in packaged if own else module.split(".")[0] in allowed | more, (name, module)
