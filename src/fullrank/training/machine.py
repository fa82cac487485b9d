"""What the machine is and how a run uses it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from fullrank._version import __version__
from fullrank.config import MachineConfig
from fullrank.errors import FullrankError
from fullrank.training.distributed import ALONE, World


def choose_device(name: str, world: World = ALONE) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` means; each process of a machine has its own GPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise FullrankError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise FullrankError(f"device {name!r} is not supported: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise FullrankError(f"there is no {name} here ({torch.cuda.device_count()} GPUs): use the device cpu")
    if device.type == "cpu" or world.size == 1:
        return device
    if world.local_size == 1:  # one process on each of several machines: they exchange by a GPU of a number
        return device if device.index is not None else torch.device("cuda", world.local_rank)
    if device.index is not None:
        raise FullrankError(
            f"{world.local_size} processes cannot share {name}: --machine.device cuda gives each a GPU of its own"
        )
    if world.local_size > torch.cuda.device_count():
        raise FullrankError(
            f"{world.local_size} processes were started on a machine of {torch.cuda.device_count()} GPUs: start "
            f"torchrun with --nproc-per-node {torch.cuda.device_count()}, or use --machine.device cpu"
        )
    return torch.device("cuda", world.local_rank)


def choose_precision(config: MachineConfig, device: torch.device) -> Literal["bf16", "float32"]:
    """Return `bf16` or `float32`; `auto` takes bf16 where the hardware multiplies it natively.

    It is a property of the hardware and not a timing, so that equal commands on equal machines give equal runs.
    """
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        return "bf16" if _ampere(device) else "float32"
    natively = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return "bf16" if any(getattr(torch.cpu, name, lambda: False)() for name in natively) else "float32"


def _ampere(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def float32_on(device: torch.device) -> str:
    """Name what float32 is on a device: cuDNN rounds the factors of convolutions to TF32 unless told otherwise."""
    return "float32 (TF32 in convolutions)" if _ampere(device) and torch.backends.cudnn.allow_tf32 else "float32"


def compiled(model: nn.Module, device: torch.device) -> Callable[..., Any]:
    """Compile a model by torch.compile, and on a GPU record its kernels as CUDA graphs where its shapes allow.

    Results change by rounding. What the model returns is overwritten by its next call there.
    """
    function = torch.compile(model, mode="reduce-overhead" if device.type == "cuda" else None)

    def call(*inputs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        try:
            return function(*inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split())[:200]
            raise FullrankError(f"the model cannot be compiled: {reason}; leave out --machine.compile") from error

    return call


def environment(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Return the versions and hardware that a run's numbers belong to; the hardware is the main process's."""
    found: dict[str, Any] = {"fullrank": __version__, "python": platform.python_version(), "system": platform.system()}
    found |= {name: importlib.metadata.version(name) for name in ("torchvision", "timm", "numpy")}
    found |= {
        "torch": str(torch.__version__),  # says which CUDA it was built for, too
        "device": device.type if processes > 1 else str(device),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "processes": processes,
    }
    return found | ({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
