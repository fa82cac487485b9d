"""A forecast of accuracy from held-out loss and AUC: the runs it is fitted on, its fit, and both as a small file.

Reference: [Li22] section 3.5 and Fig. 4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np

from fullrank._version import __version__
from fullrank.config import Accuracy
from fullrank.errors import FullrankError
from fullrank.files import read_json, reading, write_text
from fullrank.measure.forecast import LinearFit, fit_linear
from fullrank.measure.forecast.linear import Prediction
from fullrank.measure.protocols import DIM
from fullrank.measure.scores import renamed, title
from fullrank.ranking.candidates import FEATURES, Forecasted
from fullrank.shapes import Protocol, Range, ShapeError, fit

FORMAT, VERSION = "fullrank forecast", 1
_TERMS = ("intercept", *FEATURES)


class _Taken(TypedDict):
    protocol: Protocol


class _Accuracy(_Taken):
    name: Accuracy


class _Coefficient(TypedDict):
    value: float


class _Run(TypedDict):
    name: str
    accuracy: float


_Features = TypedDict("_Features", dict.fromkeys(FEATURES, _Taken))  # type: ignore[misc]
_Coefficients = TypedDict("_Coefficients", dict.fromkeys(_TERMS, _Coefficient))  # type: ignore[misc]


class _Document(TypedDict):
    """What a forecast has; all else in it follows from its runs."""

    accuracy: _Accuracy
    features: _Features
    width: Annotated[int, Range(1, 2**53)] | None
    coefficients: _Coefficients
    runs: list[_Run]


@dataclass(frozen=True, eq=False)
class Forecast:
    """A linear model of accuracy, as the runs that it is fitted on, and how they were measured."""

    runs: tuple[str, ...]  # the runs' names
    features: np.ndarray  # their held-out losses and AUCs, `(n, 2)`
    accuracies: np.ndarray  # `(n,)`, shares
    accuracy: str  # the accuracy's name
    accuracy_protocol: Mapping[str, Any]  # how it was measured
    protocols: Mapping[str, Mapping[str, Any]]  # how each feature was measured, by name

    @cached_property
    def fit(self) -> LinearFit:
        """The model; an error where the runs are too few, or do not differ."""
        return fit_linear(self.features, self.accuracies, list(map(title, FEATURES)))

    @cached_property
    def alone(self) -> dict[str, LinearFit]:
        """Models of one feature each, by its name."""
        columns = zip(FEATURES, self.features.T[..., None], strict=True)
        return {name: fit_linear(column, self.accuracies, [title(name)]) for name, column in columns}

    def of(self, features: np.ndarray) -> list[Forecasted]:
        """Forecast runs by their features, `(m, 2)`; one that was fitted is told what a fit without it says."""
        found = _each(self.fit.predict(features), left_out=False)
        without = _each(self.fit.left_out, left_out=True)
        for place, row in enumerate(features):
            if len(own := np.flatnonzero((self.features == row).all(axis=1))):
                found[place] = without[own[0]]
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        fit = self.fit
        terms = zip(_TERMS, fit.coefficients, fit.lower, fit.upper, strict=True)
        runs = zip(self.runs, self.accuracies, self.features, strict=True)
        return {
            "format": FORMAT,
            "version": VERSION,
            "fullrank": __version__,
            "numpy": np.__version__,
            "model": f"accuracy = intercept + {' + '.join(f'b * {name}' for name in FEATURES)}, least squares",
            "accuracy": {"name": self.accuracy, "protocol": dict(self.accuracy_protocol)},
            "features": {name: {"protocol": dict(self.protocols[name])} for name in FEATURES},
            "width": self.protocols["auc"].get(DIM),
            "coefficients": {
                term: {"value": float(value), "interval95": [float(low), float(high)]}
                for term, value, low, high in terms
            },
            "r2": fit.r2,
            "leave_one_out_r2": fit.leave_one_out_r2,
            "residual_standard_deviation": fit.residual,
            "variance_inflation": dict(zip(FEATURES, fit.inflation.tolist(), strict=True)),
            "condition_number": fit.condition,
            "runs": [
                {"name": name, "accuracy": float(accuracy), **dict(zip(FEATURES, map(float, row), strict=True))}
                for name, accuracy, row in runs
            ],
        }

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n")


def _each(made: Prediction, *, left_out: bool) -> list[Forecasted]:
    rows = zip(made.value, made.lower, made.upper, made.outside, strict=True)
    return [Forecasted(float(value), float(low), float(high), left_out, out) for value, low, high, out in rows]


def read_forecast(path: Path) -> Forecast:
    """Read what `Forecast.write` wrote: the runs, whose fit must have the file's coefficients."""
    remedy = "write it again with `fullrank rank RUN ... --fit`"
    found: Any = read_json(path, dict[str, object], remedy)
    if found.get("format") != FORMAT or type(found.get("version")) is not int:
        raise FullrankError(f"{path} is not a forecast: expected a file that `fullrank rank RUN ... --fit` wrote")
    if found["version"] > VERSION:
        raise FullrankError(
            f"{path} is of version {found['version']}, this fullrank reads up to {VERSION}: upgrade fullrank"
        )
    with reading(path, remedy):
        fit(found, _Document)
        rows = [[run.get(name) for name in FEATURES] for run in found["runs"]]
        fit(rows, list[list[float]], "runs")
        width = {} if found["width"] is None else {DIM: found["width"]}  # which protocols of before do not state
        read = Forecast(
            runs=tuple(run["name"] for run in found["runs"]),
            features=np.array(rows, dtype=np.float64).reshape(-1, len(FEATURES)),
            accuracies=np.array([run["accuracy"] for run in found["runs"]], dtype=np.float64),
            accuracy=found["accuracy"]["name"],
            accuracy_protocol=renamed(found["accuracy"]["protocol"]),
            protocols={name: width | renamed(found["features"][name]["protocol"]) for name in FEATURES},
        )
        stated = [found["coefficients"][term]["value"] for term in _TERMS]
        try:
            fitted = read.fit.coefficients
        except FullrankError as error:
            raise ShapeError(str(error)) from None
        if not np.allclose(fitted, stated, rtol=1e-6, atol=1e-9):
            raise ShapeError("its coefficients do not follow from its runs")
    return read
