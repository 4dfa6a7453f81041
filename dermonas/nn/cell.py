"""A cell: two inputs, intermediate nodes that sum their edges, channel concat of some nodes.

Source: spec/csnas.md 1.4; dead nodes: DESIGN 5.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dermonas.nn.droppath import DropPath
from dermonas.nn.operations import Block, FactorizedReduce, ReLUConvBN, build_operation
from dermonas.space import genotype as space

PrevPrev = Float[Tensor, "batch channels_prev_prev height_prev_prev width_prev_prev"]
Prev = Float[Tensor, "batch channels_prev height_prev width_prev"]
Output = Float[Tensor, "batch channels height width"]


class Cell(nn.Module):
    """One normal or reduction cell.

    Nodes that do not reach the concat are built, so that parameter counts are those of the published
    networks, but frozen and never computed. The same holds for a preprocessing block that no live
    node reads.

    Args:
        cell: The structure.
        channels_prev_prev: Channels of the output two cells back.
        channels_prev: Channels of the previous cell's output.
        channels: Channels of each node.
        reduction: Whether edges from the two inputs have stride 2.
        reduction_prev: Whether the previous cell halved the resolution.
        drop_path: The network's shared drop-path state.
    """

    def __init__(
        self,
        cell: space.Cell,
        channels_prev_prev: int,
        channels_prev: int,
        channels: int,
        reduction: bool,
        reduction_prev: bool,
        drop_path: DropPath,
    ) -> None:
        super().__init__()
        self.structure = cell
        self.drop_path = drop_path
        self.compute_dead = False  # only for counting what is built
        first = FactorizedReduce if reduction_prev else ReLUConvBN
        self.preprocess0 = first(channels_prev_prev, channels)
        self.preprocess1 = ReLUConvBN(channels_prev, channels)
        self.nodes = nn.ModuleList()
        # (key, source) of every edge, node by node: ModuleDict keys name source and operation, so
        # that initialisation keyed by module path gives two candidates the same shared edges.
        self.plan: list[list[tuple[str, int]]] = []
        for edges in cell.nodes:
            node = nn.ModuleDict()
            plan = []
            for operation, source in edges:
                key = f"{source}_{operation}"
                while key in node:  # NASNet carries one edge twice in a node
                    key += "_again"
                node[key] = build_operation(operation, channels, 2 if reduction and source < 2 else 1)
                plan.append((key, source))
            self.nodes.append(node)
            self.plan.append(plan)
        self.channels_out = channels * len(cell.concat)
        for module in self.dead_modules():
            module.requires_grad_(False)

    def dead_modules(self) -> list[nn.Module]:
        """The built modules that never influence the output."""
        dead = [node for i, node in enumerate(self.nodes) if i not in self.structure.live_nodes]
        preprocess = (self.preprocess0, self.preprocess1)
        return dead + [block for i, block in enumerate(preprocess) if i not in self.structure.live_sources]

    def forward(
        self, prev_prev: PrevPrev | None, prev: Prev | None, rectified: bool = False, rectify: bool = False
    ) -> Output:
        """Map the two previous outputs to (B, channels_out, H, W); an unread input may be None.

        A cell's output is read through a ReLU by the cells behind it, and a node by most edges: each is taken once.

        Args:
            prev_prev: Output two cells back.
            prev: The previous cell's output.
            rectified: Both went through a ReLU already.
            rectify: Return the output behind a ReLU.
        """
        live_sources, live_nodes = self.structure.live_sources, self.structure.live_nodes
        states: list[Tensor | None] = [None, None]
        if prev_prev is not None and (0 in live_sources or self.compute_dead):
            states[0] = self.preprocess0(prev_prev, rectified)
        if prev is not None and (1 in live_sources or self.compute_dead):
            states[1] = self.preprocess1(prev, rectified)
        positives: dict[int, Tensor] = {}

        def positive(source: int) -> Tensor:
            if source not in positives:
                positives[source] = F.relu(_present(states[source]))
            return positives[source]

        for i, (node, plan) in enumerate(zip(self.nodes, self.plan, strict=True)):
            computed = i in live_nodes or self.compute_dead
            states.append(self._node(node, plan, states, positive) if computed else None)
        parts = [positive(i) if rectify else _present(states[i]) for i in self.structure.concat]
        return torch.cat(parts, dim=1)

    def _node(
        self,
        node: nn.Module,
        plan: list[tuple[str, int]],
        states: list[Tensor | None],
        positive: Callable[[int], Tensor],
    ) -> Tensor:
        total: Tensor | None = None
        for key, source in plan:
            operation = node[key]  # type: ignore[index]
            if isinstance(operation, Block | FactorizedReduce):
                out = operation(positive(source), rectified=True)
            else:
                out = operation(_present(states[source]))
            if self.training and not isinstance(operation, nn.Identity):
                out = self.drop_path(out)
            total = out if total is None else total + out
        return _present(total)


def _present(state: Tensor | None) -> Tensor:
    assert state is not None, "a live node reads only live states"
    return state
