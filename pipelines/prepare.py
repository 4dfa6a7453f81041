"""`mlflow run . -e prepare`: from a folder of images to a manifest."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import yaml

from dermonas.data.config import PrepareConfig, output_folder
from dermonas.data.manifest import Manifest
from dermonas.data.prepare import prepare
from dermonas.tracking.observers import RunObserver
from dermonas.tracking.runs import tracked
from pipelines.command import command
from pipelines.recipe import plain, read_config


def run(config: PrepareConfig, *, adopt: bool = True) -> Manifest:
    """Prepare a data set as a tracked run.

    Args:
        config: The settings.
        adopt: Whether to use the run that `mlflow run` started; False when another entry point calls.
    """
    with tracked(f"dermonas/{config.dataset}", "prepare", f"prepare-{config.dataset}", {}, adopt=adopt) as tracker:
        tracker.params(plain(config))
        tracker.document("config.yaml", yaml.safe_dump(plain(config)))
        manifest = prepare(config, RunObserver(tracker))
        tracker.tags({"dermonas.dataset_digest": manifest.digest, "dermonas.synthetic": manifest.synthetic})
        tracker.data(manifest, output_folder(config), "prepare")
    counts = manifest.frame["split"].value_counts()
    splits = ", ".join(f"{name} {counts.get(name, 0)}" for name in ("train", "validation", "test"))
    synthetic = " (synthetic phantoms)" if manifest.synthetic else ""
    searched = manifest.frame["search"].sum()
    print(
        f"{config.dataset}{synthetic}: {len(manifest.frame)} images ({splits}; search {searched}) "
        f"in {output_folder(config)}",
        file=sys.stderr,
    )
    return manifest


def main(argv: Sequence[str]) -> None:
    """Read the configuration, prepare, and print the folder and the manifest's digest."""
    config, _ = read_config("prepare", argv)
    manifest = run(config)
    print(f"{output_folder(config)} {manifest.digest}")


if __name__ == "__main__":
    sys.exit(command("prepare", main))
