"""The site's pages say what works: their Python runs, their commands can be given, and the quickstart is executed.

The blocks of a page run in turn, with one namespace, in a folder that holds what pages speak of. A block below a line
`<!-- needs: PACKAGE -->` is skipped where that is not installed.
"""

import doctest
import importlib.util
import json
import re
import shlex
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fullrank.cli import _parse, main
from fullrank.measure.scores import SCORES, ScoreKind, register
from fullrank.registry import METHODS, ORDERS, SOURCES, VIEWS
from tests.conftest import draw_nothing

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
FENCE = re.compile(r"^(?:<!-- needs: ([\w.]+) -->\n)?```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?: {4})?(?:fullrank |torchrun [^\n]*-m fullrank )[^\n]*$", re.MULTILINE)
COMMANDS = [(page, found[0].strip()) for page, text in PAGES.items() for found in COMMAND.finditer(text)]
WITH_PYTHON = [page for page, text in PAGES.items() if any(found[2] == "python" for found in FENCE.finditer(text))]
RUN = ("fullrank inspect features.npy", "fullrank export runs/hybrid --out model")  # the others are parsed
PLACEHOLDERS = {"NAME": "orders", "SEEDS": "3", "RUN": "runs/hybrid"}
DIM = 64
REGISTRIES = (METHODS, ORDERS, VIEWS, SOURCES)


class Pairs(torch.utils.data.Dataset):
    """Two views of each image."""

    def __len__(self):
        return 96

    def __getitem__(self, index):
        return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(index)).unbind()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where pages are executed: the quickstart's runs, a feature matrix, some photos, the committed results."""
    folder = tmp_path_factory.mktemp("docs")
    rows = torch.randn(400, DIM, generator=torch.Generator().manual_seed(0))
    np.save(folder / "features.npy", rows.numpy())
    (folder / "photos" / "a").mkdir(parents=True)
    for i in range(16):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / "a" / f"{i}.png")
    (folder / "results").symlink_to(ROOT / "results")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(folder)
        draw_nothing(patch)
        patch.setitem(matplotlib.rcParams, "backend", "agg")
        warnings.simplefilter("ignore")  # as a notebook shows them and goes on
        execute(json.loads((DOCS / "quickstart.ipynb").read_text()))
    return folder


@pytest.fixture
def registered():
    """What a page registers is not there for the tests after it."""
    before = [set(each) for each in (SCORES, *REGISTRIES)]
    yield
    for name in set(SCORES) - before[0]:
        del SCORES[name]
    for each, names in zip(REGISTRIES, before[1:], strict=True):
        for name in set(each) - names:
            each.forget(name)


def execute(notebook):
    """Run the cells of a notebook as Jupyter does; `%%bash` cells hold commands of ours and nothing else."""
    names = {}
    for number, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.startswith("%%bash"):
            for line in source.splitlines()[1:]:
                assert main(shlex.split(line)[1:]) == 0, line
        elif cell["cell_type"] == "code":
            exec(compile(source, f"quickstart.ipynb, cell {number}", "exec"), names)


def what_pages_name():
    """The names that pages take to be the reader's own."""
    from lightning.pytorch import LightningModule

    from fullrank import losses

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(3072, DIM))

        def training_step(self, batch, index):
            z1, z2 = map(self.backbone, batch)
            return losses.vicreg(z1, z2)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(3072, DIM))
    labels = torch.arange(96) % 4
    labeled = torch.utils.data.TensorDataset(torch.randn(96, 3, 32, 32) + labels.view(-1, 1, 1, 1), labels)
    labeled_loader = torch.utils.data.DataLoader(labeled, batch_size=32)
    projector, predictor = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
    z1, z2, features = torch.randn(16, DIM), torch.randn(16, DIM), torch.randn(400, DIM)
    return {
        "torch": torch,
        "dataset": Pairs(),
        "loader": torch.utils.data.DataLoader(Pairs(), batch_size=32),
        "dim": DIM,
        "backbone": backbone,
        "encoder": backbone,
        "model": backbone,
        "images_loader": labeled_loader,
        "train_loader": labeled_loader,
        "test_loader": torch.utils.data.DataLoader(labeled, batch_size=48),
        "projector": projector,
        "predictor": predictor,
        "optimizer": torch.optim.SGD([*backbone.parameters(), *projector.parameters(), *predictor.parameters()], 0.01),
        "features": features,
        "labels": torch.arange(400) % 4,
        "test_features": features[:40],
        "test_labels": torch.arange(40) % 4,
        "z": z1,
        "z1": z1,
        "z2": z2,
        "picture": Image.new("RGB", (32, 32)),
        "lightning_module": Module(),
    }


def test_there_are_pages():
    assert len(WITH_PYTHON) >= 10
    assert len(COMMANDS) >= 30


@pytest.mark.filterwarnings("ignore")  # of other people's packages, as Lightning's advice on workers
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_python_of_a_page_runs(page, place, registered, monkeypatch, no_drawing):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [*sys.path])
    names = what_pages_name()
    skipped = []
    for number, (needs, language, block) in enumerate(FENCE.findall(PAGES[page])):
        if language == "bash":
            for line in block.splitlines():
                if line.partition("#")[0].strip() in RUN:
                    assert main(shlex.split(line, comments=True)[1:]) == 0, line
        if language != "python":
            continue
        if needs and importlib.util.find_spec(needs) is None:
            skipped.append(needs)
            continue
        source = doctest.script_from_examples(block) if block.startswith(">>>") else block
        exec(compile(source, f"{page}, block {number}", "exec"), names)
    if skipped:
        pytest.skip(f"all but what needs {', '.join(skipped)} was run")


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_line_can_be_given(page, line, place, monkeypatch):
    monkeypatch.chdir(place)
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line, comments=True) if word != "..."]
    assert _parse(words[words.index("fullrank") + 1 :])


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written():
    """What is read in a clone: each page and the notebook's text, by where it lies."""
    yield ROOT / "README.md", (ROOT / "README.md").read_text()
    for page, text in PAGES.items():
        yield DOCS / page, text
    cells = json.loads((DOCS / "quickstart.ipynb").read_text())["cells"]
    yield DOCS / "quickstart.ipynb", "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


@pytest.mark.parametrize(("page", "text"), [*written()], ids=lambda each: getattr(each, "name", ""))
def test_links_lead_somewhere_in_a_clone(page, text):
    """On a git host pages are read as they are: links are to files of the repository, those to names to the source."""
    links = re.findall(r"(?<!`)\]\(([^)\s]+)\)", text)
    for path, _, name in (link.partition("#") for link in links if not link.startswith(("http", "#"))):
        target = (page.parent / path).resolve()
        assert target.exists(), path
        assert target.is_relative_to(ROOT)
        if target.suffix == ".py":
            defined = name.rpartition(".")[2]
            assert not name or re.search(rf"^ *(?:def|class) {defined}\b", target.read_text(), re.MULTILINE), name
    assert "][fullrank" not in text


def test_what_the_site_fills_in_says_in_a_clone_where_it_is_from(hooks):
    asked = filled = 0
    for page, text in PAGES.items():
        asked += len(re.findall(r"^<!-- (?!needs: )", text, re.MULTILINE))
        for mark in hooks.MARK.finditer(text):
            filled += 1
            sources = [(DOCS / page).parent / each for each in re.findall(r"\]\(([^)]+)\)", mark[0])]
            assert sources, mark[0]
            assert all(each.exists() for each in sources), mark[0]
            if mark[1] != "names":
                continue
            code = "".join(
                file.read_text() for each in sources for file in ([each] if each.is_file() else each.glob("*.py"))
            )
            for name in mark[2].partition(" | ")[0].split()[1:]:
                assert re.search(rf"^ *(?:def|class) {name.rpartition('.')[2]}\b", code, re.MULTILINE), (page, name)
    assert asked == filled >= 30


def test_on_the_site_links_to_names_and_the_notebook_are_links_to_pages(hooks):
    text = "[`rank`](../../src/fullrank/api.py#fullrank.api.rank), [a file](../../src/fullrank/api.py)"
    assert hooks.filled(text).startswith("[`rank`][fullrank.api.rank], [a file](../../src")
    assert hooks.NOTEBOOK.sub(r"](\1.md)", "[Quickstart](../quickstart.ipynb)") == "[Quickstart](../quickstart.md)"


def test_the_tables_of_scores_are_the_registrys(hooks):
    before = hooks.filled(PAGES["measures.md"])
    assert all(f"`{name}`" in before for name in SCORES)
    assert "| [AUC][fullrank.measure.quality.auc] | lower | how early" in before
    register(ScoreKind("toy", "toy of scores", "higher", len, source="Nobody 2026, https://example.org", sees="size"))
    try:
        after = hooks.filled(PAGES["measures.md"])
    finally:
        del SCORES["toy"]
    assert "| toy of scores | higher | size |  |  | [Nobody 2026](https://example.org) | `toy` |" in after
    assert len(after.splitlines()) == len(before.splitlines()) + 1


def test_a_field_is_described_by_the_comment_at_its_declaration(tmp_path):
    griffe = pytest.importorskip("griffe")
    lines = ('"""A class."""', "", "one: int  # the first", "# the second, in", "# two lines", "two: int", "three: int")
    (tmp_path / "made_up.py").write_text("class Fields:\n" + "".join(f"    {line}".rstrip() + "\n" for line in lines))
    extensions = griffe.load_extensions(str(DOCS / "doctests.py"))
    fields = griffe.load("made_up", search_paths=[tmp_path], extensions=extensions)["Fields"]
    wanted = "A class.\n\nAttributes:\n    one: The first.\n    two: The second, in two lines."
    assert fields.docstring.value == wanted
