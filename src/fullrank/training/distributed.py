"""Several processes that train one run, as torchrun starts them.

    torchrun --nproc-per-node 8 -m fullrank train ...                                          # one node of 8 GPUs
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
        -m fullrank train ...                                                                  # on each of two nodes

Each process computes its contiguous piece of the global batch. Batch norm uses statistics of the global batch
(`fullrank.models.batchnorm`), gradients are averaged, and a method's loss is such that the mean over processes of its
gradients is the gradient of one process with the whole batch. So the number of processes changes a run by rounding
only, and by the random numbers inside a model (dropout), of which each process has its own.

The first process is the main one: it alone reads and writes the run's folder, measures and prints. What one process
raises in a block that they run together, all raise, so that none waits for one that is gone.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn  # imported while there is a default group, it would keep that group: see `processes`
from torch import Tensor, nn

from fullrank.errors import FullrankError, OtherProcessError, env_count

T = TypeVar("T")

BUCKET = 25 * 2**20  # bytes of gradients that are sent together, as in DistributedDataParallel
PATIENCE = timedelta(days=1)
"""How long processes wait for the main one to download, measure or write; that one has died they see at once."""


@dataclass
class World:
    """The processes of a run, seen from one of them."""

    rank: int = 0  # which one this is, from 0, the main one
    size: int = 1  # how many there are
    local_rank: int = 0  # which of its machine's this is
    local_size: int = 1  # how many this machine has
    # the group in which they talk about the run, on the CPU whatever the device; None for one process
    control: Any = None

    @property
    def main(self) -> bool:
        """Whether this is the process that reads, writes, measures and prints."""
        return self.rank == 0

    @contextmanager
    def raise_together(self) -> Iterator[None]:
        """Run a block on all processes; what it raises on one, all raise at its end.

        The error is the main process's own, or a `FullrankError` there that names the process; the others raise
        `OtherProcessError`, or their own if it is one that nobody expected. The block must not talk to other
        processes after what may fail on one of them.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as raised:
            if self.size == 1:
                raise
            error = raised
        if not self.all_reduce_max(int(error is not None)):
            return
        text = str(error) if isinstance(error, FullrankError) else f"{type(error).__name__}: {error}"
        texts = self.all_gather_object(None if error is None else text)
        if error is not None and (self.main or not isinstance(error, (FullrankError, OSError))):
            raise error
        rank, text = next((rank, text) for rank, text in enumerate(texts) if text is not None)
        if self.main:
            raise FullrankError(f"process {rank} of {self.size}: {text}")
        raise OtherProcessError(text) from error

    def on_main(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on the main process while the others wait; return what it returns, pickled, on all."""
        if self.size == 1:
            return function(*arguments)
        box: list[Any] = [None]
        with self.raise_together():
            if self.main:
                box = [function(*arguments)]
        own = box[0]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return own if self.main else box[0]

    @contextmanager
    def first_on_machine(self) -> Iterator[None]:
        """Run a block on the first process of each machine, and then on its others: what it fetches is fetched once."""
        if self.size > 1 and self.local_rank > 0:
            dist.barrier(group=self.control)
        try:
            yield
        finally:
            if self.size > 1 and self.local_rank == 0:
                dist.barrier(group=self.control)

    def once_a_machine(self, function: Callable[[], T]) -> T:
        """Call a function on the first process of each machine; return what it returns on all of that machine."""
        if self.size == 1:
            return function()
        found: Any = None
        with self.raise_together():
            if self.local_rank == 0:
                found = function()
        return self.all_gather_object(found)[self.rank - self.local_rank]  # a machine's processes follow each other

    def said_once(self) -> AbstractContextManager[Any]:
        """Let the main process alone write to stderr in a block, where all would say the same."""
        return nullcontext() if self.main else redirect_stderr(io.StringIO())

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """Give each item when all processes have theirs; what making one raises on one process, all raise."""
        iterator = iter(items)
        while True:
            with self.raise_together():
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def all_gather_object(self, value: T) -> list[T]:
        """Return each process's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def all_reduce_max(self, number: int) -> int:
        """Return the largest of the processes' numbers."""
        if self.size == 1:
            return number
        numbers = torch.tensor([number])
        dist.all_reduce(numbers, dist.ReduceOp.MAX, group=self.control)
        return int(numbers)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over processes of a tensor, in float64 and without gradient; alone, the tensor itself."""
        if self.size == 1:
            return value
        total = value.detach().double().clone()
        dist.all_reduce(total)
        return total / self.size

    def collect(self, rows: Tensor) -> Tensor:
        """Return on the main process the rows of all, of the CPU and of any numbers, by rank; on others their own."""
        if self.size == 1:
            return rows
        shapes = self.all_gather_object(rows.shape)
        if not self.main:
            if len(rows):
                dist.send(rows.contiguous(), 0, group=self.control)
            return rows
        pieces = [rows]
        for rank, shape in enumerate(shapes):
            if rank and shape[0]:
                pieces.append(rows.new_empty(shape))
                dist.recv(pieces[-1], rank, group=self.control)
        return torch.cat(pieces)


class Gradients:
    """Averages the gradients of a module, on its device, over processes, while the backward pass still computes others.

    They are sent in buckets from the last parameters to the first, about as they become known; each bucket when it and
    all before it are complete. The layout follows from the module alone, for from three processes on the order in which
    numbers are added, and so the last bits, depend on it: DistributedDataParallel lays them out anew after the first
    step of a process, and a resumed run would leave the uninterrupted one.

    Parameters may lack a gradient, in all processes alike, as some encoders' do; their bucket and those behind it are
    then sent after the backward pass.
    """

    def __init__(self, module: nn.Module, world: World) -> None:
        self.size = world.size
        self._buckets: list[list[nn.Parameter]] = []
        self._sent: list[tuple[list[Tensor], Tensor, Any]] = []
        if self.size == 1:
            return
        for parameter in reversed([p for p in module.parameters() if p.requires_grad]):
            bucket = [*(self._buckets[-1] if self._buckets else []), parameter]
            if not self._buckets or sum(p.nbytes for p in bucket) > BUCKET or bucket[0].dtype != parameter.dtype:
                self._buckets.append([])
            self._buckets[-1].append(parameter)
            parameter.register_post_accumulate_grad_hook(partial(self._known, len(self._buckets) - 1))
        self._lacking = [len(bucket) for bucket in self._buckets]

    def _known(self, bucket: int, _: Tensor) -> None:
        self._lacking[bucket] -= 1
        while len(self._sent) < len(self._buckets) and not self._lacking[len(self._sent)]:
            self._send()

    def _send(self) -> None:
        gradients = [p.grad for p in self._buckets[len(self._sent)] if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients]) if gradients else torch.empty(0)
        self._sent.append((gradients, flat, dist.all_reduce(flat, async_op=True) if gradients else None))

    def average(self) -> None:
        """Replace each gradient by its mean over processes, after the backward pass."""
        while len(self._sent) < len(self._buckets):
            self._send()
        for gradients, flat, sending in self._sent:
            if sending is not None:
                sending.wait()
                flat /= self.size
                for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                    gradient.copy_(mean.view_as(gradient))
        self._sent, self._lacking = [], [len(bucket) for bucket in self._buckets]


ALONE = World()
_current: World | None = None


@contextmanager
def processes() -> Iterator[World]:
    """Join the processes that torchrun started, for the length of a block; alone where it started none.

    Within another such block, or in a program that has set up torch.distributed itself, it joins those that are there.
    """
    global _current
    if _current is not None:
        yield _current
        return
    joined = dist.is_available() and dist.is_initialized()
    if not joined and env_count("WORLD_SIZE", 1) <= 1:
        yield ALONE
        return
    if not joined:
        missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
        if missing:
            raise FullrankError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']} says that there are other processes, but {', '.join(missing)} "
                "not how to find them: start with torchrun, or unset WORLD_SIZE"
            )
        # by device; the second is started when the first CUDA tensor is exchanged
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    _current = World(rank, size, env_count("LOCAL_RANK", rank), env_count("LOCAL_WORLD_SIZE", size))
    if size > 1:
        _current.control = dist.new_group(backend="gloo", timeout=PATIENCE)
    in_order = True
    try:
        yield _current
    except (FullrankError, OSError):  # raised by all
        raise
    except BaseException:
        in_order = False  # leaving waits for the others, who do not: torchrun ends them
        raise
    finally:
        # Groups and their threads end with the last reference, and may abort a program that ends first: some libraries
        # keep tracebacks, and with them this object.
        if in_order:
            _current.control = None
            if not joined:
                dist.destroy_process_group()
        _current = None
