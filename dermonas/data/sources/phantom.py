"""Synthetic images, drawn once into the output folder and then read as an ISIC folder.

They show no patient; every manifest made from them says `synthetic`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import dermonas.data
from dermonas.data import phantom
from dermonas.data.sources.isic import list_isic
from dermonas.data.sources.listing import Listing

_SETTINGS = "settings.json"


def list_phantom(folder: Path, *, lesions: int, test_images: int, size: int, seed: int) -> Listing:
    """List phantoms, drawing them first unless the folder holds the same ones already.

    Args:
        folder: Where they are kept.
        lesions: See `phantom.generate`, as the others.
        test_images: Unlabelled search images.
        size: Side, pixels.
        seed: Same seed and size, same images.
    """
    settings = {"lesions": lesions, "test_images": test_images, "size": size, "seed": seed, "code": _code_digest()}
    marker = folder / _SETTINGS
    if not marker.is_file() or marker.read_text() != json.dumps(settings):
        fresh = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(fresh, ignore_errors=True)
        phantom.generate(fresh, lesions=lesions, test_images=test_images, size=size, seed=seed)
        (fresh / _SETTINGS).write_text(json.dumps(settings))
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return list_isic(folder)


def _code_digest() -> str:
    """Digest the generator's source: phantoms drawn by an older one are drawn again."""
    modules = sorted(Path(str(dermonas.data.__path__[0])).glob("phantom*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in modules)).hexdigest()
