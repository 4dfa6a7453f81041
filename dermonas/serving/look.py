"""What an image looks like from afar: a thumbnail of the view, and how much it changes over 1, 2, 4 and 8 pixels.

The network's own features were tried first and tell less: trained to tell lesions apart, it maps what it never saw
into the same region. Colours, their layout and sharpness tell images of another kind; see docs/results/abstention.md.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

_SIDE = 8  # cells of the thumbnail, each way
_STEPS = (1, 2, 4, 8)  # pixels
_ROWS = 4  # every which row is looked at for contrast: as good, at a quarter of the time
FEATURES = 3 * (_SIDE**2 + len(_STEPS))
"""How many features a look has."""
_LEAST = 1e-8  # of a mean square, so that a plain image has a logarithm


def look(views: Tensor) -> NDArray[np.float64]:
    """Return features of views (n, 3, size, size), float64 (n, `FEATURES`).

    The means over 8 x 8 cells by channel, and by step and channel the logarithm of the mean squared difference of
    pixels so far apart in a row; a step that the view is too small for repeats the one before.
    """
    found = [F.adaptive_avg_pool2d(views, _SIDE).flatten(1)]
    rows = views[:, :, ::_ROWS]
    for step in _STEPS:
        near = min(step, views.shape[-1] - 1)
        change = rows[..., near:] - rows[..., :-near]
        found.append(change.square().mean(dim=(2, 3)).clamp(min=_LEAST).log())
    return np.asarray(torch.cat(found, dim=1).double().numpy())
