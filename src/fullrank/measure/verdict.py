"""A spectrum put in words: collapsed, partial, healthy or unclear, why, how sure that is, and what to do.

The bands come from data. [Li22] released the spectra of six ResNet-18, SimSiam on parts of ImageNet, D = 512; in
their Fig. 2 k-NN accuracy peaks at 5 % of the images. "Way" is the AUC's way from its floor (D+1)/(2D), all directions
equal, to 1, a single one:

| images | AUC  | way | participation ratio | dead (below 1e-3 of the largest) | level here              |
|--------|------|-----|---------------------|----------------------------------|-------------------------|
| 1 %    | .610 | .22 | 160                 | 3                                | healthy                 |
| 5 %    | .748 | .50 | 67                  | 69                               | partial, for dead alone |
| 10 %   | .845 | .69 | 12.8                | 87                               | partial                 |
| 20 %   | .879 | .76 | 5.2                 | 118                              | partial                 |
| 50 %   | .871 | .74 | 14.9                | 100                              | partial                 |
| 100 %  | .858 | .72 | 4.2                 | 107                              | partial                 |

Untrained ResNets (`resnet18`, `resnet34` and `resnet18_w16`, random weights, eval mode; 27 on CIFAR-10 and Tiny
ImageNet) have a way of .75 to .85, 3 to 18 % dead, and a participation ratio of 1.3 to 2.8, below every published one;
on digits, the ratio of 20 of them reached 5.2.

"Random weights" are timm's: the last norm of each residual branch starts at zero, which turns the branches off. With
these norms at one the same networks are far less concentrated: on 1,000 digits (`resnet18`, `resnet18_w16`, `resnet34`,
three seeds each) AUC is .91 to .94 as initialized and .75 to .84 at one, with 11 to 250 directions dead and 0 to 63.

A level does not rank encoders: the best of the six is a borderline "partial". [Li22] read the loss beside it.

Reference: Li, Efros, Pathak, ECCV 2022 (https://arxiv.org/abs/2209.15007), Figs. 2 and 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from fullrank.errors import FullrankError
from fullrank.measure.spectrum import Spectrum
from fullrank.numerics import exact_arithmetic
from fullrank.text import capital

Level = Literal["collapsed", "partial", "healthy", "unclear", "untrained"]
Confidence = Literal["high", "medium", "low"]

# Our choice. Untrained ResNets come near the first (1.3 was seen), not the second (.92 at most).
RANK_ONE_PARTICIPATION, RANK_ONE_AUC = 1.5, 0.97
# Beside so high an AUC. The 15 lab runs with both had 10 to 34.5 % by logistic regression, most others 39 to 41 %.
MOSTLY_DEAD = 0.5
CONCENTRATED = 0.6  # of the way: AUC .80 at D = 512, midway between the 5 % and 10 % spectra
DEAD_SHARE = 0.05  # between the 1 % spectrum's 0.6 % and the 5 % spectrum's 13.5 %
BORDERLINE_SHARE = 0.15  # just above the 5 % spectrum's 13.5 %
UNTRAINED_PARTICIPATION = 3.0  # between the untrained ResNets' 2.8 and the published 4.2
ENOUGH = 5  # N / D from which the finite sample raises AUC by about .067 (`isotropic_auc`)
# Of their size; untrained ResNets vary by .2 to .45 of it.
NEARLY_CONSTANT, NARROW = 1e-2, 0.1
# Of 1/sqrt(M). Of 57 SimSiam runs at lab scale 53 had .96 to .995, one .45, and the three whose loss went to -.97 or
# -.98, or whose features died, .14 at most.
POINT = 0.2
# Constant features vary by a few units in the last place; a network's own arithmetic adds up many of them.
ROUNDING = {"float32": 1e-5, "float64": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
DISTINCT = "distinct"  # how many of a spectrum's N rows differ, in its protocol where they are fewer than `ENOUGH` D
MARGIN = 0.03  # AUC between two seeds of one recipe: 48 of 51 pairs in docs/findings.md lie within it
AS_GOOD_AS_EQUAL = 0.005  # of AUC: a difference that says nothing
PUBLISHED_WAYS = {"1 %": 0.22, "5 %": 0.50, "10 %": 0.69, "100 %": 0.72, "50 %": 0.74, "20 %": 0.76}

_HEADLINES = {
    "collapsed": "Collapsed",
    "partial": "Partial dimensional collapse",
    "healthy": "Healthy spectrum",
    "unclear": "Too few images to tell",
    "untrained": "Untrained",
}


@dataclass(frozen=True)
class Remedy:
    """Something to try, and where it was seen to help, or why it should."""

    text: str
    source: str


_LI = "[Li22] https://arxiv.org/abs/2209.15007"
_PREDICTOR = Remedy(
    "keep the predictor's learning rate constant, and check that the optimizer does",
    "Chen, He 2021, section 4.2, https://arxiv.org/abs/2011.10566",
)
_EMA = Remedy(
    "make the targets with a moving average of the encoder: BYOL and MoCo-v3 did not collapse where SimSiam did", _LI
)
_DECAY = Remedy(
    "lower the weight decay or the learning rate: their product, summed over the steps, decides which directions die",
    "Tian, Chen, Ganguli 2021, https://arxiv.org/abs/2102.06810",
)
_STOP = Remedy(
    "check that the targets are without gradient, and that a predictor follows the projector", "Chen, He 2021, 4.1"
)
_CHUNKS = Remedy(
    "present the data in chunks first, in many passes afterwards (--order hybrid): +18 points for ResNet-18 on "
    "ImageNet",
    _LI,
)
_WIDEN = Remedy(
    "widen the representation: ResNet-50, of 2048 dimensions, did not collapse where ResNet-18 and -34 did", _LI
)
_WIDEN_INSIDE = Remedy(
    "widen the projector's hidden layers: [Li22]'s are as wide as the backbone; ResNet-18 with 2048 did not collapse "
    "on smaller sets",
    "solo-learn's recipes for CIFAR and ImageNet-100, https://github.com/vturrisi/solo-learn",
)
REMEDIES: dict[str, tuple[Remedy, ...]] = {
    "collapsed": (_STOP, _PREDICTOR, _DECAY, _EMA),
    "partial": (_CHUNKS, _WIDEN, _WIDEN_INSIDE, _EMA, _PREDICTOR, _DECAY),
}
"""What to try at each level, for methods without negatives; nothing of it was tried on the encoder at hand."""


@dataclass(frozen=True)
class Verdict:
    """What a spectrum says about collapse."""

    level: Level  # see `judge`
    reasons: tuple[str, ...]  # what led there, then what to be careful about; each a clause without a full stop
    confidence: Confidence = "medium"  # how sure the level is, given N, D and the distance to the next band
    certainty: str = ""  # why, in one clause
    remedies: tuple[Remedy, ...] = ()  # what to try, with its source; nothing where confidence is low
    layer: str | None = None  # the layer that was judged, where the spectrum's protocol names it

    @property
    def headline(self) -> str:
        """The level in words, and "Perhaps" before one that few images or a guess may have made."""
        words = _HEADLINES[self.level]
        sure = self.confidence != "low" or self.level in ("unclear", "untrained")
        return words if sure else f"Perhaps {words[0].lower()}{words[1:]}"

    @property
    def sentences(self) -> list[str]:
        """Why, and how sure that is."""
        sure = [f"Confidence {self.confidence}: {self.certainty}."] if self.certainty else []
        return [f"{capital('; '.join(self.reasons))}.", *sure]

    @property
    def text(self) -> str:
        """The verdict as a whole."""
        return " ".join([f"{self.headline}: {'; '.join(self.reasons)}.", *self.sentences[1:]])


@exact_arithmetic()
def judge(
    spectrum: Spectrum,
    *,
    uncentered: Spectrum | None = None,
    init: Spectrum | None = None,
    embedding_spread: float | None = None,
    untrained: bool = False,
) -> Verdict:
    """Judge a spectrum of representations; a pure function of what it is given.

    - **collapsed**: no variation at all, or less than a hundredth of the features' size (`uncentered` tells), or hardly
      any direction left: AUC above .97 with a participation ratio below 1.5 or half of the directions dead, or all
      directions but one dead. Or the embeddings lie near one point (`embedding_spread` tells), whatever the spectrum.
    - **partial**: 5 % or more of the directions are dead (singular value below 1e-3 of the largest), or AUC
      lies more than .6 of the way from its floor (D+1)/(2D) to 1, which is .80 at D = 512.
    - **healthy**: neither.
    - **unclear**: neither, but N <= D images (the protocol's `n`) cannot show the other directions; or D = 1.
    - **untrained**: `untrained` was given.

    Where features repeat each other (`distinct` of the protocol), those that differ count for `confidence`.
    A finite sample raises AUC, by about as much as it does for isotropic Gaussian features at most (`isotropic_auc`;
    more for heavy tails): `confidence` is low where the level hangs on that, and medium near the edge of a band.

    Args:
        spectrum: Of the backbone's output, centered and not normalized, over N images, N several times D.
        uncentered: The spectrum of the same features about zero, which tells noise about one point from features.
        init: The spectrum of the same encoder before training, taken alike: an untrained ResNet is "partial" too.
        embedding_spread: `feature_std` of the projector's output times sqrt(M), in [0, 1]: 0 where all embeddings are
            one, about 1 where they point everywhere (Chen, He 2021, Fig. 2). SimSiam's loss does not see it.
        untrained: Whether its weights are known to be random.

    Raises:
        FullrankError: `spectrum` is no `Spectrum`, or was not centered.

    >>> import torch
    >>> judge(Spectrum(torch.ones(64))).sentences[0]
    'AUC 0.508 (0.508 when all 64 directions are equal), none dead.'
    >>> judge(Spectrum(torch.zeros(64))).text
    'Collapsed: features are constant, the same for every image. Confidence high: nothing varies.'
    """
    if not isinstance(spectrum, Spectrum):
        got = type(spectrum).__name__
        raise FullrankError(f"judge takes a Spectrum, got {got}: make one with fullrank.spectrum(features)")
    if not spectrum.protocol.get("center", True):
        raise FullrankError(
            "judge takes a centered spectrum, and this was made with center=False: give it as `uncentered`"
        )
    layer, share = spectrum.protocol.get("layer"), _variation(spectrum, uncentered)
    rounding = ROUNDING.get(str(spectrum.protocol.get("dtype")), ROUNDING["float32"])
    beside = f"they vary by {share:.1g} of their size, untrained ResNets by .2 to .45"
    if 0 < share < rounding:
        level: Level = "collapsed"
        reasons = [f"features are constant but for rounding: they vary by {share:.1g} of their size"]
        confidence: Confidence = "high"
        certainty = f"rounding alone makes up to {rounding:.1g}"
    else:
        seen, cautions = _spanned(spectrum)
        level, reasons = _level(_Facts(seen))
        confidence, certainty = _confidence(spectrum, seen, level)
        if level != "healthy" and seen.singular_values[0] > 0 and not untrained:
            reasons += _against(seen, init)
        if level != "collapsed" and share < NEARLY_CONSTANT:
            level, reasons = "collapsed", [f"features are nearly constant: {beside}", *reasons]
            confidence, certainty = "medium", "a spectrum does not show whether so small a variation is of use"
        elif level != "collapsed" and share < NARROW:
            cautions.append(f"in a narrow cone: {beside}")
        if level == "healthy" and (seen.dim < spectrum.dim or spectrum.dim == 1):
            level = "unclear"
        if layer == "projector":
            cautions.append("the bands are of backbones' outputs, and this is a projector's")
        reasons += cautions
    if embedding_spread is not None and embedding_spread < POINT:
        level, layer = "collapsed", "projector"
        confidence, certainty = "high", "the loss of such embeddings is near its minimum whatever the images"
        reasons[:1] = [
            f"embeddings lie near one point: their standard deviation is {embedding_spread:.2g} of 1/sqrt(M), which is "
            "what it is when they point everywhere",
            f"the backbone's output by itself: {reasons[0]}",
        ]
    if untrained:
        level, reasons = "untrained", ["its weights are random, which says nothing about any training", *reasons]
    remedies = REMEDIES.get(level, ()) if confidence != "low" else ()
    return Verdict(level, tuple(reasons), confidence, certainty, remedies, layer)


@exact_arithmetic()
def isotropic_auc(n: int, dim: int) -> float:
    """Return the AUC that N features in D equal directions are expected to show, above the floor (D+1)/(2D).

    Their sample variances follow the law of Marchenko and Pastur of ratio D / N, not one value; the singular values
    are the roots of its quantiles. With N < D, of the N directions that N features span.

    Reference: Marchenko, Pastur 1967, https://doi.org/10.1070/SM1967v001n04ABEH001994

    >>> round(isotropic_auc(8 * 512, 512), 3), round(isotropic_auc(100 * 512, 512), 3)
    (0.553, 0.515)
    """
    n, dim = max(n, dim), min(n, dim)
    low, high = (1 - math.sqrt(dim / n)) ** 2, (1 + math.sqrt(dim / n)) ** 2
    # An angle in place of the variance, so that the density's roots at both ends do no harm.
    angle = torch.linspace(0, math.pi, 4001, dtype=torch.float64)
    variance = (low + high) / 2 - (high - low) / 2 * angle.cos()
    density = angle.sin() ** 2 / variance.clamp(min=1e-12)
    mass = F.pad(torch.cumulative_trapezoid(density, angle), (1, 0))
    places = (torch.arange(dim, dtype=torch.float64) + 0.5) / dim * mass[-1]
    return Spectrum(np.sqrt(np.interp(places, mass, variance))).auc


class _Facts:
    """What the rules look at; `way` is how far AUC lies from its floor, all directions equal (0), to one (1)."""

    def __init__(self, seen: Spectrum, tol: float = 1e-3) -> None:
        self.top, self.auc, self.dim, self.dead = float(seen.singular_values[0]), seen.auc, seen.dim, seen.dead(tol)
        self.participation = seen.participation_ratio
        self.floor = (self.dim + 1) / (2 * self.dim)
        self.way = (self.auc - self.floor) / (1 - self.floor) if self.dim > 1 else 1.0
        self.percent, self.count = 100 * self.way, self.dead or "none"
        self.concentrated = self.dim > 1 and self.way > CONCENTRATED
        self.half = int((seen.explained < 0.5).sum()) + 1

    @property
    def beside(self) -> str:
        """The published spectrum that is as far along the way."""
        if self.way > max(PUBLISHED_WAYS.values()) + MARGIN:
            return "further than any of [Li22]'s ResNet-18 (76 %)"
        nearest = min(PUBLISHED_WAYS, key=lambda share: abs(PUBLISHED_WAYS[share] - self.way))
        return f"nearest to [Li22]'s ResNet-18 on {nearest} of ImageNet ({100 * PUBLISHED_WAYS[nearest]:.0f} %)"


# fmt: off
_RULES: tuple[tuple[Level, Callable[[_Facts], bool], str], ...] = (
    ("collapsed", lambda f: f.top == 0, "features are constant, the same for every image"),
    ("collapsed", lambda f: f.dim > 1 and f.dead == f.dim - 1,
     "all variation lies in one direction, the other {f.dead} are dead"),
    ("collapsed", lambda f: f.dim > 1 and f.participation < RANK_ONE_PARTICIPATION and f.auc > RANK_ONE_AUC,
     "nearly all variation lies in one direction (participation ratio {f.participation:.2f}, AUC {f.auc:.3f}; both are "
     "1 at rank one)"),
    ("collapsed", lambda f: f.dead >= MOSTLY_DEAD * f.dim and f.auc > RANK_ONE_AUC,
     "{f.dead} of {f.dim} directions are dead, and few of the others hold the rest: AUC {f.auc:.3f}"),
    ("partial", lambda f: f.dead >= DEAD_SHARE * f.dim,
     "{f.dead} of {f.dim} directions are dead, below 1e-3 of the largest"),
    ("partial", lambda f: DEAD_SHARE * f.dim <= f.dead < BORDERLINE_SHARE * f.dim and not f.concentrated,
     "borderline: the rest is well spread, as in [Li22]'s best ResNet-18, with 13 % dead"),
    ("partial", lambda f: f.concentrated,
     "the variation sits in few directions: {f.half} of {f.dim} hold half of the sum of singular values, AUC "
     "{f.auc:.3f}, {f.percent:.0f} % of the way from all equal ({f.floor:.3f}) to a single one (1), {f.beside}"),
    ("healthy", lambda f: True,
     "AUC {f.auc:.3f} ({f.floor:.3f} when all {f.dim} directions are equal), {f.count} dead"),
)
# fmt: on
"""The first rule that holds gives the level; of those of "partial", all that hold give a reason."""


def _level(facts: _Facts) -> tuple[Level, list[str]]:
    holding = [(level, words.format(f=facts)) for level, holds, words in _RULES if holds(facts)]
    level = holding[0][0]
    return level, [words for each, words in holding if each == level][: None if level == "partial" else 1]


def _confidence(given: Spectrum, seen: Spectrum, level: Level) -> tuple[Confidence, str]:
    """Say whether the level would stand with more images, or another seed."""
    rows, dim, facts = given.protocol.get("n"), given.dim, _Facts(seen)
    n = given.protocol.get(DISTINCT, rows)
    images = f"{n} images" if n == rows else f"{n} different ones of {rows} images"
    if facts.top == 0:
        return "high", "nothing varies"
    if n is not None and n <= dim:
        points = "" if n == rows else " (images are repeated, or many have equal features)"
        return "low", f"{images} cannot span {dim} directions{points}"
    if dim == 1:
        return "low", "a single direction cannot be compared with others"
    edge = facts.floor + CONCENTRATED * (1 - facts.floor)
    excess = 0.0 if n is None else isotropic_auc(n, dim) - facts.floor
    raised = f"AUC by up to about {excess:.3f}"
    few = n is not None and n < ENOUGH * dim
    # So few features make the smallest of equal singular values smaller by up to this factor (Marchenko, Pastur), and
    # what is dead below it is dead whatever their number.
    tol = 1e-3 * (1 - math.sqrt(dim / n) if few else 1)
    alive = seen.dead(tol) < DEAD_SHARE * dim
    if level == "partial" and alive and facts.auc <= edge + excess:
        smaller = "" if facts.dead < DEAD_SHARE * dim else " and make small directions look dead"
        return "low", f"{images} for {dim} directions raise {raised}{smaller}, and without that it would be healthy"
    if few and level != "healthy":
        return "medium", f"{images} are few for {dim} directions, which raises {raised}"
    if level != "collapsed" and alive and abs(facts.auc - edge) < MARGIN:
        return "medium", f"AUC is within {MARGIN} of the band's edge {edge:.3f}, as much as seeds of one recipe differ"
    if any(_level(_Facts(seen, tol))[0] != level for tol in (5e-4, 2e-3)):
        return "medium", "so many directions lie within a factor of two of being dead that the level hangs on them"
    if n is None:
        return "medium", "how many images the spectrum is of is not known"
    return "high", f"{images} for {dim} directions raise {raised}, which changes nothing here"


def _variation(centered: Spectrum, uncentered: Spectrum | None) -> float:
    """Return the root mean square of the features about their mean, over that about zero; infinite if not known."""
    if uncentered is None or uncentered.singular_values[0] == 0:
        return math.inf
    scale = uncentered.singular_values[0]
    about_mean, about_zero = ((each.singular_values / scale).square().sum() for each in (centered, uncentered))
    return float((about_mean / about_zero).sqrt())


def _spanned(spectrum: Spectrum) -> tuple[Spectrum, list[str]]:
    """Leave out the directions that N features cannot span, and say what N does to the rest."""
    n, dim = spectrum.protocol.get("n"), spectrum.dim
    if n is None or n >= ENOUGH * dim or spectrum.singular_values[0] == 0:
        return spectrum, []
    if n > dim:
        return spectrum, [f"{n} images are few: measure {ENOUGH} times D"]
    rank = max(1, n - 1 if spectrum.protocol.get("center", True) else n)
    return Spectrum(spectrum.singular_values[:rank], spectrum.protocol), [
        f"only the {rank} directions that {n} features can span are judged: the AUC of all {dim}, {spectrum.auc:.3f}, "
        f"counts the others as dead; measure {ENOUGH} times D (or is the matrix transposed?)"
    ]


def _against(seen: Spectrum, init: Spectrum | None) -> list[str]:
    """Say whether the encoder started out like this, or looks as if it had never been trained."""
    look = "look whether the weights were loaded, and training went on for long enough"
    start = None if init is None else _spanned(init)[0]
    if start is None or start.dim != seen.dim:
        if 1.2 < seen.participation_ratio < UNTRAINED_PARTICIPATION and _Facts(seen).concentrated:
            ratio = f"a participation ratio of {seen.participation_ratio:.1f}"
            return [f"{ratio} is seen in untrained ResNets too (1.3 to 2.8): {look}"]
        return []
    was = f"AUC {start.auc:.3f} and {start.dead()} of {start.dim} dead before training"
    if seen.auc < start.auc - AS_GOOD_AS_EQUAL and seen.dead() <= start.dead():
        return [f"less so than with random weights ({was})"]
    if seen.auc <= start.auc + AS_GOOD_AS_EQUAL and seen.dead() <= start.dead() + DEAD_SHARE * start.dim:
        return [f"no more so than with random weights ({was}): {look}"]
    return [f"it had {was}"]
