"""A fitted forecast as a small file: what it was fitted on, how that was measured, and the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np

from fullrank._version import __version__
from fullrank.errors import FullrankError
from fullrank.files import AtLeast, Protocol, ShapeError, check, read_json, said, write_text
from fullrank.measure.forecast import LinearFit, fit_linear
from fullrank.measure.scores import title
from fullrank.ranking.candidates import FEATURES

FORMAT, VERSION = "fullrank forecast", 1
TITLES = tuple(title(name) for name in FEATURES)


@dataclass(frozen=True, eq=False)
class Forecast:
    """A linear model of accuracy, and how what it was fitted on was measured.

    Attributes:
        fit: The model; its features are `FEATURES`, by their titles.
        runs: The fitted runs' names.
        accuracy: The accuracy's name.
        accuracy_protocol: How it was measured.
        protocols: How each feature was measured, by name.
        width: The representations' width D; None where it is not known.
    """

    fit: LinearFit
    runs: tuple[str, ...]
    accuracy: str
    accuracy_protocol: Mapping[str, Any]
    protocols: Mapping[str, Mapping[str, Any]]
    width: int | None


def write_forecast(forecast: Forecast, path: Path) -> None:
    """Write a forecast as JSON.

    Raises:
        FullrankError: `path` is a folder.
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(as_dict(forecast), indent=2, allow_nan=False) + "\n")


def as_dict(forecast: Forecast) -> dict[str, Any]:
    """Return a forecast as JSON has it."""
    fit = forecast.fit
    terms = ("intercept", *FEATURES)
    return {
        "format": FORMAT,
        "version": VERSION,
        "fullrank": __version__,
        "numpy": np.__version__,
        "model": f"accuracy = intercept + {' + '.join(f'coefficient * {name}' for name in FEATURES)}, least squares",
        "accuracy": {"name": forecast.accuracy, "protocol": dict(forecast.accuracy_protocol)},
        "features": {name: {"protocol": dict(forecast.protocols[name])} for name in FEATURES},
        "width": forecast.width,
        "coefficients": {
            term: {"value": float(value), "interval95": [float(low), float(high)]}
            for term, value, low, high in zip(terms, fit.coefficients, fit.lower, fit.upper, strict=True)
        },
        "r2": fit.r2,
        "leave_one_out_r2": fit.leave_one_out_r2,
        "residual_standard_deviation": fit.residual,
        "variance_inflation": dict(zip(FEATURES, fit.inflation.tolist(), strict=True)),
        "condition_number": fit.condition,
        "runs": [
            {"name": name, "accuracy": float(accuracy), **dict(zip(FEATURES, map(float, row), strict=True))}
            for name, accuracy, row in zip(forecast.runs, fit.accuracy, fit.features, strict=True)
        ],
    }


class _Measured(TypedDict):
    protocol: Protocol


class _Accuracy(_Measured):
    name: str


class _Coefficient(TypedDict):
    value: float


class _Run(TypedDict):
    name: str
    accuracy: float


class _Document(TypedDict):
    """What a forecast has; all else in it follows from its runs."""

    accuracy: _Accuracy
    features: dict[str, _Measured]
    width: Annotated[int, AtLeast(1)] | None
    coefficients: dict[str, _Coefficient]
    runs: list[_Run]


def read_forecast(path: Path) -> Forecast:
    """Read what `write_forecast` wrote: the runs, whose fit is the model, and its coefficients must be the file's.

    Raises:
        FullrankError: There is no such file, it is damaged, changed, or of a newer version.
    """
    remedy = "write it again with `fullrank rank RUN ... --fit`"
    with said(path, remedy):
        try:
            head: Any = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            head = None
        version = head.get("version") if isinstance(head, dict) and head.get("format") == FORMAT else None
        if type(version) is not int:
            raise FullrankError(f"{path} is not a forecast: expected a file that `fullrank rank RUN ... --fit` wrote")
        if version > VERSION:
            raise FullrankError(
                f"{path} is of version {version}, this fullrank reads up to {VERSION}: upgrade fullrank"
            )
        found = read_json(path, _Document, remedy)
        rows: list[Any] = [[dict(run).get(name) for name in FEATURES] for run in found["runs"]]
        check(rows, list[list[float]], "runs")
        try:
            fit = fit_linear(rows, [run["accuracy"] for run in found["runs"]], TITLES)
        except FullrankError as error:
            raise ShapeError(str(error)) from None
        stated = [found["coefficients"][term]["value"] for term in ("intercept", *FEATURES)]
        if not np.allclose(fit.coefficients, stated, rtol=1e-6, atol=1e-9):
            raise ShapeError("its coefficients do not follow from its runs")
        return Forecast(
            fit=fit,
            runs=tuple(run["name"] for run in found["runs"]),
            accuracy=found["accuracy"]["name"],
            accuracy_protocol=found["accuracy"]["protocol"],
            protocols={name: found["features"][name]["protocol"] for name in FEATURES},
            width=found["width"],
        )
