"""What all tests share: one thread, and the real images that lie beside a checkout."""

import os
from pathlib import Path

import pytest
import torch

# Equal numbers of threads give equal bits, and two test processes do not fight for two cores.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images and published spectra, beside the checkout or where FULLRANK_SHARED says."""
    root = Path(os.environ.get("FULLRANK_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"no shared data at {root}")
    return root / "data"
