"""Heads: the projector that the loss is computed behind, and the predictor of one branch.

All are perceptrons of Linear-BN-ReLU layers; they differ in their widths and in how the last layer ends:

| head                                        | layers | hidden, out         | `last`   |
|---------------------------------------------|--------|---------------------|----------|
| projector: SimSiam, [Li22]                  | 3      | D, 2048             | `norm`   |
| predictor: SimSiam, [Li22]                  | 2      | 512, 2048           | `bias`   |
| projector: MoCo-v3                          | 2      | 4096, 256           | `norm`   |
| projector: BYOL; predictor: BYOL, MoCo-v3   | 2      | 4096, 256           | `linear` |
| projector: VICReg, Barlow Twins             | 3      | 8192, 8192          | `linear` |
| projector: [Garrido23]                      | 3 or 2 | 8192 or d or 2048, d | `linear` |

In SimSiam's and [Li22]'s code the projector's hidden width is the backbone's width D; here that is a default and not a
tie. The papers are named in `fullrank.models.methods`.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from fullrank.errors import FullrankError

Last = Literal["norm", "linear", "bias"]


def mlp(width: int, hidden: int, out: int, layers: int, *, last: Last) -> nn.Sequential:
    """Build `(B, width)` -> `(B, out)`: Linear-BN-ReLU layers, then a last one, `layers` in all.

    `last` is `norm`: Linear-BN without affine parameters; `linear`: Linear without a bias; or `bias`: Linear with one.

    Raises:
        FullrankError: A width or the number of layers is below 1.
    """
    if min(width, hidden, out, layers) < 1:
        got = f"{width}, {hidden}, {out} and {layers} layers"
        raise FullrankError(f"a head's widths and layers must be at least 1, got {got}")
    modules: list[nn.Module] = []
    for layer in range(layers - 1):
        inputs = width if layer == 0 else hidden
        modules += [nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
    modules.append(nn.Linear(width if layers == 1 else hidden, out, bias=last == "bias"))
    if last == "norm":
        modules.append(nn.BatchNorm1d(out, affine=False))
    return nn.Sequential(*modules)
