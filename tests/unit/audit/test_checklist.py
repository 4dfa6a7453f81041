"""The reporting checklist answers every practice from the run's facts, or says that it is not done or not known."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dermonas.audit.checklist import SECTIONS, Facts, Other, checklist, hardware_words
from dermonas.audit.checklist_page import as_content, as_page, not_stated, setup

HARDWARE = {"CPU": "EPYC", "cores": "2", "memory": "7.7 GiB", "card": "none"}
FACTS = Facts(
    run="a" * 32, commit="303ebcd", clean=True, space="darts5-pairs", size=36.1, objective="contrastive",
    sampler="tpe (paper preset)", seed=3, repeats=(), baselines=(), data="phantom, synthetic, digest 0123",
    recipe="phantom", settings={"trials": 5}, deviations={"epochs": {"paper": 10, "here": 3}}, training={"epochs": 10},
    counts={"distinct": 5, "duplicate": 1, "pruned": 2, "failed": 4}, epochs=3, images=240, image_epochs=3600,
    curve=(4.0, 3.5, 3.5, 3.25, 3.0), device_seconds=12.25, trial_seconds=14.5, run_seconds=20.75,
    phases={"score": 12.0}, hardware=HARDWARE, versions={"torch": "2.14"},
)  # fmt: skip
RANDOM = Other("b" * 32, "search-r", 3, 3.5, 11.0, hardware_words(HARDWARE))


def answers(**changes):
    return {item.number: item for item in checklist(replace(FACTS, **changes))}


def test_every_practice_is_answered_once_and_with_facts():
    items = checklist(FACTS)
    assert [item.number for item in items] == list(range(1, 15))
    assert sorted(number for numbers in SECTIONS.values() for number in numbers) == list(range(1, 15))
    assert {item.answer for item in items} <= {"yes", "in part", "not done", "not known"}
    assert all(len(item.facts) > 10 and "\n" not in item.facts for item in items)


@pytest.mark.parametrize(
    ("commit", "clean", "answer", "says"),
    [
        ("303ebcd", True, "yes", "commit 303ebcd, unchanged"),
        ("303ebcd", False, "in part", "WITH uncommitted changes"),
        ("303ebcd", None, "not known", "whether unchanged is not known"),
        ("", None, "not known", "no git checkout"),
    ],
)
def test_code_is_released_as_far_as_the_commit_says(commit, clean, answer, says):
    found = answers(commit=commit, clean=clean)
    for number in (1, 2, 3):
        assert found[number].answer == answer
        assert says in found[number].facts


def test_without_a_random_search_the_comparison_is_not_done_and_the_command_is_named():
    found = answers()
    assert (found[8].answer, found[4].answer) == ("not done", "not done")
    assert "--sampler random" in found[8].facts
    assert "8. Compare with random sampling and random search: not done" in not_stated(checklist(FACTS))


def test_a_random_search_of_the_same_settings_is_named_with_the_verdict():
    found = answers(baselines=(RANDOM,))
    assert found[8].answer == "yes"
    assert "search-r (bbbbbbbb, seed 3) best 3.5000, this 3.0000, better" in found[8].facts
    assert "not better" in answers(baselines=(replace(RANDOM, best=3.0),))[8].facts
    assert "another seed" in answers(baselines=(replace(RANDOM, seed=4),))[8].facts
    assert answers(sampler="random")[8].facts == "this is the random search"


def test_hardware_that_differs_is_a_confounder():
    assert answers(baselines=(RANDOM,))[11].answer == "yes"
    other = answers(baselines=(RANDOM, replace(RANDOM, hardware="another")))[11]
    assert (other.answer, "1 of 2 random searches" in other.facts) == ("in part", True)
    assert answers()[11].answer == "in part"


def test_repetitions_are_counted_by_seed():
    assert answers()[9].answer == "not done"
    found = answers(repeats=(replace(RANDOM, seed=1, best=2.5), replace(RANDOM, seed=7, best=4.5)))[9]
    assert (found.answer, found.facts) == ("yes", "seeds 1, 3, 7; best scores 2.5000 to 4.5000")


def test_progress_cost_and_choices_are_those_of_the_run():
    found = answers()
    assert "best score 3.5000 after 2, 3.5000 after 3, 3.0000 after 5 genotypes" in found[7].facts
    assert "12.2 device seconds, 14.5 s in trials" in found[13].facts
    assert "distinct 5, duplicate 1, pruned 2, failed 4" in found[13].facts
    assert "epochs 3 (paper 10)" in found[12].facts
    assert found[12].answer == "not known"
    assert "other than the paper's: none." in answers(deviations={})[12].facts


def test_the_setup_says_space_seed_budget_hardware_and_training():
    found = setup(FACTS)
    assert found["budget"] == "5 distinct genotypes x 240 images x 3 epochs; paid for 3600 image epochs"
    assert found["hardware"] == "CPU EPYC, cores 2, memory 7.7 GiB, card none"
    assert (found["seed"], found["final training"], found["versions"]) == ("3", "epochs 10", "torch 2.14")
    assert "10^36.1" in found["search space"]
    assert "defaults of `train`" in setup(replace(FACTS, training={}))["final training"]


def test_page_and_content_say_the_same():
    page, content = as_page(FACTS), json.loads(json.dumps(as_content(FACTS)))
    for item in content["items"]:
        assert f"| {item['number']} | {item['practice']} | {item['answer']} | {item['facts']} |" in page
    for what, words in content["setup"].items():
        assert f"| {what} | {words} |" in page
    for line in content["not_stated"]:
        assert f"- {line}" in page
    assert len(content["not_stated"]) == sum(item["answer"] != "yes" for item in content["items"]) > 5


def test_a_name_with_a_bar_breaks_no_table():
    page = as_page(replace(FACTS, data="a|b"))
    rows = [line for line in page.splitlines() if "a\\|b" in line]
    assert rows
    assert all(line.replace("\\|", "").count("|") in (3, 5) for line in rows)
