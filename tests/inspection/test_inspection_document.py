"""The page about inspected encoders: whole, self-contained, and true to what was found."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from rich.console import Console
from tests.pages import Page

from fullrank.documents.html import write_page
from fullrank.documents.terminal import show
from fullrank.errors import FullrankError
from fullrank.inspection.inspect import inspect
from fullrank.inspection.options import InspectOptions
from fullrank.inspection.result import document


@pytest.fixture
def pair(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "wide <&>.npy", rng.standard_normal((300, 16)))
    np.save(tmp_path / "flat.npy", rng.standard_normal((300, 2)) @ rng.standard_normal((2, 8)))
    return inspect([str(tmp_path / "wide <&>.npy"), str(tmp_path / "flat.npy")])


def test_page(tmp_path, pair):
    page = Page(write_page(document(pair), tmp_path / "new" / "inspect.html").read_text(encoding="utf-8"))
    assert len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "wide <&>.npy and flat.npy" in page.text
    assert "6 of 8 directions are dead" in page.text
    assert "Confidence high" in page.text
    assert "hybrid" in page.text
    assert "two-NN dimension *" in page.text
    assert "AUC *" not in page.text
    assert "cannot be compared: it depends on the width D" in page.text
    assert any("wide <&>.npy: 0 of 16 below 1e-3" in alt for alt in page.alts)
    assert page.source == document(pair).html()


def test_the_verdict_of_many_fits_a_terminal(pair):
    found = [replace(pair[0], name=f"checkpoint_{step:07}.pth") for step in range(4)]
    console = Console(width=80, file=StringIO())
    show(document(found), console)
    table = console.file.getvalue().split(f"{found[0].name}: ")[0]
    assert table.count(f" {found[0].verdict.level}") == 4


def test_an_untrained_twin_is_drawn(tmp_path, no_drawing):
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "w.pt")
    options = InspectOptions(backbone="resnet10t", images="digits", image_size=32, limit=12)
    text = Page(document(inspect([str(tmp_path / "w.pt")], options)).html()).text
    assert "Thin and dotted: the same network with random weights" in text
    assert "only the 11 directions that 12 features can span are judged" in text
    text = document(inspect(["resnet10t"], replace(options, backbone=None, pretrained="no"))).html()
    assert '<span class="level">Untrained (backbone)</span>' in text
    assert "Thin and dotted" not in text
    assert "its weights are random" in text.lower()


def test_scores_that_are_missing_say_why(tmp_path, no_drawing):
    np.save(tmp_path / "constant.npy", np.ones((200, 4)))
    text = Page(document(inspect([str(tmp_path / "constant.npy")])).html()).text
    assert "Scores that could not be taken" in text
    assert "two-NN dimension" in text


@pytest.mark.parametrize("beside", [0, 3])
def test_scores_of_directions_that_nothing_spans_are_marked(tmp_path, beside):
    """Of few rows there are two AUCs, of all directions and of those judged: a reader sees which one counts."""
    rng = np.random.default_rng(0)
    for name, n in {"few": 16, **{f"enough{i}": 17 for i in range(beside)}}.items():
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((n, 16)))
    found = inspect([str(path) for path in sorted(tmp_path.glob("*.npy"))])
    few = found[-1]
    auc, dead = few.scores["auc"].text, few.scores["dead"].text
    for text in (Page(document(found).html()).text, document(found).markdown()):
        assert f"{auc} †" in text
        assert f"{dead} †" in text
        assert text.count(" †") == 2  # 16 rows do span 16 directions about zero
        assert "† counts as dead what so few images cannot span: go by the verdict, which leaves that out." in text
        assert f"the AUC of all 16, {auc}, counts the others as dead" in text
    assert not beside or "†" not in document(found[:-1]).markdown()


def test_a_folder_is_no_page(tmp_path, pair):
    with pytest.raises(FullrankError, match="is a folder: name the page to write"):
        write_page(document(pair), tmp_path)
    with pytest.raises((FullrankError, OSError), match="/proc/none"):
        write_page(document(pair), Path("/proc/none/page.html"))
