"""A pretraining as the paper's Fig 3 shows it: the losses and the token accuracy by iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dermonas.errors import StorageError
from dermonas.explain.figures import save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Nothing of the user's matplotlib settings enters a figure. Sizes in points.
_SETTINGS: Any = {"font.family": ["DejaVu Sans"], "font.size": 9.0, "axes.titlesize": 10.0}
_INK, _FAINT, _BLUE, _RED = "#222222", "#9A9A9A", "#0072B2", "#D55E00"

# Panel: its title, and what it draws: key, name and colour. Source: spec/nao.md 6; panel a is not described there.
_PANELS = (
    ("metric loss", (("pretrain/metric", "", _BLUE),)),
    ("reconstruction loss", (("pretrain/reconstruction", "", _BLUE),)),
    (
        "token accuracy",
        (
            ("pretrain/token_accuracy", "all tokens, as the paper", _BLUE),
            ("pretrain/masked_accuracy", "without padding", _RED),
        ),
    ),
)


def write_figure(history: Sequence[Mapping[str, float]], title: str, milestones: Sequence[int], folder: Path) -> None:
    """Write pretraining.png and pretraining.svg.

    Args:
        history: The reports; see `controller.pretrain.Pretrained`.
        title: Above the panels.
        milestones: Iterations at which the learning rate falls, marked where they were reached.
        folder: Where to.

    Raises:
        StorageError: The disk refuses.
    """
    figure = pretraining_figure(history, title, milestones)
    try:
        for kind in ("png", "svg"):
            save(figure, folder / f"pretraining.{kind}")
    except OSError as error:
        raise StorageError(f"cannot write figures to {folder}: {error.strerror or error}; free space") from error


def pretraining_figure(history: Sequence[Mapping[str, float]], title: str, milestones: Sequence[int]) -> Figure:
    """Return three panels: metric loss, reconstruction loss, accuracy; the last without padding too, if any is."""
    import matplotlib
    from matplotlib.figure import Figure

    done = [report["iterations"] for report in history]
    padded = any(report["pretrain/token_accuracy"] != report["pretrain/masked_accuracy"] for report in history)
    mark = "o" if len(done) == 1 else ""  # one point is no line
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(10.8, 3.6), facecolor="white", layout="constrained")
        figure.suptitle(title, fontsize=11, color=_INK)
        for axes, (name, curves) in zip(figure.subplots(1, 3), _PANELS, strict=True):
            for milestone in milestones:
                if milestone < done[-1]:
                    axes.axvline(milestone, color=_FAINT, linewidth=0.8, linestyle=":")
            shown = curves if padded else curves[:1]
            for key, label, colour in shown:
                values = [report[key] for report in history]
                axes.plot(done, values, color=colour, linewidth=1.5, marker=mark, label=label)
            axes.set(title=name, xlabel="iteration", xlim=(0, done[-1]))
            axes.spines[["top", "right"]].set_visible(False)
            if len(curves) > 1:
                axes.set_ylim(0, 1.02)
            if len(shown) > 1:
                axes.legend(loc="lower right", frameon=False)
    return figure
