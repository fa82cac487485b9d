"""What scores are called is the same on every page, and every accuracy is shown in percent."""

import pytest

from fullrank.evaluation.evaluate import PROBES
from fullrank.measure.protocols import ACCURACIES
from fullrank.ranking.names import FEATURES, FORECAST, FRONT
from fullrank.report.words import number
from fullrank.score_names import SCORE_NAMES, is_share, title
from fullrank.studies.views.scores import unit
from fullrank.training.record import BETTER


@pytest.mark.parametrize("probe", PROBES)
def test_every_probe_has_a_name_and_is_a_share(probe):
    assert probe in SCORE_NAMES
    assert is_share(probe)
    assert title(probe) != probe
    assert number(probe, 0.5) == "50.0\N{NO-BREAK SPACE}%"
    shown = unit(probe)
    assert (shown.label, shown.scale) == (f"{title(probe)} (%)", 100.0)


def test_what_runs_record_and_rankings_say_has_a_name():
    assert {*ACCURACIES, *FEATURES, FORECAST, FRONT, *BETTER} <= set(SCORE_NAMES)


def test_rankme_of_a_run_is_told_from_the_published_one():
    assert title("rankme", centered=True) == title("rankme_centered") == unit("rankme").label
    assert title("rankme") != title("rankme_centered")
