"""Heads: the projector that the loss is computed behind, and the predictor of one branch.

As SimSiam's (Chen & He 2021, https://arxiv.org/abs/2011.10566, section 3), with every width free. In the paper's
code, and in [Li22]'s, the projector's hidden width is the backbone's width D; here that is a default and not a tie.
"""

from __future__ import annotations

from torch import nn

from fullrank.errors import FullrankError


def projector(width: int, hidden: int, out: int, layers: int = 3) -> nn.Sequential:
    """Build `(B, width)` -> `(B, out)`: Linear-BN-ReLU layers, the last one Linear-BN without affine parameters.

    Args:
        width: The representation's width D.
        hidden: The width between layers.
        out: The embedding's width M.
        layers: The number of linear layers; 3 as on ImageNet, 2 as SimSiam on CIFAR-10.

    Raises:
        FullrankError: A width or the number of layers is below 1.
    """
    if min(width, hidden, out, layers) < 1:
        raise FullrankError(
            f"a projector's widths and layers must be at least 1, got {width}, {hidden}, {out} and {layers} layers"
        )
    modules: list[nn.Module] = []
    for layer in range(layers):
        last = layer == layers - 1
        inputs, outputs = width if layer == 0 else hidden, out if last else hidden
        modules += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs, affine=not last)]
        if not last:
            modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules)


def predictor(width: int, hidden: int) -> nn.Sequential:
    """Build `(B, width)` -> `(B, width)`: Linear-BN-ReLU, then Linear with a bias; a bottleneck if `hidden` < `width`.

    Raises:
        FullrankError: A width is below 1.
    """
    if min(width, hidden) < 1:
        raise FullrankError(f"a predictor's widths must be at least 1, got {width} and {hidden}")
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, width),
    )
