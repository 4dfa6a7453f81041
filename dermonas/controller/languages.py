"""The language of a space, and thetas carried between the space that is searched and the language's own."""

from __future__ import annotations

from dermonas.controller.darts import DartsLanguage
from dermonas.controller.language import Language
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.controller.nasbench201 import NasBench201Language
from dermonas.errors import ConfigError
from dermonas.space.darts import DartsSpace
from dermonas.space.domain import Domain, Theta
from dermonas.space.nasbench101 import NasBench101Space
from dermonas.space.nasbench201 import NasBench201Space


def language_of(space: Domain) -> Language:
    """Return the language in which a controller speaks of a space.

    The encodings "first2" and "pairs" of our space hold the same networks and share a language.

    Raises:
        ConfigError: If there is none.
    """
    if isinstance(space, NasBench101Space):
        return NasBench101Language()
    if isinstance(space, NasBench201Space):
        return NasBench201Language()
    if isinstance(space, DartsSpace) and space.encoding != "all":
        return DartsLanguage(space.nodes)
    raise ConfigError(
        f"no controller speaks of {space.name}: use nasbench101, nasbench201, or the encoding first2 or pairs"
    )


def translate(theta: Theta, source: Domain, target: Domain) -> Theta:
    """Return the canonical theta of `target` for the network that `theta` describes in `source`.

    Args:
        theta: Of `source`.
        source: The space that is searched, or its language's.
        target: The other of the two.

    Raises:
        GenotypeError: If theta does not fit, or `target` holds no such network.
    """
    if isinstance(source, DartsSpace) and isinstance(target, DartsSpace):
        return target.theta(source.genotype(theta))
    return target.canonical(theta)
