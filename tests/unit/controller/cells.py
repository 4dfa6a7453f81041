"""Cells as networkx graphs, for exact edit distances, and cells to try things on."""

from __future__ import annotations

import networkx as nx
import numpy as np

from dermonas.controller.darts import DartsLanguage
from dermonas.controller.language import Language, Thetas
from dermonas.controller.nasbench101 import NasBench101Language
from dermonas.controller.nasbench201 import NasBench201Language
from dermonas.space.nasbench101_graphs import every_graph
from dermonas.space.nasbench201 import EDGES, OPERATIONS

LANGUAGES = (NasBench101Language(), NasBench201Language(), DartsLanguage(4), DartsLanguage(5))
NAMES = [language.name for language in LANGUAGES]


def some_cells(language: Language, count: int, seed: int = 0) -> Thetas:
    """Valid cells; for NAS-Bench-101 half of at most five vertices, half as sampled; for ours canonical."""
    rng = np.random.default_rng(seed)
    if isinstance(language, DartsLanguage):
        return language.sample(rng, count)
    if isinstance(language, NasBench101Language):
        small = every_graph(5)
        chosen = small[rng.choice(len(small), count // 2, replace=False)]
        drawn = [language.space.sample(rng) for _ in range(count - len(chosen))]
        return np.concatenate([chosen.astype(np.uint8), np.array(drawn, np.uint8)])
    return np.array([language.space.sample(rng) for _ in range(count)], np.uint8)


def edit_distance(language: Language, one: tuple[int, ...], other: tuple[int, ...]) -> float | None:
    """Exact labelled-graph edit distance, every edit of cost 1; None above 3. Two cells of ours: the sum."""
    total = 0.0
    for first, second in zip(graphs(language, one), graphs(language, other), strict=True):
        distance = nx.graph_edit_distance(
            first,
            second,
            node_match=lambda a, b: a["label"] == b["label"],
            edge_match=lambda a, b: a["label"] == b["label"],
            upper_bound=3,
        )
        if distance is None:
            return None
        total += distance
    return total


def graphs(language: Language, theta: tuple[int, ...]) -> list[nx.DiGraph]:
    """The labelled graphs of a cell, dead vertices left out."""
    if isinstance(language, NasBench101Language):
        cell = language.space.spec(theta).pruned
        assert cell is not None
        graph = nx.DiGraph()
        for vertex, label in enumerate(cell.operations):
            graph.add_node(vertex, label=label)
        for source, row in enumerate(cell.matrix):
            graph.add_edges_from(((source, target) for target, on in enumerate(row) if on), label="")
        return [graph]
    if isinstance(language, NasBench201Language):
        graph = nx.DiGraph()
        for node in range(4):
            graph.add_node(node, label={0: "input", 3: "output"}.get(node, "node"))
        for edge, choice in zip(EDGES, theta, strict=True):
            if OPERATIONS[choice] != "none":
                graph.add_edge(*edge, label=choice)
        return [graph]
    assert isinstance(language, DartsLanguage)
    found = []
    genotype = language.space.genotype(theta)
    for cell in (genotype.normal, genotype.reduce):
        graph = nx.DiGraph()
        for state in (0, 1):
            graph.add_node(state, label=f"input {state}")
        for node in sorted(cell.live_nodes):
            # The place in the concat is part of what a node is.
            graph.add_node(node + 2, label=cell.concat.index(node + 2) if node + 2 in cell.concat else "free")
            for operation, source in cell.nodes[node]:
                graph.add_edge(source, node + 2, label=operation)
        found.append(graph)
    return found
