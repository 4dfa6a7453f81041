"""What every objective returns and may raise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dermonas.errors import SearchError
from dermonas.events import Observer
from dermonas.space.genotype import Genotype


class NotFinite(SearchError):
    """The loss became NaN or infinite: this candidate fails, the search goes on."""


@dataclass(frozen=True)
class Score:
    """The outcome of scoring one candidate; lower is better.

    Attributes:
        value: The score after the last epoch; by default the per-image mean loss of that epoch.
        epochs: The same for every epoch.
        code_scaled: The last epoch's loss as the papers' code returns it: the sum over batches of
            (batch mean x batch size), divided by the number of batches (spec/csnas.md 4.3).
        device_seconds: Time on the training device, data order and views included.
        parameters: Built parameters of the candidate, without projection heads.
        dead_parameters: Those among them that are never computed.
        multiply_adds: Multiply-adds of one image, dead modules included.
    """

    value: float
    epochs: tuple[float, ...]
    code_scaled: float
    device_seconds: float
    parameters: int
    dead_parameters: int
    multiply_adds: int


class Objective(Protocol):
    """Scores genotypes; two calls with one genotype give the same score (bit for bit on CPU)."""

    def score(self, genotype: Genotype, observer: Observer, number: int = 0, /) -> Score:
        """Score one candidate, reporting each epoch's value as {"score": value}.

        Raises:
            NotFinite: If the loss is not finite.
        """
