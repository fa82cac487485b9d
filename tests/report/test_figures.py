import numpy as np
from run_folders import make_run

from fullrank.documents import COLORS, DASHES, Look, spectra
from fullrank.documents.plots import inline_svg
from fullrank.measure.spectrum import Spectrum
from fullrank.report import document as figures
from fullrank.report.side import sides
from fullrank.training.runs import read_run


def test_a_quantity_no_run_has_gives_no_figure(tmp_path):
    shown = sides([read_run(make_run(tmp_path / "run", labels=False))])
    assert figures.say_ends(shown, "knn", "k-NN") == ""


def test_axes_are_named_as_text(tmp_path):
    shown = sides([read_run(make_run(tmp_path / "run"))])
    label = figures.say_ends(shown, "loss", "training loss")
    svg = inline_svg(figures.over_steps(shown, "loss", title="training loss"), "loss", label)
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
    pairs = [(side, side.run.spectrum()) for side in shown]
    expected = inline_svg(spectra.relative_spectra(pairs), "x", "")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": False}):
        assert inline_svg(spectra.relative_spectra(pairs), "x", "") == expected
        assert matplotlib.rcParams["font.size"] == 30


def test_more_runs_than_colors_differ_in_dashes(tmp_path):
    record = read_run(make_run(tmp_path / "run"))
    looks = {(side.color, side.dashes) for side in sides([record] * len(COLORS) * len(DASHES))}
    assert len(looks) == len(COLORS) * len(DASHES)


def test_spectra_beside_the_others_are_thin_and_of_their_color():
    shown = [(Look("a", 0), Spectrum(np.array([8.0, 4.0, 2.0]))), (Look("b", 1), Spectrum(np.array([8.0, 7.0, 6.0])))]
    for draw in (spectra.relative_spectra, spectra.explained):
        own, other, thin, *_ = (line for line in draw(shown, shown[1:]).axes[0].lines if len(line.get_xdata()) == 3)
        assert own.get_linewidth() == other.get_linewidth() > thin.get_linewidth()
        assert own.get_color() != other.get_color() == thin.get_color()
        assert (own.get_marker(), other.get_marker(), thin.get_marker()) == ("o", "s", "None")
