"""A spectrum put in words: collapsed, partial or healthy, and why.

The bands come from the six ResNet-18 spectra that [Li22] released with their code: SimSiam on parts of
ImageNet, D = 512. In their Fig. 2 k-NN accuracy peaks at 5 % of the images. The spectra say:

| images | AUC  | participation ratio | dead (below 1e-3 of the largest) | level here              |
|--------|------|---------------------|----------------------------------|-------------------------|
| 1 %    | .610 | 160                 | 3                                | healthy                 |
| 5 %    | .748 | 67                  | 69                               | partial, for dead alone |
| 10 %   | .845 | 12.8                | 87                               | partial                 |
| 20 %   | .879 | 5.2                 | 118                              | partial                 |
| 50 %   | .871 | 14.9                | 100                              | partial                 |
| 100 %  | .858 | 4.2                 | 107                              | partial                 |

So a level describes a spectrum and does not rank encoders: the best of the six is a borderline "partial", and
the one with the healthiest spectrum is not the best. [Li22] read the spectrum beside the loss for this.

Reference: Li, Efros, Pathak, ECCV 2022 (https://arxiv.org/abs/2209.15007), Figs. 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fullrank.measure.spectrum import Spectrum

# Our choice. Untrained ResNets come near the first of the two (2.0 was seen), but not the second.
RANK_ONE_PARTICIPATION, RANK_ONE_AUC = 1.5, 0.97
# Share of the way from the AUC's floor to 1: AUC .80 at D = 512, midway between the 5 % and 10 % spectra.
CONCENTRATED = 0.6
DEAD_SHARE = 0.05  # between the 1 % spectrum's 0.6 % and the 5 % spectrum's 13.5 %
BORDERLINE_SHARE = 0.15  # just above the 5 % spectrum's 13.5 %
ENOUGH = 5  # N / D below which the finite sample bends the spectrum: there, equal directions give AUC .57, not .50

_HEADLINES = {
    "collapsed": "Collapsed",
    "partial": "Partial dimensional collapse",
    "healthy": "Healthy spectrum",
}


@dataclass(frozen=True)
class Verdict:
    """What a spectrum says about collapse.

    Attributes:
        level: "collapsed" (constant, or a single direction), "partial" (directions dead, or variation
            concentrated in few), or "healthy" (neither).
        reasons: What led there, then what to be careful about; each a clause without a full stop.
    """

    level: Literal["collapsed", "partial", "healthy"]
    reasons: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The level in words."""
        return _HEADLINES[self.level]

    @property
    def text(self) -> str:
        """The verdict as one sentence."""
        return f"{self.headline}: {'; '.join(self.reasons)}."


def judge(spectrum: Spectrum, *, init: Spectrum | None = None) -> Verdict:
    """Judge a spectrum of representations; a pure function of what it is given.

    - **collapsed**: no variation at all, or effectively rank one: participation ratio below 1.5 and AUC above
      .97.
    - **partial**: 5 % or more of the directions are dead (singular value below 1e-3 of the largest), or AUC
      lies more than .6 of the way from its floor (D+1)/(2D) to 1, which is .80 at D = 512.
    - **healthy**: neither.

    The module's table holds the published spectra behind the bands. The level describes this spectrum, not
    what training did: an untrained ResNet-18 has AUC .84 to .89 and about a tenth of its directions dead, and
    is "partial" too. Give `init` to have that said.

    A spectrum has no scale to compare with: features that are constant but for isotropic rounding noise look
    healthy here. Only their standard deviation beside their mean shows that.

    Where `spectrum.protocol` names `n` and N <= D, only the directions that N features can span are judged.

    Args:
        spectrum: Of the backbone's output, centred and not normalised, over N images, N several times D.
        init: The spectrum of the same encoder before training, taken with the same protocol.

    >>> import torch
    >>> judge(Spectrum(torch.ones(64))).text
    'Healthy spectrum: AUC 0.508 (0.508 when all 64 directions are equal), none dead.'
    >>> judge(Spectrum(torch.zeros(64))).text
    'Collapsed: features are constant, the same for every image.'
    """
    if spectrum.singular_values[0] == 0:
        return Verdict("collapsed", ("features are constant, the same for every image",))
    seen, cautions = _spanned(spectrum)
    auc, dim, dead = seen.auc, seen.dim, seen.dead()
    floor = (dim + 1) / (2 * dim)
    if dim > 1 and seen.participation_ratio < RANK_ONE_PARTICIPATION and auc > RANK_ONE_AUC:
        reason = (
            "nearly all variation lies in one direction (participation ratio "
            f"{seen.participation_ratio:.2f}, AUC {auc:.3f}; both are 1 at rank one)"
        )
        return Verdict("collapsed", (reason, *_against(seen, init), *cautions))
    concentrated = dim > 1 and auc - floor > CONCENTRATED * (1 - floor)
    reasons = []
    if dead >= DEAD_SHARE * dim:
        reasons.append(f"{dead} of {dim} directions are dead, below 1e-3 of the largest")
        if not concentrated and dead < BORDERLINE_SHARE * dim:
            reasons.append("borderline: the rest is well spread, as in [Li22]'s best ResNet-18, with 13 % dead")
    if concentrated:
        reasons.append(
            f"the variation sits in few directions: AUC {auc:.3f}, {100 * (auc - floor) / (1 - floor):.0f} % of the "
            f"way from all equal ({floor:.3f}) to a single one (1)"
        )
    if reasons:
        return Verdict("partial", (*reasons, *_against(seen, init), *cautions))
    summary = f"AUC {auc:.3f} ({floor:.3f} when all {dim} directions are equal), {dead or 'none'} dead"
    return Verdict("healthy", (summary, *cautions))


def _spanned(spectrum: Spectrum) -> tuple[Spectrum, tuple[str, ...]]:
    """Leave out the directions that N features cannot span, and say what N does to the rest."""
    n, dim = spectrum.protocol.get("n"), spectrum.dim
    if n is None or n >= ENOUGH * dim:
        return spectrum, ()
    if n > dim:
        return spectrum, (f"{n} features are few for {dim} directions and raise AUC: measure {ENOUGH} times D",)
    rank = max(1, n - 1 if spectrum.protocol.get("center", True) else n)
    caution = f"{n} features span at most {rank} of {dim} directions, the only ones judged"
    return Spectrum(spectrum.singular_values[:rank], spectrum.protocol), (f"{caution}: measure {ENOUGH} times D",)


def _against(seen: Spectrum, init: Spectrum | None) -> tuple[str, ...]:
    """Say whether the encoder started out like this."""
    if init is None:
        return ()
    start = _spanned(init)[0]
    if start.dim != seen.dim:
        return ()
    was = f"AUC {start.auc:.3f} and {start.dead()} dead before training"
    if seen.auc <= start.auc and seen.dead() <= start.dead():
        return (f"no more so than the untrained encoder ({was})",)
    return (f"it had {was}",)
