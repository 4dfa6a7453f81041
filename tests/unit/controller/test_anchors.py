"""The anchors of every domain: what they are, how many, and that they repeat."""

from __future__ import annotations

import numpy as np
import pytest

from dermonas.controller.anchors import DOMAINS, anchors_of, domain_of, language_named
from dermonas.controller.language import uniforms
from dermonas.controller.languages import language_of
from dermonas.errors import ConfigError
from dermonas.space.darts import DartsSpace
from dermonas.space.nasbench101 import NasBench101Space
from dermonas.space.nasbench201 import NasBench201Space

COUNT = 300


def digests(language, thetas):
    return [language.space.digest(tuple(theta)) for theta in thetas.tolist()]


@pytest.mark.parametrize(
    ("domain", "count"), [("nasbench101", 2532), ("nasbench201", 6466), ("darts4", COUNT), ("darts5", COUNT)]
)
def test_anchors_are_distinct_networks_that_the_language_can_edit(domain, count):
    language, thetas = anchors_of(domain, 0, COUNT, vertices=5)
    assert len(thetas) == count
    assert len(set(digests(language, thetas[:600]))) == len(thetas[:600])
    some = thetas[:: len(thetas) // 40]
    near = language.positives(some, uniforms(language, 0, 0, range(len(some)), 2))
    assert near.thetas.shape == (len(some), 2, thetas.shape[1])
    assert language.decode(language.encode(some)).reasons == ("",) * len(some)


def test_genotypes_are_keyed_by_the_seed_and_more_of_them_are_others_too():
    def drawn(seed, domain="darts5"):
        return anchors_of(domain, seed, 50)[1]

    np.testing.assert_array_equal(drawn(3), drawn(3))
    assert not np.array_equal(drawn(3), drawn(4))
    assert drawn(3).shape == (50, 40)
    assert drawn(3, "darts4").shape == (50, 28)


def test_the_tables_know_no_seed_or_count():
    for domain in ("nasbench101", "nasbench201"):
        np.testing.assert_array_equal(
            anchors_of(domain, 0, 10, vertices=4)[1], anchors_of(domain, 1, 99, vertices=4)[1]
        )


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_language_is_of_the_domain_that_names_it(domain):
    language = language_named(domain)
    assert domain_of(language) == domain
    assert language_of(language.space) == language


def test_every_space_of_the_language_is_of_one_domain():
    spaces = (NasBench101Space(), NasBench201Space(), DartsSpace(4, "first2"), DartsSpace(5, "pairs"))
    assert tuple(domain_of(language_of(space)) for space in spaces) == DOMAINS


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("darts6", 0, 10), "darts6.*nasbench101, nasbench201, darts4, darts5"), (("darts4", 0, 0), "anchors: 0"),
     (("nasbench101", 0, 1, 8), "8 vertices.*2 to 7")],
)  # fmt: skip
def test_what_has_no_anchors_is_refused(arguments, says):
    with pytest.raises(ConfigError, match=says):
        anchors_of(*arguments)
