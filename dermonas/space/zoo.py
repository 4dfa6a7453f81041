"""Published and found genotypes by name, one JSON file each in models/genotypes/."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermonas.errors import GenotypeError
from dermonas.space.domain import Theta
from dermonas.space.genotype import Genotype

# The zoo belongs to the repository, not to the installed package.
FOLDER = Path(__file__).resolve().parents[2] / "models" / "genotypes"


@dataclass(frozen=True)
class Entry:
    """One genotype of the zoo.

    Attributes:
        name: The name to load it by.
        source: Where it was published or found, in words.
        genotype: None where only a drawing was published.
        drawing: The figure of the CSNAS paper that shows it ("Fig. 4"), for those.
        theta: Its published "first2" theta, normal then reduction, dead nodes as built; None where
            there is none. `DartsSpace.canonical` of it equals `DartsSpace.theta(genotype)`.
    """

    name: str
    source: str
    genotype: Genotype | None
    drawing: str | None
    theta: Theta | None


def names() -> tuple[str, ...]:
    """Return every name of the zoo, sorted, those published only as drawings included."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def entry(name: str) -> Entry:
    """Return what is known of a genotype of the zoo.

    Raises:
        GenotypeError: If the name is unknown (lists close names and all) or its file is damaged.
    """
    known = names()
    if name not in known:
        raise GenotypeError(_unknown(name, known))
    path = FOLDER / f"{name}.json"
    data = _read(path)
    drawing = data.get("drawing")
    theta = data.get("canonical_theta_normal"), data.get("canonical_theta_reduce")
    return Entry(
        name=name,
        source=str(data.get("source", "")),
        genotype=None if drawing else _genotype(path, data),
        drawing=drawing,
        theta=(*theta[0], *theta[1]) if theta[0] and theta[1] else None,
    )


def load(name_or_path: str | Path) -> Genotype:
    """Return a genotype by zoo name, or from a JSON file as `Genotype.to_json` writes it.

    Args:
        name_or_path: A name of `names()`, else a file (a path, or a string with a folder or ".json" in it).

    Raises:
        GenotypeError: If the name is unknown, was published only as a drawing, or the file cannot
            be read or holds no genotype.
    """
    text = str(name_or_path)
    path = Path(name_or_path)
    if text in names():
        found = entry(text)
        if found.genotype is None:
            raise GenotypeError(
                f"{text} was published only as a drawing (CSNAS, {found.drawing}), its edges are not known here; "
                f"use {_alternatives(text)}, or search for one"
            )
        return found.genotype
    if isinstance(name_or_path, Path) or path.suffix == ".json" or len(path.parts) > 1 or path.is_file():
        return _genotype(path, _read(path))
    raise GenotypeError(_unknown(text, names()))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise GenotypeError(
            f"{path}: cannot read the genotype ({reason}); give a zoo name or a genotype.json"
        ) from error
    if not isinstance(data, dict):
        raise GenotypeError(f"{path}: expected an object with normal and reduce, found {type(data).__name__}")
    return data


def _genotype(path: Path, data: dict[str, Any]) -> Genotype:
    try:
        return Genotype.from_dict(data)
    except GenotypeError as error:
        raise GenotypeError(f"{path}: {error}") from error


def _alternatives(name: str) -> str:
    nodes = 4 if name.endswith("N4") else 5
    return f"DermoCSNAS_{nodes} (same authors and space, searched on ISIC) or DARTS_V2"


def _unknown(name: str, known: tuple[str, ...]) -> str:
    folded = {other.casefold(): other for other in known}
    close = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    everything = ", ".join(known) or f"(none: {FOLDER} is missing; run from a checkout)"
    return f"genotype {name!r} is unknown: {hint}The zoo has {everything}; or give the path of a genotype.json"
