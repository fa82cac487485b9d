"""Frozen means frozen: the bits of an encoder before and after it was looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fullrank.errors import FullrankError

_SHOWN = 3


def fingerprints(module: nn.Module) -> dict[str, str]:
    """Return a hash of every parameter and every buffer, also of those that a state dict leaves out."""
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: _digest(value) for name, value in named}


def fingerprint(module: nn.Module) -> str:
    """Return one hash of all parameters and buffers with their names: equal for equal networks, wherever they lie."""
    hashed = hashlib.sha256()
    for name, digest in sorted(fingerprints(module).items()):
        hashed.update(f"{name}={digest};".encode())
    return hashed.hexdigest()[:16]


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Check that a block leaves every parameter and buffer of a module as it was.

    Raises:
        FullrankError: It did not; the scores that it took are of no one encoder.
    """
    before = fingerprints(module)
    yield
    after = fingerprints(module)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        shown = ", ".join(changed[:_SHOWN]) + (", ..." if len(changed) > _SHOWN else "")
        raise FullrankError(
            f"the encoder changed while it was probed, in {len(changed)} of {len(after)} parameters and buffers "
            f"({shown}): a frozen one keeps its bits; use an encoder whose forward pass writes nothing in eval mode"
        )


def _digest(value: Tensor) -> str:
    flat = value.detach().cpu().contiguous().reshape(-1)
    described = f"{value.dtype} {tuple(value.shape)}".encode()
    return hashlib.sha256(described + flat.view(torch.uint8).numpy().tobytes()).hexdigest()
