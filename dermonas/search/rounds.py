"""What a round of NAO came to, once its candidates are evaluated: facts, and their names as metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dermonas.controller.proposal import IN_POOL, IN_ROUND
from dermonas.metrics.ranks import spearman
from dermonas.search.samplers.history import Record
from dermonas.search.samplers.nao_rounds import Round


@dataclass(frozen=True)
class RoundFacts:
    """What a round came to.

    Attributes:
        round: From 1.
        pool: Networks it learned from.
        error: Mean squared error of the predictor on them.
        reconstruction: Mean NLL of a token on them, nats.
        rank_correlation: Spearman's of predicted and seen accuracy over them; nan where either is constant.
        held_out_rank_correlation: The same over the round's candidates, predicted before they were asked for; nan
            with fewer than two.
        decoded: Sequences decoded.
        valid: Of these, cells.
        novel: Of these, networks that were new.
        relabelled: Of the valid ones that were not new, how many the paper would have taken: their tokens were.
        neighbours: Candidates that are neighbours of the best networks instead.
        fallbacks: Candidates that are random positives.
        seconds: Of training and proposal; of the proposal alone in a round that was resumed.
    """

    round: int
    pool: int
    error: float
    reconstruction: float
    rank_correlation: float
    held_out_rank_correlation: float
    decoded: int
    valid: int
    novel: int
    relabelled: int
    neighbours: int
    fallbacks: int
    seconds: float


def facts_of(made: Round, records: Sequence[Record]) -> RoundFacts:
    """Return what a round came to.

    Args:
        made: The round.
        records: The history that it stands in, its own trials among them as far as they are done.
    """
    proposal = made.proposal
    done = {record.number: record for record in records if record.state == "complete"}
    tried = [done.get(made.first + place) for place in range(len(made.candidates))]
    # A stall replaces a candidate by another theta: the prediction is then of a network that was not asked for.
    pairs = [
        (predicted, -record.key[2])
        for candidate, predicted, record in zip(made.candidates, made.predicted, tried, strict=True)
        if record is not None and candidate == record.theta
    ]
    valid = proposal.decoded - sum(
        count for reason, count in proposal.rejected.items() if reason not in (IN_POOL, IN_ROUND)
    )
    return RoundFacts(
        round=made.number + 1,
        pool=made.pool,
        error=made.error,
        reconstruction=made.reconstruction,
        rank_correlation=made.rank_correlation,
        held_out_rank_correlation=spearman(*np.array(pairs).T) if len(pairs) > 1 else float("nan"),
        decoded=proposal.decoded,
        valid=valid,
        novel=len(proposal.candidates) - proposal.neighbours - proposal.fallbacks,
        relabelled=proposal.relabelled,
        neighbours=proposal.neighbours,
        fallbacks=proposal.fallbacks,
        seconds=made.seconds,
    )


def round_metrics(rounds: Sequence[RoundFacts]) -> dict[str, float]:
    """Return the means of one or more rounds under the names of their metrics; what none has a value of is left out.

    Validity is the share of decoded sequences that are cells, novelty the share of these whose network is new.
    """
    values = {
        "controller/rank_correlation": [one.rank_correlation for one in rounds],
        "controller/held_out_rank_correlation": [one.held_out_rank_correlation for one in rounds],
        "controller/validity": [one.valid / one.decoded for one in rounds if one.decoded],
        "controller/novelty": [one.novel / one.valid for one in rounds if one.valid],
        "controller/predictor_error": [one.error for one in rounds],
        "controller/reconstruction": [one.reconstruction for one in rounds],
        "controller/relabelled": [float(one.relabelled) for one in rounds],
        "controller/neighbours": [float(one.neighbours) for one in rounds],
        "controller/fallbacks": [float(one.fallbacks) for one in rounds],
    }
    known = {name: [value for value in those if np.isfinite(value)] for name, those in values.items()}
    return {name: float(np.mean(those)) for name, those in known.items() if those}
