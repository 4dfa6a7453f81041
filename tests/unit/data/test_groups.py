import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from dermonas.data.groups import mates, merge_groups
from dermonas.data.leakage import Pairs, no_pairs


def pairs(*links: tuple[int, int]) -> Pairs:
    i, j = np.array(links, dtype=np.int64).reshape(-1, 2).T
    return Pairs(i, j, np.zeros(len(i), np.uint8), np.ones(len(i), np.float32), np.zeros(len(i), np.uint8))


def test_union_of_lesion_bytes_and_pictures() -> None:
    paths = ["e.jpg", "d.jpg", "c.jpg", "b.jpg", "a.jpg", "f.jpg"]
    lesions = ["L2", "L2", None, None, None, "L1"]
    digests = ["1", "2", "2", "4", "5", "6"]  # d and c are the same file
    groups = merge_groups(paths, lesions, digests, pairs((3, 4)))  # b and a look the same
    assert groups.tolist() == ["L2", "L2", "L2", "a.jpg", "a.jpg", "L1"]


def test_unknown_lesions_group_with_nothing() -> None:
    assert len(set(merge_groups(["a", "b"], [None, None], ["1", "2"], no_pairs()))) == 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_row_order_is_irrelevant(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = 30
    paths = [f"{index:03d}" for index in range(count)]
    lesions = [None if value == 0 else f"L{value}" for value in generator.integers(0, 15, count)]
    digests = [str(value) for value in generator.integers(0, 25, count)]
    links = [tuple(sorted(generator.choice(count, 2, replace=False))) for _ in range(4)]
    groups = merge_groups(paths, lesions, digests, pairs(*links))
    order = generator.permutation(count)
    place = {int(row): position for position, row in enumerate(order)}
    moved = pairs(*(tuple(sorted((place[int(i)], place[int(j)]))) for i, j in links))
    again = merge_groups(
        [paths[row] for row in order], [lesions[row] for row in order], [digests[row] for row in order], moved
    )
    assert again.tolist() == [groups[row] for row in order]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=12))
def test_mates_are_all_rows_of_the_groups(rows: list[tuple[str, bool]]) -> None:
    frame = pd.DataFrame(rows, columns=["group", "held"], index=range(5, 5 + len(rows))).astype({"held": bool})
    held = {group for group, chosen in rows if chosen}
    found = mates(frame["group"], frame["held"])
    assert found.tolist() == [group in held for group, _ in rows]
    assert found.index.equals(frame.index)


def test_files_with_the_same_beginning_of_their_digests_are_not_the_same() -> None:
    digests = ["0" * 63 + end for end in "abac"]
    groups = merge_groups(list("wxyz"), [None] * 4, digests, no_pairs())
    assert groups.tolist() == ["w", "x", "w", "z"]
