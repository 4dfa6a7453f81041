"""An external test set whose classes are not ours: which of our classes make up each of its.

Where several of ours make one of theirs (AK + SCC -> AKIEC) their probabilities are summed: they exclude each other,
so the sum is the probability of the union, and deciding by it is right where mapping the decision is not (AK .3 and
SCC .3 against BKL .4 is AKIEC). Classes of ours that the external set lacks are left out and the others renormalised:
every image is known to be of one of its classes, so a probability given that is what decides best. An extra column for
them would only trade decisions that can be right for some that cannot. What was left out is told in `notes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from dermonas.errors import ConfigError, DataError
from dermonas.metrics.counts import decide
from dermonas.metrics.inputs import Floats, check_matrix
from dermonas.metrics.temperature import scaled


@dataclass(frozen=True)
class ClassMapping:
    """From a model's classes to those of an external test set.

    Attributes:
        sources: For each external class the classes of the model that belong to it, such as
            {"MEL": ["MEL"], "AKIEC": ["AK", "SCC"]}; its order is that of the mapped columns.
        classes: The model's class names, in the order of its logits.

    Raises:
        ConfigError: Fewer than two external classes, one without sources, a class that the model does not know, or
            one that is mapped twice.
    """

    sources: Mapping[str, Sequence[str]]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.sources) < 2:
            raise ConfigError(f"class mapping names {len(self.sources)} external class: two at least are needed")
        for external, ours in self.sources.items():
            if isinstance(ours, str) or not ours:
                raise ConfigError(f"class mapping: external class {external} needs a list of the model's classes")
        counts = Counter(name for ours in self.sources.values() for name in ours)
        unknown = [name for name in counts if name not in self.classes]
        if unknown:
            known = ", ".join(self.classes)
            raise ConfigError(f"class mapping: the model has no class {', '.join(unknown)}; it has {known}")
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ConfigError(
                f"class mapping: {', '.join(twice)} is mapped twice; a class belongs to one external class"
            )

    @property
    def external(self) -> tuple[str, ...]:
        """The external class names, in the order of the mapped columns."""
        return tuple(self.sources)

    @property
    def left_out(self) -> tuple[str, ...]:
        """The model's classes that no external class holds."""
        kept = {name for ours in self.sources.values() for name in ours}
        return tuple(name for name in self.classes if name not in kept)

    def check_labels(self, labels: Iterable[str | None]) -> None:
        """Refuse labels of the external set that nothing maps to; None is no label.

        Raises:
            DataError: There is one.
        """
        counts = Counter(label for label in labels if label is not None and label not in self.sources)
        if counts:
            named = ", ".join(f"{name} ({count} images)" for name, count in sorted(counts.items()))
            raise DataError(f"no class of the model is mapped to the label {named}: map one, or leave those images out")

    def logits(self, logits: ArrayLike, temperature: float) -> Floats:
        """Return logits of the external classes: at the same temperature their softmax is the summed probabilities.

        Args:
            logits: (n, classes).
            temperature: That of the model, > 0.

        Returns:
            (n, external classes): temperature * logsumexp(logits / temperature) over the sources of each; the logit
            itself where there is one source.

        Raises:
            DataError: See `metrics.inputs.check_matrix`, or another number of classes.
        """
        values = self._checked(logits)
        columns = []
        for ours in self.sources.values():
            part = values[:, [self.classes.index(name) for name in ours]]
            summed = temperature * logsumexp(part / temperature, axis=1)
            columns.append(part[:, 0] if len(ours) == 1 else summed)
        return np.stack(columns, axis=1)

    def notes(self, logits: ArrayLike, temperature: float) -> tuple[str, ...]:
        """Return what a reader must know: what was joined, and what was left out and how much that was.

        Args:
            logits: (n, classes), before mapping.
            temperature: That of the model, > 0.

        Raises:
            DataError: See `logits`.
        """
        joined = [f"{' + '.join(ours)} as {name}" for name, ours in self.sources.items() if list(ours) != [name]]
        found = [f"classes mapped: {', '.join(joined)}"] if joined else []
        if self.left_out:
            probabilities = scaled(self._checked(logits), temperature)
            columns = [self.classes.index(name) for name in self.left_out]
            share, first = probabilities[:, columns].sum(axis=1).mean(), np.isin(decide(probabilities), columns).sum()
            found.append(
                f"not in the external set and left out: {', '.join(self.left_out)} (mean probability {share:.3f}, "
                f"likeliest in {first} of {len(probabilities)} images); the other classes are renormalised"
            )
        return tuple(found)

    def _checked(self, logits: ArrayLike) -> Floats:
        values = check_matrix(logits, "logits")
        if values.shape[1] != len(self.classes):
            raise DataError(f"logits of {values.shape[1]} classes for a mapping of {len(self.classes)}")
        return values
