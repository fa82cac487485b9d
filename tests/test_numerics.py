"""What is measured does not depend on what the program around it has set."""

from contextlib import ExitStack, contextmanager

import pytest
import torch

import fullrank
from fullrank.measure.monitor import MovingSpectrum
from fullrank.measure.probes import choose_logistic, fit_logistic, knn_accuracy
from fullrank.measure.scores import SCORES
from fullrank.metrics import RankMe
from fullrank.numerics import exact_arithmetic

X = torch.randn(160, 12, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -2, 12)
Y = (X[:, 0] > 0).long()
HELD_OUT = torch.arange(160) % 4 == 0


@contextmanager
def set_for(setter, value, before):
    setter(value)
    try:
        yield
    finally:
        setter(before)


AROUND = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": lambda: set_for(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: set_for(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "medium": lambda: set_for(torch.set_float32_matmul_precision, "medium", "highest"),
    "inference": torch.inference_mode,
    "no gradient": torch.no_grad,
    "another device": lambda: torch.device("meta"),
    "deterministic": lambda: set_for(torch.use_deterministic_algorithms, True, False),
}


def streamed(metric):
    for rows in X.split(40):
        metric.update(rows)
    return metric.compute()


def everything():
    found = {"logistic": fit_logistic(X, Y, l2=1e-2).objective, "knn": knn_accuracy(X, Y, X, Y, k=5)}
    found["chosen"] = choose_logistic(X, Y, HELD_OUT)[0].accuracy(X, Y)
    for settings in ({}, {"fast": True}, {"exact": True}, {"normalize": True}):
        found[str(settings)] = streamed(fullrank.SpectrumMetric(12, **settings)).singular_values.tolist()
    found["rankme"] = float(streamed(RankMe(12)))
    found["moving"] = streamed(MovingSpectrum(12)).singular_values.tolist()
    found["alpha"] = fullrank.Spectrum(fullrank.spectrum(X).singular_values).power_law(2, 9)
    views = X.view(80, 2, 12)
    for name, score in SCORES.items():
        if score.function is None:
            continue
        found[name] = score.function(views if score.needs == "views" else X)
    return found


@pytest.mark.parametrize("name", AROUND)
def test_nothing_depends_on_the_program_around(name):
    want = everything()
    with AROUND[name]():
        found = everything()
    assert {key: repr(value) for key, value in found.items()} == {key: repr(value) for key, value in want.items()}


def test_all_is_as_it_was_and_what_is_made_can_be_written_to():
    with ExitStack() as stack:
        for name in ("autocast", "bfloat16", "medium", "another device", "inference"):
            stack.enter_context(AROUND[name]())
        with exact_arithmetic():
            made = torch.ones(2, 2) @ torch.ones(2, 2)
            assert (made.dtype, made.device.type, torch.get_float32_matmul_precision()) == (
                torch.float32,
                "cpu",
                "highest",
            )
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_inference_mode_enabled()
        assert torch.get_default_dtype() == torch.bfloat16
        assert torch.empty(0).device.type == "meta"
        assert torch.get_float32_matmul_precision() == "medium"
    made += 1
