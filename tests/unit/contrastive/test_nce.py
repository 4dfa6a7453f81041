"""NCE losses against loops, closed forms and many digits; the draw of negatives against its distribution."""

from __future__ import annotations

import math
from collections import Counter

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dermonas.contrastive.nce import draw_negatives, nce_loss, negative_mask

KINDS = ("infonce", "pirl")


def problem(batch: int, drawn: int, width: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random anchor, query and negatives in float64, and a mask that leaves each image a negative at least."""
    rng = np.random.default_rng(seed)
    mask = rng.random((batch, drawn)) < 0.7
    mask[np.arange(batch), rng.integers(0, drawn, batch)] = True
    sizes = ((batch, width), (batch, width), (drawn, width))
    return *(torch.from_numpy(rng.normal(size=size)) for size in sizes), torch.from_numpy(mask)  # type: ignore[return-value]


def slow_loss(anchor: Tensor, query: Tensor, negatives: Tensor, mask: Tensor, tau: float, kind: str) -> list[float]:
    """Eq 2 and 3 as written, one image and one negative at a time."""

    def cosine(a: Tensor, b: Tensor) -> float:
        a, b = a.tolist(), b.tolist()
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    out = []
    for i in range(len(anchor)):
        positive = math.exp(cosine(anchor[i], query[i]) / tau)
        others = [math.exp(cosine(query[i], n) / tau) for n, used in zip(negatives, mask[i], strict=True) if used]
        total = positive + sum(others)
        loss = -math.log(positive / total)
        if kind == "pirl":
            loss -= sum(math.log(1 - other / total) for other in others)
        out.append(loss)
    return out


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 6), st.sampled_from([0.07, 0.5, 2.0]), st.integers(0, 999))
def test_equals_the_loop(kind: str, batch: int, drawn: int, width: int, tau: float, seed: int) -> None:
    args = problem(batch, drawn, width, seed)
    fast = nce_loss(*args, tau, kind)  # type: ignore[arg-type]
    assert fast.shape == (batch,)
    np.testing.assert_allclose(fast.numpy(), slow_loss(*args, tau, kind), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("negatives", [1, 10, 298, 510])
def test_infonce_of_identical_embeddings_is_chance(negatives: int) -> None:
    one = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    same = nce_loss(
        one.expand(4, 8) * 3, one.expand(4, 8), one.expand(negatives, 8) * 0.2, torch.ones(4, negatives) > 0, 0.07
    )
    np.testing.assert_allclose(same.numpy(), math.log(1 + negatives), rtol=1e-5)


def test_pirl_of_identical_embeddings_has_its_closed_form() -> None:
    """log(1 + K) - K log(K / (1 + K))."""
    one, k = torch.randn(1, 8, dtype=torch.float64), 12
    loss = nce_loss(one, one, one.expand(k, 8), torch.ones(1, k) > 0, 0.07, "pirl")
    assert float(loss) == pytest.approx(math.log(1 + k) - k * math.log(k / (1 + k)))


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_and_masked_negatives_do_not_matter(kind: str) -> None:
    anchor, query, negatives, mask = problem(4, 6, 3, seed=3)
    loss = nce_loss(anchor, query, negatives, mask, 0.07, kind)  # type: ignore[arg-type]
    scaled = nce_loss(anchor * 5, query * 0.3, negatives * 7, mask, 0.07, kind)  # type: ignore[arg-type]
    torch.testing.assert_close(scaled, loss)
    for i in range(4):
        alone = nce_loss(anchor[i : i + 1], query[i : i + 1], negatives[mask[i]], mask[i : i + 1, mask[i]], 0.07, kind)  # type: ignore[arg-type]
        torch.testing.assert_close(alone, loss[i : i + 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("place", [0, 3, 6])
@pytest.mark.parametrize("tau", [0.07, 0.01])
def test_pirl_is_right_where_one_negative_takes_everything(dtype: torch.dtype, place: int, tau: float) -> None:
    """1 - l_j is far below the rounding of l_j; 200 digits tell the true value."""
    width, count = 4, 7
    query = torch.zeros(1, width, dtype=dtype)
    query[0, 0] = 1
    anchor = -query
    negatives = torch.randn(count, width, generator=torch.Generator().manual_seed(1)).to(dtype)
    negatives[:, 0] = -negatives[:, 0].abs() - 2
    negatives[place] = query[0]
    query.requires_grad_()
    loss = nce_loss(anchor, query, negatives, torch.ones(1, count) > 0, tau, "pirl")
    with mpmath.workdps(200):
        units = [[mpmath.mpf(v) for v in row] for row in negatives.tolist()]
        cosines = [row[0] / mpmath.sqrt(sum(v * v for v in row)) for row in units]
        weights = [mpmath.exp(c / mpmath.mpf(tau)) for c in (mpmath.mpf(-1), *cosines)]
        total = sum(weights)
        exact = -mpmath.log(weights[0] / total) - sum(mpmath.log((total - w) / total) for w in weights[1:])
        assert weights[1 + place] / total > 1 - mpmath.mpf("1e-8")  # float32 rounds it to 1
    assert float(loss.detach()) == pytest.approx(float(exact), rel=1e-5 if dtype == torch.float32 else 1e-12)
    loss.sum().backward()
    assert query.grad is not None
    assert torch.isfinite(query.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_loss(kind: str) -> None:
    anchor, query, negatives, mask = problem(3, 5, 4, seed=4)
    query.requires_grad_()
    negatives.requires_grad_()  # negatives="batch" trains them too

    def loss(q: Tensor, n: Tensor) -> Tensor:
        return nce_loss(anchor, q, n, mask, 0.2, kind)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(loss, (query, negatives))


@pytest.mark.parametrize("kind", KINDS)
def test_float32_gradients_agree_with_float64(kind: str) -> None:
    """Masked entries must not drown the others' gradients in rounding."""
    gradients = []
    for dtype in (torch.float32, torch.float64):
        anchor, query, negatives, mask = problem(4, 30, 8, seed=6)
        query = query.to(dtype).requires_grad_()
        nce_loss(anchor.to(dtype), query, negatives.to(dtype), mask, 0.07, kind).sum().backward()  # type: ignore[arg-type]
        assert query.grad is not None
        gradients.append(query.grad.double())
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(2, 40), st.integers(1, 60), st.integers(0, 1000))
def test_each_image_has_exactly_its_negatives(images: int, count: int, seed: int) -> None:
    """Exactly K each, at most all others (clipping), never the own row, no row twice."""
    drawn = draw_negatives(images, count, generator(seed))
    own = torch.arange(images)
    mask = negative_mask(own, drawn)
    for i in range(images):
        rows = drawn[mask[i]].tolist()
        assert len(rows) == min(count, images - 1)
        assert len(set(rows)) == len(rows)
        assert i not in rows
        assert all(0 <= row < images for row in rows)


@pytest.mark.parametrize(("images", "count"), [(8, 3), (8, 6), (3, 1)])
def test_negatives_are_uniform_over_the_other_rows(images: int, count: int) -> None:
    repeats, own = 4000, torch.arange(images)
    counts = np.zeros((images, images))
    for seed in range(repeats):
        drawn = draw_negatives(images, count, generator(seed))
        mask = negative_mask(own, drawn)
        for k, row in enumerate(drawn.tolist()):
            counts[:, row] += mask[:, k].numpy()
    expected = repeats * count / (images - 1)
    for i in range(images):
        others = np.delete(counts[i], i)
        assert counts[i, i] == 0
        # Draws without replacement vary less than multinomial ones, so this bound (p about 1e-4) is safe.
        statistic = float(((others - expected) ** 2 / expected).sum())
        assert statistic < (images - 2) + 4 * math.sqrt(2 * (images - 2)) + 8


def test_pairs_of_negatives_are_uniform_too() -> None:
    """Beyond single rows: every set of two of the four other rows comes as often."""
    seen: Counter[tuple[int, ...]] = Counter()
    for seed in range(3000):
        drawn = draw_negatives(5, 2, generator(seed))
        seen[tuple(sorted(drawn[negative_mask(torch.tensor([0]), drawn)[0]].tolist()))] += 1
    assert len(seen) == 6
    assert sum((v - 500) ** 2 / 500 for v in seen.values()) < 25.7  # chi-square, 5 degrees of freedom, p = 1e-4


def test_negatives_repeat_by_key_and_differ_otherwise() -> None:
    first, again, other = (draw_negatives(1000, 298, generator(seed)).tolist() for seed in (1, 1, 2))
    assert first == again
    assert len(set(first) & set(other)) < 200


def test_drawing_moves_no_global_generator() -> None:
    state = torch.get_rng_state()
    draw_negatives(100, 10, generator(0))
    assert torch.equal(torch.get_rng_state(), state)
