"""Scores: what each is called, which way is better, how it is written, and one value of it with its protocol.

`SCORES` is the only table of them, so a new score is one call of `register`, or an entry point of a package:

    register(ScoreKind("entropy", "entropy", "higher", function=my_entropy, needs="features"))

    [project.entry-points."fullrank.scores"]
    entropy = "my_package:ENTROPY"

It then shows in `fullrank inspect` and `fullrank rank --scores`; with `monitored=True` also in a run's records.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from typing import Any, Literal, get_args

from fullrank.errors import FullrankError, choose
from fullrank.measure.quality import manifold, spectral, spread, views
from fullrank.measure.verdict import MARGIN
from fullrank.registry import METHODS
from fullrank.shapes import Protocol, fit

Direction = Literal["lower", "higher", "none"]
Needs = Literal["features", "views", "labels", "training"]


@dataclass(frozen=True)
class ScoreKind:
    """What is known of a score before it is taken."""

    name: str  # its key in `SCORES`, in files and in JSON
    title: str  # what people call it
    direction: Direction  # which values are better; "none" where neither is by itself
    # takes features `(N, D)`, `(N, q, D)` where it needs views, or a `Spectrum` where `spectrum` says so, and gives a
    # float; further arguments are keyword-only, with published defaults; None where training or a probe takes it
    function: Callable[..., float] | None = None
    needs: Needs = "features"  # what it is a function of: features, views of each image, labels, or the training itself
    # whether it is a function of singular values alone, and of centered features or not
    spectrum: Literal["centered", "uncentered"] | None = None
    monitored: bool = False  # whether a run takes it while it trains
    across_widths: bool = False  # whether values at different D compare: neither floor nor ceiling depends on D
    all_directions: bool = False  # whether it counts directions that N <= D images cannot span, as if they were dead
    share: bool = False  # whether values are shares in [0, 1], written in percent
    digits: int | None = None  # decimals that it is written with; None for three significant digits
    noise: float = 0.0  # what two seeds of one recipe differ by; 0 where nobody has measured it
    range: str = ""  # the values it can take, for N images and D dimensions
    source: str = ""  # where it was published
    sees: str = ""  # what it responds to, in one line

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that `function` is called with."""
        if self.function is None:
            return {}
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def scale(self) -> float:
        """The factor from a value to what is shown."""
        return 100.0 if self.share else 1.0

    @property
    def axis(self) -> str:
        """Its title and unit."""
        return f"{self.title} (%)" if self.share else self.title

    def write(self, value: float | None) -> str:
        r"""Write a value with its unit and the digits that mean something.

        >>> SCORES["knn"].write(0.4107), SCORES["auc"].write(0.78512), SCORES["dead"].write(3.0)
        ('41.1\xa0%', '0.785', '3')
        >>> SCORES["heldout_loss"].write(-0.8), SCORES["rankme"].write(24.97), SCORES["rankme"].write(None)
        ('−0.800', '25.0', '–')
        >>> SCORES["alignment"].write(0.00123), SCORES["pseudo_condition_number"].write(4.067e-7)
        ('0.00123', '4.07e−07')
        """
        if value is None:
            return "–"
        if self.share:
            return f"{100 * value:.1f}\N{NO-BREAK SPACE}%".replace("-", "−")
        digits = self.digits
        if digits is None:
            if 0 < abs(value) < 0.1:
                return f"{value:.3g}".replace("-", "−")
            digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
        return f"{value:,.{digits}f}".replace("-", "−")


@dataclass(frozen=True)
class Score:
    """One value of a score, and how it was taken."""

    name: str  # as in `SCORES`; that of another library's score is its own title
    value: float | None  # shares in [0, 1]; None where it could not be taken
    protocol: Mapping[str, Any] = field(default_factory=dict)  # how it was taken; values of equal protocols compare
    why: str = ""  # why there is no value; empty where there is one
    # what the protocol chose for this encoder from its images, such as k, and what came beside the value
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> ScoreKind:
        """What is known of it."""
        return kind_of(self.name)

    @property
    def text(self) -> str:
        """The value in words."""
        return self.kind.write(self.value)

    @property
    def unspanned(self) -> bool:
        """Whether it counts directions that its images cannot span.

        >>> [Score("auc", 0.917, {"n": 100, "d": d, "center": True}).unspanned for d in (99, 100)]
        [False, True]
        """
        n, d, centered = self.protocol.get("n"), self.protocol.get("d"), bool(self.protocol.get("center"))
        return self.kind.all_directions and d is not None and n is not None and n - centered < d

    @property
    def taken(self) -> float:
        """The value of a score that was taken; a `FullrankError` where it was not."""
        if self.value is None:
            raise FullrankError(f"there is no {self.kind.title}: {self.why or 'it was not taken'}")
        return self.value

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it; what is empty is left out."""
        found = {"name": self.name, "value": self.value, "direction": self.kind.direction}
        maybe = {"why": self.why, "chosen": dict(self.chosen)}
        return found | {"protocol": dict(self.protocol)} | {key: value for key, value in maybe.items() if value}


def renamed(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Return a protocol in today's words: records of before have former names of methods, and British spelling."""
    spelled = {_american(key): _american(value) for key, value in protocol.items()}
    return spelled | ({"loss": METHODS.canonical(str(spelled["loss"]))} if "loss" in spelled else {})


def _american(value: Any) -> Any:
    return value.replace("standardis", "standardiz").replace("optimis", "optimiz") if isinstance(value, str) else value


def read_score(found: Any) -> Score:
    """Read what `Score.as_dict` wrote, or a version before 0.2 did; a `ValueError` says what is wrong with it."""
    fit(found, dict[str, object], "a score")
    name, value = found.get("name"), found.get("value")
    fit(name, str, "a score's name")
    fit(value, float | None, f"the value of {name}")
    protocol, chosen = found.get("protocol") or {}, found.get("chosen") or {}
    fit(protocol, Protocol, f"the protocol of {name}")
    fit(chosen, dict[str, object], f"what {name} chose")
    return Score(name, None if value is None else float(value), renamed(protocol), str(found.get("why") or ""), chosen)


def register(kind: ScoreKind) -> ScoreKind:
    """Add a score to `SCORES`, for every command, page and monitor.

    Raises:
        FullrankError: There is one of that name, there is no such direction, or it is to be monitored and not of
            centered features.
    """
    if kind.monitored and kind.spectrum == "uncentered":
        raise FullrankError(f"{kind.name} is of uncentered features, and a run monitors centered ones: not monitored")
    choose("direction", kind.direction, get_args(Direction))
    if kind.name in SCORES:
        raise FullrankError(f"there is a score {kind.name!r} already: give yours another name")
    SCORES[kind.name] = kind
    return kind


def kind_of(name: str) -> ScoreKind:
    """Return what is known of a score; of one that is not in the table, its name.

    >>> kind_of("auc").title, kind_of("of_another_library").title
    ('AUC', 'of another library')
    """
    return SCORES.get(name) or ScoreKind(name, name.replace("_", " "), "none", needs="training")


def title(name: str) -> str:
    """Return what people call a score.

    >>> title("auc"), title("rankme"), title("rankme_centered")
    ('AUC', 'RankMe', 'RankMe (centered)')
    """
    return kind_of(name).title


def take(kind: ScoreKind, of: Any, protocol: Mapping[str, Any]) -> Score:
    """Take a score; one that cannot be taken, for whatever reason, says why instead of a value.

    A score is never worth the run that it is taken of, so that faults in the code of others' scores are caught too.
    `of` is what its function takes, and `protocol` how that was made.
    """
    assert kind.function is not None
    protocol, value = {**protocol, **kind.settings}, math.nan
    try:
        value = float(kind.function(of))
        why = "" if math.isfinite(value) else "too few directions that vary"
    except FullrankError as error:
        why = str(error)
    except Exception as error:
        why = f"it failed: {type(error).__name__}: {error}"
    return Score(kind.name, value if math.isfinite(value) else None, protocol, why)


_LI = "Li et al. 2022, https://arxiv.org/abs/2209.15007"
_RANKME = "Garrido et al. 2023, https://arxiv.org/abs/2210.02885"
_NESUM = "He, Ozay 2022, https://proceedings.mlr.press/v162/he22c.html"
_TSITSULIN = "Tsitsulin et al. 2023, https://arxiv.org/abs/2305.16562"
_WANG = "Wang, Isola 2020, https://arxiv.org/abs/2005.10242"
_CLID = "Lu et al. 2023, https://arxiv.org/abs/2206.01251"
_training = partial(ScoreKind, needs="training")
_loss = partial(_training, monitored=True, across_widths=True, digits=3)
_accuracy = partial(ScoreKind, direction="higher", needs="labels", across_widths=True, share=True)
_centered = partial(ScoreKind, spectrum="centered", monitored=True)
_about_zero = partial(ScoreKind, spectrum="uncentered")
_any_width = partial(ScoreKind, across_widths=True)

SCORES: dict[str, ScoreKind] = {}

# fmt: off
for _kind in (
    _loss("loss", "training loss", "none",
          sees="the method's own objective; what is lower with one method is not comparable with another's"),
    _loss("heldout_loss", "held-out loss", "lower", source=_LI,
          sees="the loss on images that were not trained on"),
    _accuracy("knn", "k-NN accuracy", monitored=True),
    _accuracy("logistic", "logistic regression accuracy"),
    _accuracy("linear", "linear probe accuracy"),
    _accuracy("online_probe", "online probe accuracy", monitored=True),
    _accuracy("online_probe_train", "online probe on training views", monitored=True),
    _centered("auc", "AUC", "lower", spectral.auc, all_directions=True, digits=3, noise=MARGIN,
              range="[(D+1)/(2D), 1]", source=_LI,
              sees="how early the cumulative singular values rise: dead directions and fast decay alike"),
    _about_zero("rankme", "RankMe", "higher", spectral.rankme, range="[1, min(N, D)]", source=_RANKME,
                sees="how many directions share the singular values, the mean's among them"),
    _centered("rankme_centered", "RankMe (centered)", "higher", spectral.rankme_centered, range="[1, min(N-1, D)]",
              source=_RANKME, sees="how many directions share the singular values of the variation"),
    _centered("participation_ratio", "participation ratio", "higher", spectral.participation_ratio,
              range="[1, min(N-1, D)]", source="Gao et al. 2017, https://doi.org/10.1101/214262",
              sees="how many directions share the variance; the top of the spectrum, hardly the tail"),
    _about_zero("stable_rank", "stable rank", "higher", spectral.stable_rank, range="[1, min(N, D)]",
                source=_TSITSULIN, sees="how far the first direction, mostly the mean, stands out"),
    _centered("nesum", "NESum", "higher", spectral.nesum, range="[1, min(N-1, D)]", source=_NESUM,
              sees="how far the first direction of variation stands out"),
    _centered("dead", "dead directions", "lower", spectral.dead, all_directions=True, digits=0, range="[0, D]",
              source=_LI, sees="directions whose singular value is below 1e-3 of the largest"),
    _any_width("alpha_req", "alpha-ReQ", "none", spectral.alpha_req, spectrum="centered", range="(0, inf)",
               source="Agrawal et al. 2022, https://openreview.net/forum?id=ii9X4vtZGTZ",
               sees="how fast the variances of directions 10 to 100 decay; its authors find about 1 best"),
    _about_zero("pseudo_condition_number", "pseudo-condition number", "higher", spectral.pseudo_condition_number,
                all_directions=True, range="[0, 1]", source=_TSITSULIN,
                sees="the weakest direction against the strongest: one dead direction gives 0"),
    ScoreKind("feature_std", "feature deviation", "higher", spread.feature_std, range="[0, 1/sqrt(D)]",
              source="Chen, He 2021, https://arxiv.org/abs/2011.10566",
              sees="complete collapse to a point; not dimensional collapse"),
    _any_width("self_cluster", "self-clustering", "lower", spread.self_cluster, range="[-1/(max(N, D)-1), 1]",
               source=_TSITSULIN,
               sees="squared cosines between images: a few shared directions, the mean's among them"),
    ScoreKind("coherence", "coherence", "lower", spread.coherence, range="[1, N/rank]", source=_TSITSULIN,
              sees="the one image that most owns a direction: outliers"),
    _any_width("uniformity", "uniformity", "lower", spread.uniformity, range="[-4N/(N-1), 0]", source=_WANG,
               sees="close pairs of images on the sphere: clumps, and collapse to a point"),
    _any_width("alignment", "alignment", "lower", views.alignment, needs="views", range="[0, 4] for two views",
               source=_WANG, sees="how far views of one image lie apart; perfect at complete collapse"),
    ScoreKind("lidar", "LiDAR", "higher", views.lidar, needs="views", range="[1, min(N-1, D)]",
              source="Thilak et al. 2023, https://arxiv.org/abs/2312.04000",
              sees="how many directions tell images apart beyond what augmentation moves"),
    _any_width("two_nn", "two-NN dimension", "none", manifold.two_nn, range="(0, inf)",
               source="Facco et al. 2017, https://doi.org/10.1038/s41598-017-11873-y",
               sees="the dimension of the manifold near each image"),
    _any_width("idest", "IdEst", "lower", manifold.idest, range="(0, inf)",
               source="Mordacq et al. 2026, https://arxiv.org/abs/2606.03338",
               sees="the dimension of the manifold, by the growth of its spanning tree"),
    _any_width("cluster_learnability", "cluster learnability", "higher", manifold.cluster_learnability,
               range="[0, 1]", source=_CLID,
               sees="whether clusters of the features are told apart by a nearest neighbor; a part of CLID"),
    _training("clid", "CLID", "higher", across_widths=True, range="relative to the pool", source=_CLID,
              sees="cluster learnability and intrinsic dimension, standardized over the encoders compared"),
    _training("front", "Pareto front of loss and AUC", "lower", digits=0, source=_LI),
    _training("forecast", "forecast from loss and AUC", "higher", share=True, source=_LI),
):
    register(_kind)
# fmt: on


def _register_others() -> None:
    """Register the scores that installed packages name as entry points; one that cannot be had is said and left out."""
    for point in entry_points(group="fullrank.scores"):
        try:
            if isinstance(kind := point.load(), ScoreKind) and kind.name not in SCORES:  # its import may register it
                register(kind)
        except Exception as error:  # it is anybody's code
            warnings.warn(f"the score {point.name!r} cannot be had from {point.value}: {error}", stacklevel=2)


_register_others()
