import numpy as np
from fullrank.report.look import COLOURS, DASHES
from run_folders import make_run

from fullrank.report import figures
from fullrank.report.side import sides
from fullrank.training.runs import read_run


def test_a_quantity_no_run_has_gives_no_figure(tmp_path):
    shown = sides([read_run(make_run(tmp_path / "run", labels=False))])
    assert figures.over_steps(shown, key="knn", kind="measure", name="knn", title="k-NN") == ""


def test_axes_are_named_as_text(tmp_path):
    shown = sides([read_run(make_run(tmp_path / "run"))])
    svg = figures.over_steps(shown, key="loss", kind="train", name="loss", title="training loss")
    assert svg.startswith("<svg viewBox=")
    assert ">gradient step</text>" in svg
    assert ">training loss</text>" in svg
    assert 'role="img" aria-label="training loss over gradient steps. run: ' in svg


def test_thinning_keeps_the_ends_and_the_mean():
    steps, values = np.arange(1, 3001.0), np.random.default_rng(0).standard_normal(3000)
    thin_steps, thin_values = figures._thin(steps, values)
    assert len(thin_steps) == figures.POINTS
    assert (thin_steps[0], thin_steps[-1]) == (1, 3000)
    np.testing.assert_allclose(thin_values.mean(), values.mean())


def test_the_readers_matplotlib_settings_do_not_matter(tmp_path):
    import matplotlib

    shown = sides([read_run(make_run(tmp_path / "run"))])
    expected = figures.relative_spectra([(side, side.spectrum(-1)) for side in shown], key="x")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": False}):
        assert figures.relative_spectra([(side, side.spectrum(-1)) for side in shown], key="x") == expected
        assert matplotlib.rcParams["font.size"] == 30


def test_more_runs_than_colours_differ_in_dashes(tmp_path):
    record = read_run(make_run(tmp_path / "run"))
    looks = {(side.colour, side.dashes) for side in sides([record] * len(COLOURS) * len(DASHES))}
    assert len(looks) == len(COLOURS) * len(DASHES)
