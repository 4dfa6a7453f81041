"""Rounds of nao: which of them another history drops, what they learn from, and what is kept on disk."""

from __future__ import annotations

import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from nao_fakes import COUNT, INITIAL, NB201, controller_for, sampler_for, searched, settings
from sampler_fakes import record

import dermonas.search.samplers.nao_rounds as nao_rounds
from dermonas.controller.languages import language_of
from dermonas.controller.storage import weights_digest
from dermonas.errors import StorageError
from dermonas.search.samplers.nao import NaoSampler

LANGUAGE = language_of(NB201)
TRIALS = INITIAL + 2 * COUNT  # the third round begins here


@pytest.fixture
def spied(monkeypatch):
    """What `train_on_pool`, `propose` and `unevaluated` are given, call by call."""
    calls = {"train_on_pool": [], "propose": [], "unevaluated": []}
    for name, kept in calls.items():
        real = getattr(nao_rounds, name)
        monkeypatch.setattr(nao_rounds, name, lambda *a, real=real, kept=kept: kept.append(a) or real(*a))
    return calls


def history_without(missing):
    """A history of two rounds in which a trial is missing, and its record, as it ends late."""
    thetas, records = searched(sampler_for(), TRIALS, silent={missing})
    return records, record(missing, thetas[missing], 0.5, digest=NB201.digest(thetas[missing]))


@pytest.mark.parametrize(
    ("late", "kept"),
    [
        (3, 0),  # in the initial pool
        (INITIAL + 1, 1),  # in the first round
        (INITIAL + 2, 1),
        (INITIAL + COUNT, 2),  # the first trial of the second
        (TRIALS - 1, 2),
    ],
)
def test_a_late_record_drops_the_rounds_that_began_after_it_alone(late, kept):
    records, ended = history_without(late)
    sampler = sampler_for()
    sampler.theta(records, TRIALS + 2)
    before = sampler.rounds
    assert len(before) == 3
    both = sorted([*records, ended], key=lambda r: r.number)
    theta = sampler.theta(both, TRIALS + 2)
    assert [a is b for a, b in zip(before, sampler.rounds, strict=True)] == [place < kept for place in range(3)]
    assert theta == sampler_for().theta(both, TRIALS + 2)
    # And back again, as another study read through the same sampler would.
    assert sampler.theta(records, TRIALS + 2) == before[2].candidates[TRIALS + 2 - before[2].first]


def test_records_of_a_rounds_own_trials_drop_nothing():
    _, records = searched(sampler_for(), TRIALS + 3)
    sampler = sampler_for()
    sampler.theta(records[:TRIALS], TRIALS)
    before = sampler.rounds
    for count in (TRIALS + 1, TRIALS + 3, TRIALS + 2, TRIALS):
        sampler.theta(records[:count], TRIALS + 4)
        assert all(a is b for a, b in zip(sampler.rounds, before, strict=True))
    # A value that was told otherwise is another history from there on.
    other = replace(records[8], value=-9.0, key=(0, 0, -9.0))
    sampler.theta([*records[:8], other, *records[9:TRIALS]], TRIALS)
    assert [a is b for a, b in zip(sampler.rounds, before, strict=True)] == [True, False, False]


def by_cell(tokens, targets):
    return {tuple(row): target for row, target in zip(tokens.tolist(), targets.tolist(), strict=True)}


def encoded(theta):
    return tuple(LANGUAGE.encode(np.array([NB201.canonical(theta)]))[0].tolist())


def test_pruned_trials_are_learned_as_worthless_and_are_no_seeds(spied):
    pruned = (INITIAL, INITIAL + 2)
    # What they stopped at is the best of all: it must not look it.
    thetas, _ = searched(sampler_for(), INITIAL + COUNT)
    values = {NB201.canonical(theta): float(n) for n, theta in enumerate(thetas)}
    values |= {NB201.canonical(thetas[n]): -99.0 for n in pruned}
    _, records = searched(sampler_for(), INITIAL + COUNT, pruned=pruned, score=values.__getitem__)
    for calls in spied.values():
        calls.clear()
    sampler = sampler_for(seeds=20)
    sampler.theta(records, INITIAL + COUNT)
    learned = by_cell(*spied["train_on_pool"][-1][1:3])
    assert len(learned) == len(records) == sampler.rounds[1].pool
    for r in records:
        # Of 0 to 5 in the initial pool: 0 at their median 2.5 and worse, 1 at -2.5.
        expected = 0.0 if r.state == "pruned" else max(0.0, (2.5 - r.value) / 5)
        assert learned[encoded(r.theta)] == pytest.approx(expected)
    seeds = [tuple(theta) for theta in spied["propose"][-1][2].tolist()]
    order = sorted((r for r in records if r.state == "complete"), key=lambda r: r.value)
    assert seeds == [NB201.canonical(r.theta) for r in order]
    assert {NB201.digest(thetas[n]) for n in pruned} <= spied["propose"][-1][3]


def test_paper_mode_never_hears_of_pruned_trials_but_asks_for_other_cells(spied):
    thetas, records = searched(sampler_for(mode="paper"), INITIAL + COUNT)
    left = [r for r in records if r.number != INITIAL]  # as `History` reads a study in paper mode
    for calls in spied.values():
        calls.clear()
    sampler_for(mode="paper").theta(left, INITIAL + COUNT)
    assert len(spied["train_on_pool"][-1][1]) == len(records) - 1
    assert NB201.digest(thetas[INITIAL]) in spied["propose"][-1][3]


def test_a_network_that_was_pruned_first_counts_as_complete(spied):
    _, records = searched(sampler_for(), INITIAL)
    first = replace(records[2], key=(1, -1, -50.0), value=-50.0, state="pruned")
    shifted = [replace(r, number=r.number + 1) for r in records]
    again = [replace(first, number=0), *shifted, replace(first, number=9), replace(shifted[0], number=10, value=-80.0)]
    sampler = sampler_for()
    sampler.theta(again, INITIAL + 1 + COUNT)
    assert [made.first for made in sampler.rounds] == [INITIAL + 1, INITIAL + 1 + COUNT]
    assert [made.pool for made in sampler.rounds] == [INITIAL, INITIAL]
    pools = [by_cell(*call[1:3]) for call in spied["train_on_pool"][-2:]]
    scores = [r.value for r in records]
    for r in records:
        expected = max(0.0, (np.median(scores) - r.value) / (2 * (np.median(scores) - min(scores))))
        assert [pool[encoded(r.theta)] for pool in pools] == [pytest.approx(expected)] * 2


def test_a_round_without_a_cell_takes_an_unevaluated_one_and_never_again(spied):
    mute = controller_for(NB201)
    mute.decoder.logits.bias.data[0] = 99.0  # its decoder says nothing but the start
    how = settings(constrained=False, neighbours=0, at_least=0, pool=replace(settings().pool, weight=1.0))
    thetas, _ = searched(NaoSampler(NB201, 1, mute, how), INITIAL + 3, silent=range(INITIAL, INITIAL + 3))
    assert len(spied["unevaluated"]) == 3
    digests = [NB201.digest(theta) for theta in thetas]
    assert len(set(digests)) == len(digests)
    # They failed, so the pool does not hold them.
    assert [call[1] for call in spied["unevaluated"]] == [set(digests[: INITIAL + n]) for n in range(3)]
    assert spied["propose"][-1][3] == set(digests[: INITIAL + 2])


@pytest.fixture
def kept(tmp_path, spied):
    """A folder with two rounds, the history they belong to, and the next proposal."""
    sampler = sampler_for(folder=tmp_path / "a" / "b")
    thetas, records = searched(sampler, INITIAL + COUNT + 1)
    assert len(spied["train_on_pool"]) == 2
    for calls in spied.values():
        calls.clear()
    return tmp_path / "a" / "b", records[:-1], thetas[-1], sampler


def test_rounds_on_disk_are_read_and_not_trained_anew(kept, spied):
    folder, records, theta, sampler = kept
    names = sorted(path.name for path in folder.iterdir())
    assert [name[:10] for name in names] == ["round-000-", "round-001-"]
    again = sampler_for(folder=folder)
    assert again.theta(records, INITIAL + COUNT) == theta == sampler_for().theta(records, INITIAL + COUNT)
    assert len(spied["train_on_pool"]) == 2  # by the one without a folder
    for a, b in zip(again.rounds, sampler.rounds, strict=True):
        assert weights_digest(a.controller) == weights_digest(b.controller)
        assert not a.controller.training
        assert replace(a, controller=b.controller, seconds=0.0).__dict__ == replace(b, seconds=0.0).__dict__
    assert sorted(path.name for path in folder.iterdir()) == names


def test_whatever_a_training_depends_on_is_trained_anew(kept, spied):
    folder, records, _, _ = kept
    pool = records[:INITIAL]
    valued = [*pool[:3], replace(pool[3], key=(0, 0, 0.125)), *pool[4:]]
    started = controller_for(NB201)
    started.predictor.value.bias.data += 1
    longer = settings(pool=replace(settings().pool, epochs=3))
    for history, seed, how, controller in (
        (valued, 1, settings(), controller_for(NB201)),
        (pool, 2, settings(), controller_for(NB201)),
        (pool, 1, longer, controller_for(NB201)),
        (pool, 1, settings(), started),
    ):
        trained = len(spied["train_on_pool"])
        theta = NaoSampler(NB201, seed, controller, how, folder=folder).theta(history, INITIAL)
        assert len(spied["train_on_pool"]) == trained + 1
        assert theta == NaoSampler(NB201, seed, controller, how).theta(history, INITIAL)
    trained = len(spied["train_on_pool"])
    # What a round only proposes with is not asked of the file.
    sampler_for(folder=folder, steps=1, seeds=2).theta(pool, INITIAL)
    assert len(spied["train_on_pool"]) == trained


def damages():
    def flip(path, content):
        raw = bytearray(path.read_bytes())
        value = next(iter(content["weights"].values())).numpy().tobytes()
        raw[raw.find(value) + 2] ^= 0x10
        path.write_bytes(raw)

    return {
        "cut short": lambda path, content: path.write_bytes(path.read_bytes()[:-900]),
        "empty": lambda path, content: path.write_bytes(b""),
        "a changed byte among the weights": flip,
        "no weights": lambda path, content: torch.save({"error": 0.5}, path),
        "other weights": lambda path, content: torch.save({**content, "weights": {"x": torch.ones(2)}}, path),
    }


@pytest.mark.parametrize("damage", damages())
def test_a_damaged_file_is_named_in_one_line(kept, damage):
    folder, records, _, _ = kept
    (file,) = folder.glob("round-001-*.pt")
    damages()[damage](file, torch.load(file, weights_only=True))
    with pytest.raises(StorageError, match=r"round-001-\w+\.pt is damaged .*: delete it to train the round anew$") as e:
        sampler_for(folder=folder).theta(records, INITIAL + COUNT)
    assert "\n" not in str(e.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    _, records = searched(sampler_for(), INITIAL)
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match=r"^cannot write .*/file.*; free space or choose another folder$") as e:
            sampler_for(folder=folder).theta(records, INITIAL)
        assert "\n" not in str(e.value)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    _, records = searched(sampler_for(), INITIAL)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))  # a round is larger
    try:
        with pytest.raises(StorageError) as error:
            sampler_for(folder=tmp_path).theta(records, INITIAL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error.value).startswith(f"cannot write {tmp_path}/round-000-")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
    assert len(sampler_for(folder=tmp_path).theta(records, INITIAL)) == 6
