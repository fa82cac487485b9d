"""What all tests share: one thread, and the real images that lie beside a checkout."""

import os
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

# Equal numbers of threads give equal bits, and two test processes do not fight for two cores.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images and published spectra: `$FULLRANK_SHARED/data`, or `shared/data` beside the repository."""
    root = Path(os.environ.get("FULLRANK_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    data = root / "data"
    if not data.is_dir():
        pytest.skip(f"no shared data at {data}: set FULLRANK_SHARED")
    return data


@pytest.fixture
def no_drawing(monkeypatch):
    """Figures are made and not drawn: that takes most of the time of a page, and of a short run that ends with one."""
    draw_nothing(monkeypatch)


def draw_nothing(patch):
    patch.setattr(Figure, "savefig", lambda figure, file, **options: file.write('<svg viewBox="0 0 1 1"></svg>'))


@pytest.fixture(scope="session")
def published_spectra(shared_data: Path) -> dict[int, list[float]]:
    """The singular values of Li et al.'s six ResNet-18 models, by the percentage of ImageNet they saw."""
    path = shared_data / "published_spectra" / "simsiam_resnet18_imagenet.csv"
    if not path.is_file():
        pytest.skip(f"no published spectra at {path}")
    header, *rows = [line.split(",") for line in path.read_text().split()]
    return {
        int(name.removeprefix("percent_")): [float(row[i]) for row in rows] for i, name in enumerate(header) if i > 0
    }
