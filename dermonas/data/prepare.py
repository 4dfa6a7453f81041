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
import PIL
from filelock import FileLock, Timeout

from dermonas.data.audit import audit_leakage
from dermonas.data.config import PrepareConfig, output_folder
from dermonas.data.groups import merge_groups
from dermonas.data.inspection import Inspection, inspect_files
from dermonas.data.journal import Journal
from dermonas.data.leakage import Pairs, near_duplicates, no_pairs
from dermonas.data.manifest import SPLITS, Manifest, write_manifest
from dermonas.data.search_set import select_search_rows
from dermonas.data.sources.choose import list_source
from dermonas.data.sources.listing import LISTING_COLUMNS, Listing
from dermonas.data.splits import PAPER_SIZES, assign_splits
from dermonas.data.text import hexadecimal
from dermonas.errors import DataError, StorageError
from dermonas.events import Observer

NAMED = 1000
"""Images that the report names for their peculiarities; it counts them all."""

_LOGGED = 20  # quarantined images that are logged one by one; the file has them all

_log = logging.getLogger(__name__)


def prepare(config: PrepareConfig, observer: Observer) -> Manifest:
    """Prepare a data set and write it to `config.out`.

    Beside the manifest it writes quarantine.csv (path, reason), report.json (counts, peculiarities of
    images, the settings) and audit.json (duplicates). A run that fails leaves an earlier manifest as it was;
    quarantine.csv is written even then, for it says why. What was inspected is kept in `.prepare` until a prepare
    into this folder succeeds: a run that was killed or refused goes on from there.

    Args:
        config: The settings.
        observer: Told `started("prepare", images, ...)`, the progress as `epoch` (see `inspection.inspect_files`),
            each file as `artifact`, and `finished` with counts.

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
                manifest = _prepare(config, scratch, observer)
                shutil.rmtree(scratch)
                return manifest
            finally:
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
    count = len(listing.frame)
    observer.started("prepare", count, {"dataset": config.dataset, "source": config.source})
    frame, pairs, quarantined, notes = _inspected(config, listing, scratch, observer)
    frame["group"] = merge_groups(frame["path"], frame["lesion"], frame["sha256"], pairs)
    grouped = config.split == "lesion"
    frame["split"], extra_counts = assign_splits(frame, grouped=grouped, sizes=_sizes(config, frame), seed=config.seed)
    frame["search"] = select_search_rows(
        frame, source=config.source, dataset=config.dataset, fraction=config.search_fraction, seed=config.seed
    )
    audit = audit_leakage(frame, pairs, grouped=grouped, compared=config.near_duplicates)
    manifest = _manifest(config, listing, frame, grouped)
    counts = _counts(manifest, listing, quarantined, audit["groups"], extra_counts)
    metrics = _metrics(counts, audit, time.monotonic() - began)
    report = {"counts": counts, **notes, "source": dict(listing.notes),
              "digest": manifest.digest, "config": _plain(config), "seconds": round(metrics["seconds"], 3)}  # fmt: skip
    written = [_write_json(scratch, output_folder(config), name, content) for name, content in
               (("report.json", report), ("audit.json", audit))]  # fmt: skip
    written.extend(write_manifest(manifest, output_folder(config)))
    for path in (*written, output_folder(config) / "quarantine.csv"):
        observer.artifact(path, "prepare")
    observer.finished("prepare", metrics)
    return manifest


def _inspected(
    config: PrepareConfig, listing: Listing, scratch: Path, observer: Observer
) -> tuple[pd.DataFrame, Pairs, list[tuple[str, str]], dict[str, Any]]:
    """Return usable rows, their near-duplicates, the quarantined, and the report's notes; all else is let go."""
    with Journal(scratch, {"pillow": PIL.__version__, "max_pixels": config.max_pixels}) as journal:
        inspected = inspect_files(
            listing.root, listing.frame["path"].tolist(), journal, workers=config.workers,
            max_pixels=config.max_pixels, observer=observer,
        )  # fmt: skip
        quarantined = _quarantined(listing, inspected)
        _write_quarantine(scratch, output_folder(config), quarantined)
        _refuse_unusable(config, scratch, inspected, quarantined)
        pairs = _pairs(inspected) if config.near_duplicates else no_pairs()
    return _described(listing.frame, inspected), pairs, quarantined, _image_notes(listing, inspected)


def _pairs(inspected: Inspection) -> Pairs:
    """Find near-duplicates, numbered by usable row."""
    pairs = near_duplicates(inspected.prints, inspected.thumbnails)  # what cannot be used is not clear either
    number = np.cumsum(inspected.usable) - 1
    return replace(pairs, i=number[pairs.i], j=number[pairs.j])


def _quarantined(listing: Listing, inspected: Inspection) -> list[tuple[str, str]]:
    rows = sorted(inspected.faults)
    reasons = [inspected.faults[row] for row in rows]
    faulty = list(zip(listing.frame["path"].iloc[rows].tolist(), reasons, strict=True))
    for path, reason in faulty[:_LOGGED]:
        _log.warning("quarantined %s: %s", path, reason)
    if len(faulty) > _LOGGED:
        _log.warning("quarantined %d more: see quarantine.csv", len(faulty) - _LOGGED)
    if listing.missing:
        name, reason = listing.missing[0]
        _log.warning("%d images are listed and not there, first: %s: %s", len(listing.missing), name, reason)
    return [*faulty, *listing.missing]


def _refuse_unusable(
    config: PrepareConfig, scratch: Path, inspected: Inspection, quarantined: Sequence[tuple[str, str]]
) -> None:
    where = f"see {output_folder(config) / 'quarantine.csv'}"
    first = f"first {quarantined[0][0]}: {quarantined[0][1]}" if quarantined else ""
    if not inspected.usable.any():
        shutil.rmtree(scratch, ignore_errors=True)  # there is nothing to go on from
        raise DataError(f"none of the {len(inspected.usable)} images in {config.root} can be used, {first}; {where}")
    if config.strict and quarantined:
        raise DataError(
            f"{len(quarantined)} images are quarantined, {first}; {where}, mend or remove them, or leave --strict out"
        )


def _described(frame: pd.DataFrame, inspected: Inspection) -> pd.DataFrame:
    """Return the usable rows with what the inspection found."""
    # Nothing is copied where all can be used.
    rows = slice(None) if inspected.usable.all() else np.flatnonzero(inspected.usable)
    phash = inspected.prints.hashes[0, rows].astype(">u8").view(np.uint8).reshape(-1, 8)
    return frame.iloc[rows].reset_index(drop=True).assign(
        sha256=hexadecimal(inspected.sha256[rows]), phash=hexadecimal(phash),
        width=inspected.width[rows], height=inspected.height[rows],
    )  # fmt: skip


def _sizes(config: PrepareConfig, frame: pd.DataFrame) -> Sequence[float]:
    if config.split == "lesion":
        return config.split_sizes
    labelled = int((frame["label"].notna() & ~frame["extra"]).sum())
    # The paper's own counts where its own images are here; its proportions otherwise.
    return PAPER_SIZES if labelled == sum(PAPER_SIZES) else tuple(size / sum(PAPER_SIZES) for size in PAPER_SIZES)


def _manifest(config: PrepareConfig, listing: Listing, frame: pd.DataFrame, grouped: bool) -> Manifest:
    present = set(frame["label"].dropna().unique())
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
    manifest: Manifest, listing: Listing, quarantined: Sequence[tuple[str, str]], groups: int, extra: dict[str, int]
) -> dict[str, Any]:
    frame = manifest.frame
    kinds = Counter(reason.split(" (")[0] for _, reason in quarantined)
    placed = frame.groupby(["label", "split"]).size().to_dict()
    by_class = {name: {split: int(placed.get((name, split), 0)) for split in SPLITS} for name in manifest.classes}
    return {
        "listed": len(listing.frame) + len(listing.missing),
        "images": len(frame),
        "quarantined": len(quarantined),
        "quarantined_by_reason": dict(sorted(kinds.items())),
        **{split: int((frame["split"] == split).sum()) for split in SPLITS},
        "search": int(frame["search"].sum()),
        "unlabelled": int(frame["label"].isna().sum()),
        "groups": groups,
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


def _image_notes(listing: Listing, inspected: Inspection) -> dict[str, Any]:
    rows = sorted(inspected.notes)
    kinds = Counter(note for notes in inspected.notes.values() for note in notes)
    paths = listing.frame["path"].iloc[rows[:NAMED]]
    named = {path: list(inspected.notes[row]) for path, row in zip(paths, rows, strict=False)}
    return {"notes": named, "images_by_note": dict(sorted(kinds.items()))}


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
