"""The cells that a controller is pretrained on, by the name of their domain."""

from __future__ import annotations

import numpy as np

from dermonas.controller.darts import DartsLanguage
from dermonas.controller.language import Language, Thetas
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.controller.nasbench201 import NasBench201Language
from dermonas.errors import ConfigError
from dermonas.seeding import numpy_generator
from dermonas.space.nasbench101_graphs import every_graph

TABLES = ("nasbench101", "nasbench201")
"""Domains of which every cell can be listed."""

OURS = ("darts4", "darts5")
"""Our space with 4 and with 5 nodes a cell; its anchors are drawn."""

DOMAINS = TABLES + OURS
"""Every domain that has a language."""


def language_named(domain: str) -> Language:
    """Return the language of a domain.

    Raises:
        ConfigError: If the name is unknown.
    """
    if domain == "nasbench101":
        return NasBench101Language()
    if domain == "nasbench201":
        return NasBench201Language()
    if domain in OURS:
        return DartsLanguage(int(domain[-1]))
    raise ConfigError(f"domain: {domain!r} is unknown; use one of {', '.join(DOMAINS)}")


def domain_of(language: Language) -> str:
    """Return the domain that a language is of; see `language_named`."""
    return f"darts{language.nodes}" if isinstance(language, DartsLanguage) else language.name


def anchors_of(domain: str, seed: int, count: int, vertices: int = 7) -> tuple[Language, Thetas]:
    """Return a domain's language and the anchors of its pretraining.

    Args:
        domain: "nasbench101": every graph; "nasbench201": one cell of each of the 6,466 classes; "darts4", "darts5":
            `count` uniform genotypes.
        seed: Keys the genotypes.
        count: Genotypes; the tables have what they have.
        vertices: Of the largest graphs of NAS-Bench-101, 2 to 7; all 423,624 have at most 7.

    Returns:
        The language, and thetas of shape (anchors, positions) in a fixed order.

    Raises:
        ConfigError: If the domain is unknown or a number is out of range.
    """
    language = language_named(domain)
    if isinstance(language, NasBench101Language):
        return language, every_graph(vertices)
    if isinstance(language, NasBench201Language):
        return language, np.array(language.space.representatives(), np.uint8)
    assert isinstance(language, DartsLanguage)
    if count < 1:
        raise ConfigError(f"anchors: {count} is not possible; give 1 or more")
    return language, language.sample(numpy_generator(seed, "anchors of darts"), count)
