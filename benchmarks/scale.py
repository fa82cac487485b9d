"""What ImageNet at the paper's scale takes on 1, 8 and 64 GPUs: computed from measured figures and stated assumptions.

    python benchmarks/scale.py                                  # the tables of docs/scale.md
    python benchmarks/scale.py --cores 4 --attained 5e13        # the same with your own figures

Nothing here was run on a GPU. Reading and decoding go on in the background; copy, views, forward and backward pass and
the exchange follow one another, as in this code. So a step takes the longer of the two.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace

BATCH, STEPS, VIEWS = 256, 500_400, 2
"""[Li22] section 5: 100 epochs of 5,004 steps."""
SIZE = 3 * 224 * 224
CHUNK = 12_811
"""Images of a chunk of 1 %, which a single pass sees in 5,004 steps."""
GPUS = (1, 8, 64)
KEPT = {"multiple pass, cumulative, adaptive": 0.0, "single pass": 1.0, "hybrid": 0.4}
"""The share of an order's steps that draw from a chunk that can be kept decoded."""


@dataclass(frozen=True)
class Encoder:
    """An encoder with SimSiam's heads: multiply-adds of one view, parameters, norms, and GPU kernels of a step."""

    macs: float
    parameters: float
    norms: int
    kernels: int


ENCODERS = {
    "ResNet-18": Encoder(1.82e9, 14.9e6, 24, 1_500),
    "ResNet-50": Encoder(4.10e9, 38.2e6, 57, 3_500),
}


@dataclass(frozen=True)
class Machine:
    """Figures of a machine; `decoded` alone is measured, the others are assumptions."""

    decoded: float = 810
    """Images a second and core, decoded and cropped twice: benchmarks/data.py."""
    cores: float = 12
    """Cores that decode, for each GPU (--machine.workers)."""
    node: int = 8
    """GPUs of a node."""
    image: float = 110e3
    """Bytes of an encoded image."""
    disk: float = 2e9
    """Bytes a second that a node reads."""
    copied: float = 2e10
    """Bytes a second from memory to a GPU."""
    attained: float = 8e13
    """Floating point operations a second of a GPU in bf16: a quarter of an A100's peak."""
    memory: float = 1.5e12
    """Bytes a second of a GPU's memory."""
    passes: float = 40
    """Reads and writes of float32 pixels for the random colors and blur of a view."""
    kernel: float = 6e-6
    """Seconds that the CPU needs to start a kernel: a step of few images takes no less."""
    inside: float = 2e11
    """Bytes a second of an exchange within a node."""
    between: float = 2.5e10
    """Bytes a second of an exchange between nodes."""
    latency: float = 3e-5
    """Seconds of an exchange of few bytes."""
    dollars: float = 2.0
    """Of a GPU and hour."""


@dataclass(frozen=True)
class Step:
    """Seconds of the parts of a step."""

    read: float
    decode: float
    copy: float
    views: float
    compute: float
    exchange: float

    @property
    def seconds(self) -> float:
        """What a step takes."""
        return max(self.read, self.decode, self.copy + self.views + self.compute + self.exchange)

    @property
    def bottleneck(self) -> str:
        """The part that decides; forward and backward pass are called compute."""
        longest = max(fields(self), key=lambda part: getattr(self, part.name)).name
        if longest in ("read", "decode") and getattr(self, longest) < self.seconds:
            longest = max(("copy", "views", "compute", "exchange"), key=lambda part: getattr(self, part))
        return longest


def step(encoder: Encoder, machine: Machine, gpus: int, *, kept: bool) -> Step:
    """Return what a step takes.

    Args:
        encoder: What is trained.
        machine: On what.
        gpus: How many.
        kept: Whether each process keeps its chunk decoded, as a single pass can (`--cache chunks`).
    """
    nodes = max(1, gpus // machine.node)
    images = BATCH / gpus
    fresh = CHUNK / (STEPS / 100) if kept else BATCH  # images to read and decode for a step
    pixels = images * VIEWS * SIZE
    operations = images * VIEWS * encoder.macs * 2 * 3  # multiply and add; backward is twice forward
    ring = 2 * (gpus - 1) / gpus * 4 * encoder.parameters / (machine.inside if nodes == 1 else machine.between)
    norms = 2 * VIEWS * encoder.norms * machine.latency  # global batch norm: once forward, once backward
    return Step(
        read=fresh * machine.image / (machine.disk * (1 if kept else nodes)),
        decode=fresh / (machine.decoded * machine.cores * (1 if kept else gpus)),
        copy=0.0 if kept else pixels / machine.copied,
        views=pixels * 4 * machine.passes / machine.memory,
        compute=max(operations / machine.attained, encoder.kernels * machine.kernel),
        exchange=0.0 if gpus == 1 else ring + norms,
    )


def table(encoder: Encoder, machine: Machine) -> str:
    """Return a Markdown table of both ways of reading on each number of GPUs."""
    heads = ("images", "GPUs", *(part.name for part in fields(Step)), "step", "bottleneck")
    rows = [heads, ("---", *["---:"] * 8, "---")]
    for kept, name in ((False, "streamed"), (True, "kept")):
        for gpus in GPUS:
            made = step(encoder, machine, gpus, kept=kept)
            parts = [f"{1e3 * getattr(made, part.name):.1f}" for part in fields(Step)]
            rows.append((name, str(gpus), *parts, f"{1e3 * made.seconds:.1f}", made.bottleneck))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def orders_table(machine: Machine) -> str:
    """Return a Markdown table of the hours and dollars of a run, for each order, encoder and number of GPUs."""
    rows = [("order", "encoder", *(f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPUS)), ("---", "---", *["---:"] * 3)]
    for order, share in KEPT.items():
        for name, encoder in ENCODERS.items():
            cells = []
            for gpus in GPUS:
                kept, streamed = (step(encoder, machine, gpus, kept=kept).seconds for kept in (True, False))
                hours = (share * kept + (1 - share) * streamed) * STEPS / 3600
                cells.append(f"{hours:.1f} h, ${hours * gpus * machine.dollars:.0f}")
            rows.append((order, name, *cells))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for figure in fields(Machine):
        parser.add_argument(f"--{figure.name}", type=float, default=figure.default)
    asked = vars(parser.parse_args())
    machine = replace(Machine(), **{**asked, "node": int(asked["node"])})
    print(f"a run of {STEPS:,} steps\n\n{orders_table(machine)}\n")
    for name, encoder in ENCODERS.items():
        print(f"{name}, milliseconds of a step of {BATCH} images\n\n{table(encoder, machine)}\n")


if __name__ == "__main__":
    main()
