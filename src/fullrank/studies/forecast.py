"""How well do loss and spectrum forecast accuracy? Over the runs of other studies, with every label-free score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fullrank.documents import MISSING, Part, Table, Words, coefficient, number
from fullrank.errors import FullrankError
from fullrank.measure.forecast import LinearFit, agreement, fit_linear, leave_groups_out
from fullrank.measure.protocols import comparable, obstacle, split
from fullrank.measure.scores import Score, kind_of, title
from fullrank.report.side import NEAR_THE_MINIMUM
from fullrank.studies import hybrid_switch, orders, regime, subsets
from fullrank.studies.bases import WIDE
from fullrank.studies.store import run_name
from fullrank.studies.study import ACCURACY, Cell, Result, Scale, Study
from fullrank.studies.views import against
from fullrank.text import capital, listing

RUNS_OF: dict[Scale, tuple[Study, ...]] = {
    "lab": (orders.STUDY, subsets.STUDY, hybrid_switch.STUDY, regime.STUDY),
    "paper": (orders.STUDY, subsets.STUDY),
}
FEATURES = ("heldout_loss", "auc")
COLLAPSED_AUC = 0.95
"""From which AUC upwards a run is taken to have collapsed, or with a loss `NEAR_THE_MINIMUM`, without its labels.

Chosen by runs of an earlier lab regime, before those of this one.
"""


def pooled(studies: Sequence[Study], scale: Scale, wanted: Callable[[Cell], bool]) -> list[Cell]:
    """Return the settings of several studies that are wanted, each once, with the first study that has it."""
    found: dict[str, Cell] = {}
    for study in studies:
        for cell in filter(wanted, study.cells(scale)):
            found.setdefault(run_name(cell.config), replace(cell, factors={"study": study.name, **cell.factors}))
    return list(found.values())


def cells(scale: Scale) -> list[Cell]:
    """Return the settings of other studies, each once, but for the encoder that [Li22] leave out."""
    found = pooled(RUNS_OF[scale], scale, lambda cell: cell.factors.get("encoder") != WIDE)
    return [replace(cell, label_free=True) for cell in found]


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return Figure 4: fits of accuracy, each alone too, and how other label-free scores rank the same runs."""
    accuracy = ACCURACY[scale]
    known = [each for each in results if {accuracy, *FEATURES} <= set(each.scores)]
    pools = _pools(known, accuracy)
    if not pools:
        return [Words("No run has an accuracy, a held-out loss and an AUC yet.")]
    runs, *left_out = pools
    (usual, _), *_ = Counter(each.cell.config.steps for each in runs).most_common()
    equal = [each for each in runs if each.cell.config.steps == usual]  # as [Li22]'s are
    alive = [
        each
        for each in runs
        if each.scores["auc"].taken < COLLAPSED_AUC and each.scores["heldout_loss"].taken > NEAR_THE_MINIMUM
    ]
    with_forecast = _forecast(alive, accuracy)
    return [
        _fits({f"{usual:,} steps": equal, "all": runs, "all that did not collapse": alive}, accuracy),
        Words(
            "[Li22] fit the linear probe's accuracy of 22 models, ResNet-18 and -34 on shares of ImageNet and in "
            "several orders, on held-out loss and AUC: R² = .950, both coefficients strongly negative, either alone "
            "poor. They print neither coefficients nor points, and no R² of models that were not fitted."
            + _left_out(runs, left_out, accuracy)
        ),
        *([against(with_forecast, "forecast", accuracy, color="study")] if with_forecast else []),
        *(against(runs, name, accuracy, color="study") for name in FEATURES),
        *([_ranks(scored, accuracy)] if (scored := [each for each in runs if each.label_free]) else []),
    ]


def settings_of(runs: Sequence[Result]) -> list[tuple[str, ...]]:
    """Return the setting of each run."""
    return [tuple(each.cell.factors.values()) for each in runs]


def without_settings(fit: LinearFit, runs: Sequence[Result]) -> tuple[np.ndarray, float]:
    """Forecast each of the fitted runs without all seeds of its setting, `(n,)`; and R² of these forecasts."""
    forecast = leave_groups_out(fit, settings_of(runs))
    missed = ((fit.accuracy - forecast) ** 2).sum() / ((fit.accuracy - fit.accuracy.mean()) ** 2).sum()
    return forecast, float(1 - missed)


def _pools(results: Sequence[Result], accuracy: str) -> list[list[Result]]:
    """Split runs into pools within which accuracy, held-out loss and AUC compare, the largest first."""
    pools = comparable([{name: each.scores[name].protocol for name in (accuracy, *FEATURES)} for each in results])
    return sorted(([results[place] for place in pool] for pool in pools), key=len, reverse=True)


def _left_out(runs: Sequence[Result], pools: Sequence[Sequence[Result]], accuracy: str) -> str:
    said = []
    for pool in pools:
        two = (runs[0], pool[0])
        for name in (accuracy, *FEATURES):
            if why := obstacle(name, [each.scores[name].protocol for each in two]):
                said.append(f"{len(pool)} run{'s' * (len(pool) > 1)}, {title(name)}: {why}")
    return f" Left out, for their scores do not compare: {'; '.join(said)}." if said else ""


def _fit(runs: Sequence[Result], accuracy: str, features: Sequence[str]) -> LinearFit:
    """Fit accuracy in percent.

    Raises:
        FullrankError: There are too few runs, or they do not differ.
    """
    known = [[each.scores[name].taken for name in features] for each in runs]
    return fit_linear(known, [100 * each.scores[accuracy].taken for each in runs], list(map(title, features)))


def _fits(pools: dict[str, Sequence[Result]], accuracy: str) -> Table:
    rows, refused = [], []
    shares = ["R²", "leave-one-out R²", "leave-one-setting-out R²"]
    for pool, runs in pools.items():
        for features in (FEATURES, *((name,) for name in FEATURES)):
            row = [pool, " and ".join(map(title, features)), f"{len(runs)} ({len(set(settings_of(runs)))})"]
            try:
                fit = _fit(runs, accuracy, features)
            except FullrankError as error:
                refused.append(f"{pool}, {row[1]}: {error}.")
                rows.append([*row, *(len(shares) + len(FEATURES)) * [MISSING]])
                continue
            squares = map(number, (fit.r2, fit.leave_one_out_r2, without_settings(fit, runs)[1]))
            slopes = {name: coefficient(value, interval, digits=0) for name, value, interval in fit.slopes}
            rows.append([*row, *squares, *(slopes.get(title(name), MISSING) for name in FEATURES)])
    return Table(
        f"{capital(kind_of(accuracy).axis)} from held-out loss and AUC",
        ["runs of", "fitted on", "runs (settings)", *shares, *(f"per 1 of {title(name)}" for name in FEATURES)],
        rows,
        "Ordinary least squares, in percentage points; in brackets 95 % intervals, too narrow where runs are seeds of "
        "one setting. Leave-one-out: each run forecast from the others, below 0 worse than by their mean; "
        "leave-one-setting-out: without the other seeds of its setting either. Collapsed: an AUC of "
        f"{COLLAPSED_AUC:g} or more, or a held-out loss of {number(NEAR_THE_MINIMUM)} or less. "
        + " ".join(dict.fromkeys(refused)),
        names=2,
    )


def _forecast(runs: Sequence[Result], accuracy: str) -> list[Result]:
    """Return runs with a score more, what a fit to the others forecasts; none where nothing can be fitted."""
    try:
        values, _ = without_settings(_fit(runs, accuracy, FEATURES), runs)
    except FullrankError:
        return []
    protocol = {"fitted to": "the runs of all other settings, but for the collapsed", "on": "held-out loss and AUC"}
    return [
        replace(each, evaluation=[*each.evaluation, Score("forecast", float(v) / 100, protocol)])
        for each, v in zip(runs, values, strict=True)
    ]


def _ranks(runs: Sequence[Result], accuracy: str) -> Table:
    """Return how each label-free score ranks the runs of which they were taken."""
    wanted = [each.scores[accuracy].taken for each in runs]
    taken = [{"heldout_loss": each.scores["heldout_loss"], **{s.name: s for s in each.label_free}} for each in runs]
    rows, unlike = [], []
    for name in dict.fromkeys(name for scores in taken for name in scores):
        having = [scores[name] for scores in taken if name in scores and scores[name].value is not None]
        if len(having) < len(runs) or len(split(name, [score.protocol for score in having])) > 1:
            unlike.append(title(name))
            continue
        values, direction = [score.taken for score in having], kind_of(name).direction
        try:
            found = agreement(values, wanted, direction=direction, groups=settings_of(runs))
        except FullrankError:
            rows.append([title(name), direction, *3 * [MISSING]])
            continue
        both = (found.kendall, found.kendall_interval), (found.spearman, found.spearman_interval)
        alone = number(float(np.corrcoef(values, wanted)[0, 1] ** 2))
        rows.append([title(name), direction, *(coefficient(*each) for each in both), alone])
    images = sorted({score.protocol["n"] for each in runs for score in each.label_free if score.name == "auc"})
    return Table(
        f"Label-free scores, and how they rank {len(runs)} runs by {title(accuracy)}",
        ["score", "better", "Kendall's tau", "Spearman's rho", "R² alone"],
        rows,
        "1: each better score goes with a better accuracy; where neither way is better, each higher one does. In "
        f"brackets 95 % intervals by bootstrap over {len(set(settings_of(runs)))} settings. Scores of the "
        f"representations of {', '.join(f'{count:,}' for count in images)} training images, those that need views of "
        "their views." + (f" Not taken of all runs alike, and left out: {listing(unlike)}." if unlike else ""),
    )


STUDY = Study(
    name="forecast",
    title="Forecasts of accuracy without labels",
    source="[Li22] Figure 4",
    question="Do held-out loss and AUC together forecast a linear probe's accuracy, and does any score do so alone?",
    cells=cells,
    parts=parts,
)
