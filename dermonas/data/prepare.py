"""`prepare`: from a folder of images to a manifest.

List, open every image, quarantine what cannot be used, group, split, choose the search set, audit, write.
"""

from __future__ import annotations

import csv
import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from dermonas.data.audit import audit_leakage
from dermonas.data.config import PrepareConfig, output_folder
from dermonas.data.groups import merge_groups
from dermonas.data.inspection import Inspected, inspect_files
from dermonas.data.leakage import Pair, near_duplicates
from dermonas.data.manifest import SPLITS, Manifest, write_manifest
from dermonas.data.search_set import select_search_rows
from dermonas.data.sources.choose import list_source
from dermonas.data.sources.listing import LISTING_COLUMNS, Listing
from dermonas.data.splits import PAPER_SIZES, assign_splits
from dermonas.errors import DataError, StorageError
from dermonas.events import Observer

_log = logging.getLogger(__name__)


def prepare(config: PrepareConfig, observer: Observer) -> Manifest:
    """Prepare a data set and write it to `config.out`.

    Beside the manifest it writes quarantine.csv (path, reason), report.json (counts, peculiarities of
    images, the settings) and audit.json (duplicates). A run that fails leaves an earlier manifest as it was;
    quarantine.csv is written even then, for it says why.

    Args:
        config: The settings.
        observer: Told `started("prepare", images, ...)`, each file as `artifact`, and `finished` with counts.

    Returns:
        The manifest as written.

    Raises:
        DataError: no usable image, a quarantined one under `strict`, an overlap between splits, another prepare in
            the same folder.
        LabelError: the labels contradict themselves or the images.
        StorageError: the disk refuses.
    """
    out = output_folder(config)
    fresh = not out.exists()
    lock = out / ".prepare.lock"
    scratch = out / ".prepare"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            try:
                shutil.rmtree(scratch, ignore_errors=True)  # of a prepare that was killed
                scratch.mkdir()
                return _prepare(config, scratch, observer)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
                lock.unlink(missing_ok=True)
    except Timeout as error:
        raise DataError(f"another prepare is writing to {out}: wait for it, or choose another --out") from error
    except OSError as error:
        reason = error.strerror or error
        where = error.filename or out
        raise StorageError(f"{where}: {reason}; check the disk and permissions, or choose another --out") from error
    finally:
        if fresh and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _prepare(config: PrepareConfig, scratch: Path, observer: Observer) -> Manifest:
    began = time.monotonic()
    listing = list_source(config)
    paths = [listing.root / path for path in listing.frame["path"]]
    observer.started("prepare", len(paths), {"dataset": config.dataset, "source": config.source})
    inspected, thumbnails = inspect_files(
        paths, workers=config.workers, max_pixels=config.max_pixels, thumbnails=scratch / "thumbnails.npy"
    )
    quarantined = _quarantined(listing, inspected)
    _write_quarantine(scratch, output_folder(config), quarantined)
    usable = np.array([item.reason is None for item in inspected], dtype=bool)
    _refuse_unusable(config, len(paths), int(usable.sum()), quarantined)

    frame = _described(listing.frame, inspected)[usable].reset_index(drop=True)
    pairs = _pairs(thumbnails, usable) if config.near_duplicates else []
    frame["group"] = merge_groups(frame["path"].tolist(), _optional(frame["lesion"]), frame["sha256"].tolist(), pairs)
    grouped = config.split == "lesion"
    frame["split"], extra_counts = assign_splits(frame, grouped=grouped, sizes=_sizes(config, frame), seed=config.seed)
    frame["search"] = select_search_rows(
        frame, source=config.source, dataset=config.dataset, fraction=config.search_fraction, seed=config.seed
    )
    audit = audit_leakage(frame, pairs, grouped=grouped, compared=config.near_duplicates)
    manifest = _manifest(config, listing, frame, grouped)
    counts = _counts(manifest, listing, quarantined, extra_counts)
    metrics = _metrics(counts, audit, time.monotonic() - began)
    report = {"counts": counts, "notes": _image_notes(listing, inspected), "source": dict(listing.notes),
              "digest": manifest.digest, "config": _plain(config), "seconds": round(metrics["seconds"], 3)}  # fmt: skip
    written = [_write_json(scratch, output_folder(config), name, content) for name, content in
               (("report.json", report), ("audit.json", audit))]  # fmt: skip
    written.extend(write_manifest(manifest, output_folder(config)))
    for path in (*written, output_folder(config) / "quarantine.csv"):
        observer.artifact(path, "prepare")
    observer.finished("prepare", metrics)
    return manifest


def _pairs(thumbnails: np.ndarray, usable: np.ndarray) -> list[Pair]:
    """Find near-duplicates, numbered by usable row.

    The thumbnails stay a memory map: one of an unusable image is blank, and a blank one is never paired.
    """
    row = np.cumsum(usable) - 1
    return [replace(pair, i=int(row[pair.i]), j=int(row[pair.j])) for pair in near_duplicates(thumbnails)]


def _quarantined(listing: Listing, inspected: Sequence[Inspected]) -> list[tuple[str, str]]:
    faulty = [
        (str(path), item.reason)
        for path, item in zip(listing.frame["path"], inspected, strict=True)
        if item.reason is not None
    ]
    for path, reason in faulty:
        _log.warning("quarantined %s: %s", path, reason)
    if listing.missing:
        name, reason = listing.missing[0]
        _log.warning("%d images are listed and not there, first: %s: %s", len(listing.missing), name, reason)
    return [*faulty, *listing.missing]


def _refuse_unusable(config: PrepareConfig, total: int, usable: int, quarantined: Sequence[tuple[str, str]]) -> None:
    where = f"see {output_folder(config) / 'quarantine.csv'}"
    first = f"first {quarantined[0][0]}: {quarantined[0][1]}" if quarantined else ""
    if not usable:
        raise DataError(f"none of the {total} images in {config.root} can be used, {first}; {where}")
    if config.strict and quarantined:
        raise DataError(
            f"{len(quarantined)} images are quarantined, {first}; {where}, mend or remove them, or leave --strict out"
        )


def _described(frame: pd.DataFrame, inspected: Sequence[Inspected]) -> pd.DataFrame:
    columns = ("sha256", "phash", "width", "height")
    return frame.assign(**{name: [getattr(item, name) for item in inspected] for name in columns})


def _optional(values: pd.Series) -> list[str | None]:
    return [None if pd.isna(value) else str(value) for value in values]


def _sizes(config: PrepareConfig, frame: pd.DataFrame) -> Sequence[float]:
    if config.split == "lesion":
        return config.split_sizes
    labelled = int((frame["label"].notna() & ~frame["extra"]).sum())
    # The paper's own counts where its own images are here; its proportions otherwise.
    return PAPER_SIZES if labelled == sum(PAPER_SIZES) else tuple(size / sum(PAPER_SIZES) for size in PAPER_SIZES)


def _manifest(config: PrepareConfig, listing: Listing, frame: pd.DataFrame, grouped: bool) -> Manifest:
    present = set(frame["label"].dropna())
    tags = dict(listing.tags)
    if not grouped:
        tags["ungrouped"] = True
    return Manifest(
        frame=frame.drop(columns=[name for name in LISTING_COLUMNS if name not in ("path", "label")]),
        root=listing.root,
        classes=tuple(name for name in listing.classes if name in present),
        dataset=config.dataset,
        source=config.source,
        synthetic=config.source == "phantom",
        tags=tags,
    )


def _counts(
    manifest: Manifest, listing: Listing, quarantined: Sequence[tuple[str, str]], extra: dict[str, int]
) -> dict[str, Any]:
    frame = manifest.frame
    kinds = Counter(reason.split(" (")[0] for _, reason in quarantined)
    by_class = {
        name: {split: int(((frame["split"] == split) & (frame["label"] == name)).sum()) for split in SPLITS}
        for name in manifest.classes
    }
    return {
        "listed": len(listing.frame) + len(listing.missing),
        "images": len(frame),
        "quarantined": len(quarantined),
        "quarantined_by_reason": dict(sorted(kinds.items())),
        **{split: int((frame["split"] == split).sum()) for split in SPLITS},
        "search": int(frame["search"].sum()),
        "unlabelled": int(frame["label"].isna().sum()),
        "groups": int(frame["group"].nunique()),
        "by_class": by_class,
        **extra,
    }


def _metrics(counts: dict[str, Any], audit: dict[str, Any], seconds: float) -> dict[str, float]:
    names = ("images", "quarantined", *SPLITS, "search", "groups", "set_aside")
    largest = audit["largest_group"]["images"] if audit["largest_group"] else 0
    return {
        **{name: float(counts[name]) for name in names},
        "near_duplicate_pairs": float(audit["near_duplicate_pairs"]),
        "near_duplicate_fraction": float(audit["near_duplicate_fraction"]),
        "largest_group": float(largest),
        "seconds": seconds,
    }


def _image_notes(listing: Listing, inspected: Sequence[Inspected]) -> dict[str, list[str]]:
    pairs = zip(listing.frame["path"], inspected, strict=True)
    return {str(path): list(item.notes) for path, item in pairs if item.notes}


def _plain(config: PrepareConfig) -> dict[str, Any]:
    values = asdict(config)
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def _write_quarantine(scratch: Path, out: Path, rows: Sequence[tuple[str, str]]) -> None:
    fresh = scratch / "quarantine.csv"
    with fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "reason"))
        writer.writerows(rows)
    fresh.replace(out / fresh.name)


def _write_json(scratch: Path, out: Path, name: str, content: dict[str, Any]) -> Path:
    fresh = scratch / name
    fresh.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return fresh.replace(out / name)
