"""The plan past one machine, against numbers computed by hand."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks/scale.py")
scale = sys.modules["scale"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scale)

ENCODER = scale.Encoder(macs=1e9, parameters=10e6, norms=20, kernels=1000)
MACHINE = scale.Machine(
    decoded=800, cores=10, node=8, image=100e3, disk=1e9, copied=1e10, attained=1e14, memory=1e12, passes=10,
    kernel=1e-5, inside=1e11, between=1e10, latency=1e-4,
)  # fmt: skip


def test_one_gpu_by_hand():
    made = scale.step(ENCODER, MACHINE, 1, kept=False)
    assert made.read == pytest.approx(0.0256)  # 256 x 100 kB at 1 GB/s
    assert made.decode == pytest.approx(0.032)  # 256 / (800 x 10)
    assert made.copy == pytest.approx(0.0077070336)  # 256 x 2 x 150,528 bytes at 10 GB/s
    assert made.views == pytest.approx(0.00308281344)  # four bytes, ten times, at 1 TB/s
    assert made.compute == pytest.approx(0.03072)  # 512 views x 6 GFLOP at 100 TFLOP/s
    assert made.exchange == 0
    assert made.seconds == pytest.approx(0.04150984704)
    assert made.bottleneck == "compute"


def test_sixty_four_gpus_by_hand():
    made = scale.step(ENCODER, MACHINE, 64, kept=False)
    assert made.read == pytest.approx(0.0032)  # eight nodes
    assert made.decode == pytest.approx(0.0005)
    assert made.compute == pytest.approx(0.01)  # 1,000 kernels, where the arithmetic takes 0.48 ms
    assert made.exchange == pytest.approx(0.007875 + 0.008)  # 2 x 63/64 x 40 MB at 10 GB/s, and 80 exchanges of 0.1 ms
    assert made.bottleneck == "exchange"


def test_what_is_kept_is_decoded_once():
    made = scale.step(ENCODER, MACHINE, 8, kept=True)
    assert made.decode == pytest.approx(12_811 / 5_004 / 8_000)  # by each process, for itself
    assert made.copy == 0


def test_few_cores_make_decoding_the_bottleneck():
    made = scale.step(ENCODER, replace(MACHINE, cores=2), 1, kept=False)
    assert made.seconds == made.decode == pytest.approx(0.16)
    assert made.bottleneck == "decode"


def test_hybrid_keeps_its_chunk_for_two_fifths_of_its_steps():
    slow = replace(MACHINE, cores=2)  # decoding decides a streamed step: 0.16 s
    row = next(line for line in scale.orders_table(slow).splitlines() if line.startswith("| hybrid | ResNet-18 "))
    encoder = scale.ENCODERS["ResNet-18"]
    kept = scale.step(encoder, slow, 1, kept=True).seconds
    hours = (200_160 * kept + 300_240 * 0.16) / 3600
    assert row.split(" | ")[2] == f"{hours:.1f} h, ${2 * hours:.0f}"


def test_the_page_has_what_the_script_prints():
    page = (ROOT / "docs/scale.md").read_text()
    assert scale.orders_table(scale.Machine()) in page
    assert scale.table(scale.ENCODERS["ResNet-18"], scale.Machine()) in page
