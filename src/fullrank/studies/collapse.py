"""What decides collapse? One line through the runs of other studies: AUC from decay, rate, steps and images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from fullrank.config import TrainConfig
from fullrank.documents import Part, Picture, Table, Words, coefficient, number, plots
from fullrank.errors import FullrankError
from fullrank.measure.forecast import LinearFit, fit_linear, leave_groups_out
from fullrank.measure.scores import title
from fullrank.studies import boundaries, decay, orders, regime, subsets
from fullrank.studies.bases import MULTIPLE, short
from fullrank.studies.store import run_name
from fullrank.studies.study import Cell, Result, Scale, Study
from fullrank.studies.views.scores import final, protocols

RUNS_OF = (orders.STUDY, subsets.STUDY, regime.STUDY, boundaries.STUDY, decay.STUDY)
LEVELS = (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)  # of AUC, on the map


def _at_a_time(config: TrainConfig) -> float:
    return config.subset / (1 if config.order == MULTIPLE else config.chunks)


NUMBERS: dict[str, Callable[[TrainConfig], float]] = {
    "weight decay": lambda config: config.optim.weight_decay,
    "learning rate": lambda config: config.optim.base_lr,
    "steps": lambda config: config.steps,
    "images": lambda config: config.subset,
    "images at a time": _at_a_time,
}
"""What decides, of a setting's numbers; images as a share of the training images."""
_AXES = (NUMBERS["images"], NUMBERS["weight decay"])  # of the map


def cells(scale: Scale) -> list[Cell]:
    """Return the settings of other studies that differ from their common one in these numbers only, each once."""
    base = short(scale)
    found: dict[str, Cell] = {}
    for study in RUNS_OF:
        for cell in study.cells(scale):
            own = cell.config
            same = replace(
                base,
                **{name: getattr(own, name) for name in ("order", "steps", "subset", "chunks", "monitor")},
                optim=replace(base.optim, base_lr=own.optim.base_lr, weight_decay=own.optim.weight_decay),
            )
            if own == same and own.order in (MULTIPLE, "single-pass"):
                factors = {"study": study.name, **cell.factors}
                found.setdefault(run_name(own), replace(cell, factors=factors, label_free=False))
    return list(found.values())


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return the fit, and the map of what it says for multiple passes."""
    known = [each for each in results if "auc" in each.scores]
    logs = {name: np.log2([of(each.cell.config) for each in known]) for name, of in NUMBERS.items()}
    logs = {name: values for name, values in logs.items() if len(values) and np.ptp(values) > 0}
    auc = [100 * each.scores["auc"].taken for each in known]
    try:
        fit = fit_linear(np.column_stack(list(logs.values())) if logs else [], auc, list(logs))
    except FullrankError:
        return [Words("There are too few runs yet to fit AUC.")]
    return [
        _table(fit, list(logs), known),
        Words("A higher AUC is a steeper spectrum. The fit is of one encoder and one set of images."),
        *([_map(fit, list(logs), known)] if {"weight decay", "images"} <= set(logs) else []),
    ]


def _table(fit: LinearFit, names: Sequence[str], runs: Sequence[Result]) -> Table:
    settings = [tuple(each.cell.factors.values()) for each in runs]
    without = leave_groups_out(fit, settings)
    unseen = 1 - ((fit.accuracy - without) ** 2).sum() / ((fit.accuracy - fit.accuracy.mean()) ** 2).sum()
    terms = zip(names, fit.coefficients[1:], fit.lower[1:], fit.upper[1:], strict=True)
    return Table(
        "AUC from the settings of a run",
        ["twice as much", "AUC, in hundredths"],
        [[name, coefficient(value, ends, digits=1)] for name, value, *ends in terms],
        f"Ordinary least squares on logarithms, of {len(runs)} runs of {len(set(settings))} settings: "
        f"R² {number(fit.r2)}, leave-one-out {number(fit.leave_one_out_r2)}, leave-one-setting-out "
        f"{number(float(unseen))}. In brackets 95 % intervals, too narrow where runs are seeds of one setting. "
        "Images at a time are all with multiple passes, and those of a chunk with a single pass.",
    )


def _map(fit: LinearFit, names: Sequence[str], runs: Sequence[Result]) -> Picture:
    """Return AUC of multiple passes over images and weight decay: lines where the fit puts it, points where it was."""
    multiple = [each for each in runs if each.cell.config.order == MULTIPLE]
    steps, _ = Counter(each.cell.config.steps for each in multiple).most_common()[0]
    shown = [each for each in multiple if each.cell.config.steps == steps]
    settings: dict[tuple[float, float], list[float]] = {}  # AUC of the seeds, by share of the images and decay
    for each in shown:
        config = each.cell.config
        settings.setdefault((config.subset, config.optim.weight_decay), []).append(each.scores["auc"].taken)
    example = shown[0].cell.config

    def fitted(share: float, weight_decay: float) -> float:
        config = replace(example, subset=share, optim=replace(example.optim, weight_decay=weight_decay))
        logs = [np.log2(NUMBERS[name](config)) for name in names]
        return float(fit.coefficients[0] + np.dot(fit.coefficients[1:], logs)) / 100

    @plots.style()
    def draw() -> Figure:
        figure, ax = plots.single()
        shares, decays = map(np.array, zip(*settings, strict=True))
        across = np.geomspace(shares.min() / 1.3, shares.max() * 1.3, 40)
        up = np.geomspace(decays.min() / 1.2, decays.max() * 1.2, 40)
        grid = [[fitted(share, decay) for share in across] for decay in up]
        colors, norm = plots.late_is_dark(), Normalize(LEVELS[0], 1)
        lines = ax.contour(100 * across, up, grid, LEVELS, cmap=colors, norm=norm, linewidths=1.2)
        ax.clabel(lines, fmt=lambda level: f"{level:g}", fontsize=9)
        means = [float(np.mean(seeds)) for seeds in settings.values()]
        look: dict[str, Any] = {"cmap": colors, "norm": norm, "edgecolors": "white", "linewidths": 0.5}
        ax.scatter(100 * shares, decays, s=60, c=means, zorder=3, **look)
        ax.set(xscale="log", yscale="log", xlabel="share of the training images (%)", ylabel="weight decay")
        for axis, values in ((ax.xaxis, 100 * shares), (ax.yaxis, decays)):
            axis.set_major_locator(FixedLocator(sorted(set(values.tolist()))))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(NullLocator())
        figure.colorbar(ScalarMappable(norm, colors), ax=ax, aspect=28, pad=0.02).set_label(title("auc"))
        return figure

    return Picture(
        "map-of-collapse",
        f"{title('auc')} by images and weight decay, of multiple passes over {steps:,} steps",
        "A point is the mean over the seeds of a setting, and lines are where the fit puts an AUC. Darker is more "
        "collapsed.",
        draw,
        protocols(final(shown, "auc")),
    )


STUDY = Study(
    name="collapse",
    title="What decides collapse",
    source="ours",
    question="How much of a spectrum's steepness do decay, steps, images and chunks decide, by one formula?",
    cells=cells,
    parts=parts,
)
