"""The controller: an encoder of token sequences, a predictor of their value, and a decoder back to tokens."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from dermonas.errors import ConfigError
from dermonas.seeding import forked

START = 0
"""The symbol before the first token of a decoder's input, and the padding of short sequences."""

_HALF = sqrt(0.5)  # keeps the variance of a sum of two


@dataclass(frozen=True)
class ControllerSettings:
    """Sizes of a controller.

    Attributes:
        vocabulary: Symbols, 0 (start and padding) among them.
        length: Tokens in a sequence.
        hidden: Width of embeddings, LSTM states and the cell's embedding.
        mlp_hidden: Width of the predictor's hidden layer.

    Raises:
        ConfigError: If a size is not positive.

    Source: hidden 16, mlp_hidden 64 of the authors' nasbench101.yaml (spec/nao.md 3).
    """

    vocabulary: int
    length: int
    hidden: int = 16
    mlp_hidden: int = 64

    def __post_init__(self) -> None:
        for key in ("vocabulary", "length", "hidden", "mlp_hidden"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}: {getattr(self, key)} is not possible; give 1 or more")


class Encoded(NamedTuple):
    """Encoded sequences.

    Attributes:
        outputs: (batch, length, hidden), every position of unit norm.
        embedding: (batch, hidden), their normalised mean: the point in the space of cells.
    """

    outputs: Float[Tensor, "batch length hidden"]
    embedding: Float[Tensor, "batch hidden"]


class Encoder(nn.Module):
    """Embedding, one bidirectional LSTM layer, a projection, and the embedding added again.

    Source: spec/nao.md 3.
    """

    def __init__(self, settings: ControllerSettings) -> None:
        super().__init__()
        hidden = settings.hidden
        self.symbols = nn.Embedding(settings.vocabulary, hidden)
        self.recurrent = nn.LSTM(hidden, hidden, batch_first=True, bidirectional=True)
        self.project = nn.Linear(2 * hidden, hidden)

    def forward(self, tokens: Int64[Tensor, "batch length"]) -> Encoded:
        """Return the encoded sequences."""
        symbols = self.symbols(tokens)
        states, _ = self.recurrent(symbols)
        outputs = F.normalize(self.project(states) + symbols, dim=2)
        return Encoded(outputs, pooled(outputs))


def pooled(outputs: Float[Tensor, "batch length hidden"]) -> Float[Tensor, "batch hidden"]:
    """Return the normalised mean over the positions, padding among them."""
    return F.normalize(outputs.mean(dim=1), dim=1)


class Predictor(nn.Module):
    """The value of a cell in (0, 1) from its embedding.

    Source: spec/nao.md 3 (F, with the sigmoid).
    """

    def __init__(self, settings: ControllerSettings) -> None:
        super().__init__()
        self.widen = nn.Linear(settings.hidden, settings.mlp_hidden)
        self.narrow = nn.Linear(settings.mlp_hidden, settings.hidden)
        self.value = nn.Linear(settings.hidden, 1)

    def forward(self, embedding: Float[Tensor, "batch hidden"]) -> Float[Tensor, " batch"]:
        """Return one value a cell."""
        out = self.narrow(self.widen(embedding).relu()).relu()
        return self.value((embedding + out) * _HALF).sigmoid()[:, 0]


class Decoder(nn.Module):
    """An LSTM that starts from the embedding and attends to the encoder's outputs.

    Source: spec/nao.md 3.
    """

    def __init__(self, settings: ControllerSettings) -> None:
        super().__init__()
        hidden = settings.hidden
        self.symbols = nn.Embedding(settings.vocabulary, hidden)
        self.recurrent = nn.LSTM(hidden, hidden, batch_first=True)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.combine = nn.Linear(2 * hidden, hidden, bias=False)
        self.logits = nn.Linear(hidden, settings.vocabulary)

    def forward(
        self,
        inputs: Int64[Tensor, "batch steps"],
        outputs: Float[Tensor, "batch length hidden"],
        state: tuple[Tensor, Tensor],
    ) -> tuple[Float[Tensor, "batch steps vocabulary"], tuple[Tensor, Tensor]]:
        """Return the log-probabilities of the tokens that follow `inputs`, and the LSTM's state after them.

        Args:
            inputs: The tokens before: `START` first.
            outputs: The encoder's.
            state: (hidden, cell) of shape (1, batch, hidden), as `begin` gives them.
        """
        symbols = self.symbols(inputs)
        states, state = self.recurrent(symbols, state)
        states = (states + symbols) * _HALF
        attention = (self.query(states) @ outputs.transpose(1, 2)).softmax(dim=2)
        attended = self.combine(torch.cat([attention @ outputs, states], dim=2)).tanh()
        return self.logits((attended + states) * _HALF).log_softmax(dim=2), state

    @staticmethod
    def begin(embedding: Float[Tensor, "batch hidden"]) -> tuple[Tensor, Tensor]:
        """Return the state before the first step: hidden and cell are the embedding."""
        return embedding[None], embedding[None]


class Controller(nn.Module):
    """Encoder, predictor and decoder of one language.

    Args:
        settings: The sizes.
        seed: Keys the initial weights (torch's defaults); no global generator moves.
    """

    def __init__(self, settings: ControllerSettings, seed: int = 0) -> None:
        super().__init__()
        self.settings = settings
        with forked(seed, "controller"):
            self.encoder = Encoder(settings)
            self.predictor = Predictor(settings)
            self.decoder = Decoder(settings)

    def log_probabilities(
        self, tokens: Int64[Tensor, "batch length"], encoded: Encoded
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Return the decoder's log-probabilities of each token given the true tokens before it."""
        before = torch.cat([torch.full_like(tokens[:, :1], START), tokens[:, :-1]], dim=1)
        return self.decoder(before, encoded.outputs, self.decoder.begin(encoded.embedding))[0]

    @torch.no_grad()
    def generate(
        self, encoded: Encoded, allowed: Bool[Tensor, "length vocabulary"] | None = None
    ) -> Int64[Tensor, "batch length"]:
        """Decode greedily, each step's most probable symbol fed to the next.

        Args:
            encoded: Where to decode from; its outputs need not be an encoder's.
            allowed: The symbols a position may have (`Language.allowed`); None decodes unconstrained, as the paper.
        """
        state = self.decoder.begin(encoded.embedding)
        last = torch.full((len(encoded.embedding), 1), START, device=encoded.embedding.device)
        tokens = []
        for position in range(self.settings.length):
            scores, state = self.decoder(last, encoded.outputs, state)
            if allowed is not None:
                scores = scores.masked_fill(~allowed[position], -torch.inf)
            last = scores.argmax(dim=2)
            tokens.append(last)
        return torch.cat(tokens, dim=1)
