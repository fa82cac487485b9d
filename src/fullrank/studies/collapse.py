"""What decides collapse? One line through the runs of other studies: AUC from decay, rate, steps and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fullrank.config import TrainConfig
from fullrank.documents import Part, Picture, Table, Words, coefficient, number, plots
from fullrank.errors import FullrankError
from fullrank.measure.forecast import LinearFit, fit_linear
from fullrank.measure.scores import title
from fullrank.studies import boundaries, decay, orders, regime, subsets
from fullrank.studies.bases import MULTIPLE, short
from fullrank.studies.forecast import pooled, settings_of, without_settings
from fullrank.studies.study import Cell, Result, Scale, Study
from fullrank.studies.views.scores import caveats, final, protocols, sentences

RUNS_OF = (orders.STUDY, subsets.STUDY, regime.STUDY, boundaries.STUDY, decay.STUDY)
LEVELS = (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)  # of AUC, on the map
_UNFITTED = "AUC cannot be fitted yet: runs are too few, or two of their numbers change together."
_DRAWN = ("weight decay", "images", "images at a time")  # of the numbers, those that differ on the map


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


def cells(scale: Scale) -> list[Cell]:
    """Return the settings of other studies that differ from their common one in these numbers only, each once."""
    base = short(scale)

    def wanted(cell: Cell) -> bool:
        own = cell.config
        same = replace(
            base,
            **{name: getattr(own, name) for name in ("order", "steps", "subset", "chunks")},
            optim=replace(base.optim, base_lr=own.optim.base_lr, weight_decay=own.optim.weight_decay),
            monitor=replace(base.monitor, measure_every=own.monitor.measure_every),
        )
        return own == same and own.order in (MULTIPLE, "single-pass")

    return pooled(RUNS_OF, scale, wanted)


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return the fit, and the map of what it says for multiple passes."""
    known = [each for each in results if "auc" in each.scores]
    values = {name: [of(each.cell.config) for each in known] for name, of in NUMBERS.items()}
    names = [name for name, own in values.items() if len(set(own)) > 1]
    if not names:
        return [Words(_UNFITTED)]
    logs = np.log2([values[name] for name in names]).T
    try:
        fit = fit_linear(logs, [100 * each.scores["auc"].taken for each in known], names)
    except FullrankError:
        return [Words(_UNFITTED)]
    multiple = [each for each in known if each.cell.config.order == MULTIPLE]
    return [
        _table(fit, known),
        Words("A higher AUC is a steeper spectrum. The fit is of one encoder and one set of images."),
        *([_map(fit, multiple)] if multiple and {"weight decay", "images"} <= set(names) else []),
    ]


def _table(fit: LinearFit, runs: Sequence[Result]) -> Table:
    _, unseen = without_settings(fit, runs)
    return Table(
        "AUC from the settings of a run",
        ["twice as much", "AUC, in hundredths"],
        [[name, coefficient(value, interval, digits=1)] for name, value, interval in fit.slopes],
        sentences(
            f"Ordinary least squares on logarithms, of {len(runs)} runs of {len(set(settings_of(runs)))} settings: "
            f"R² {number(fit.r2)}, leave-one-out {number(fit.leave_one_out_r2)}, leave-one-setting-out "
            f"{number(unseen)}. In brackets 95 % intervals, too narrow where runs are seeds of one setting. "
            "Images at a time are all with multiple passes, and those of a chunk with a single pass.",
            caveats(final(runs, "auc")),
        ),
    )


def _map(fit: LinearFit, multiple: Sequence[Result]) -> Picture:
    """Return AUC of multiple passes over images and weight decay: lines where the fit puts it, points where it was."""
    groups: dict[tuple[tuple[str, float], ...], list[Result]] = {}  # by the numbers that a map has no axis for
    for each in multiple:
        undrawn = ((name, of(each.cell.config)) for name, of in NUMBERS.items() if name not in _DRAWN)
        groups.setdefault(tuple(undrawn), []).append(each)

    def drawn(runs: Sequence[Result]) -> tuple[int, int]:
        return len({each.cell.config.subset for each in runs}), len(runs)

    found, shown = max(groups.items(), key=lambda group: drawn(group[1]))
    common = dict(found)
    settings: dict[tuple[float, float], list[float]] = {}  # AUC of the seeds, by share of the images and decay
    for each in shown:
        config = each.cell.config
        settings.setdefault((config.subset, config.optim.weight_decay), []).append(each.scores["auc"].taken)

    def logs(share: float, weight_decay: float) -> list[float]:
        numbers = common | dict(zip(_DRAWN, (weight_decay, share, share), strict=True))
        return [np.log2(numbers[name]) for name in fit.names]

    @plots.style()
    def draw() -> Figure:
        figure, ax = plots.single()
        shares, decays = map(np.array, zip(*settings, strict=True))
        across = np.geomspace(shares.min() / 1.3, min(1, shares.max() * 1.3), 40)
        up = np.geomspace(decays.min() / 1.2, decays.max() * 1.2, 40)
        fitted = fit.predict([logs(share, decay) for decay in up for share in across]).value / 100
        colors, norm = plots.late_is_dark(), Normalize(LEVELS[0], 1)
        grid = fitted.reshape(len(up), len(across))
        lines = ax.contour(100 * across, up, grid, LEVELS, cmap=colors, norm=norm, linewidths=1.2)
        ax.clabel(lines, fmt="%g", fontsize=9)
        means = [float(np.mean(seeds)) for seeds in settings.values()]
        look: dict[str, Any] = {"cmap": colors, "norm": norm, "edgecolors": "white", "linewidths": 0.5}
        ax.scatter(100 * shares, decays, s=60, c=means, zorder=3, **look)
        ax.set(xscale="log", yscale="log", xlabel="share of the training images (%)", ylabel="weight decay")
        plots.tick_at(ax.xaxis, (100 * shares).tolist())
        plots.tick_at(ax.yaxis, decays.tolist())
        plots.color_bar(ax, colors, norm, title("auc"))
        return figure

    measured = final(shown, "auc")
    said = "A point is the mean over the seeds of a setting, and lines are where the fit puts an AUC."
    rate = f"All are at a learning rate of {common['learning rate']:g}." if "learning rate" in fit.names else ""
    return Picture(
        "map-of-collapse",
        f"{title('auc')} by images and weight decay, of multiple passes over {common['steps']:,} steps",
        sentences(said, "Darker is more collapsed.", rate, caveats(measured)),
        draw,
        protocols(measured),
    )


STUDY = Study(
    name="collapse",
    title="What decides collapse",
    source="ours",
    question="How much of a spectrum's steepness do decay, steps, images and chunks decide, by one formula?",
    cells=cells,
    parts=parts,
)
