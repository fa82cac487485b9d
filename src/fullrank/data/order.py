"""Orders: which images does step `s` see?

An order is an immutable sequence of `steps` global batches. `order[s]` is computed from `(seed, s)` alone: it does not
matter what was asked before, so a run resumes by asking for the next step, and any number of processes agree.

The four orders are those of Li, Efros & Pathak, "Understanding Collapse in Non-Contrastive Siamese Representation
Learning" (ECCV 2022, https://arxiv.org/abs/2209.15007), section 4, compared at equal numbers of gradient steps:

| order          | the images that step `s` may draw from                                        |
|----------------|-------------------------------------------------------------------------------|
| `MultiplePass` | all of them, pass after pass                                                  |
| `SinglePass`   | chunk `c` of `C`, seen many times in a row and never again                    |
| `Cumulative`   | chunks `0..c`                                                                 |
| `Hybrid`       | as `SinglePass` before the switch, as `MultiplePass` from the switch on       |

A fifth is ours: `Adaptive` goes between a chunk and all images as the measured spectrum says.

One permutation of the images, fixed by the seed, decides when each arrives; chunks are its consecutive pieces, and
each chunk gets an equal share of the steps. Within a pool, images come in reshuffled passes. The remainder of a pass
that does not fill a batch is dropped (a different one each pass), so no batch straddles two passes and no image
appears twice in one. Nothing about the model is reset at a chunk boundary,
unless a run asks for it (`TrainConfig.reset_momentum`, `reset_statistics`).

An order of your own is a subclass of `Order` that says which `Segment` a step lies in. `@register_order("mine")` names
it.
"""

from __future__ import annotations

import dataclasses
import operator
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler

from fullrank.data.randomness import Purpose, check_seed, permutation
from fullrank.errors import FullrankError, nearest
from fullrank.registry import ORDERS, register_order

__all__ = ["ORDERS", "Adaptive", "Cumulative", "Hybrid", "MultiplePass", "Order", "OrderSampler", "Segment"]
__all__ += ["SinglePass", "register_order", "subset"]


def _whole(name: str, value: object, low: int = 1) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise FullrankError(f"{name} must be a whole number of at least {low}, got {value!r}")


def _share(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) <= 1


@dataclass(frozen=True)
class Segment:
    """Consecutive steps that draw from one pool of images."""

    first: int  # the first step
    stop: int  # the step after the last
    lo: int  # the pool is arrival[lo:hi], a piece of the arrival permutation
    hi: int
    stream: int  # which stream of shuffles the passes use; unique to the segment within its order
    origin: int  # the step at which pass 0 of the stream began; it lies before `first` where a segment joins one


class _Seeded(ABC):
    seed: int


@dataclass(frozen=True)
class Order(_Seeded):
    """A sequence of global batches of image indices.

    A subclass ends with a field `seed`, which decides the arrival permutation and all shuffles.

    Raises:
        FullrankError: A number is out of its range, or the numbers do not fit each other.
    """

    name: ClassVar[str]  # what it is registered as
    size: int  # the number of images
    batch_size: int  # the images of one step, over all processes
    steps: int  # the number of gradient steps, `len(order)`

    def __post_init__(self) -> None:
        for name in ("size", "batch_size", "steps"):
            _whole(name, getattr(self, name))
        check_seed(self.seed)
        if self.batch_size > self.size:
            what = f"batch_size={self.batch_size} is larger than the {self.size} images there are"
            raise FullrankError(f"{what}, and an image appears once in a batch: use a smaller batch or more images")

    @abstractmethod
    def segment(self, step: int) -> Segment:
        """Return the stretch of steps that contains `step` (in `[0, steps)`)."""

    def after(self, step: int, scores: Mapping[str, float]) -> Order:
        """Return the order to go on with, now that `scores` were measured after `step` steps.

        This very order, unless it is one that adapts; then another that agrees with it on all steps before `step`.
        """
        return self

    @property
    def learned(self) -> dict[str, Any]:
        """What measurements have made of it: the fields that a checkpoint keeps."""
        names = [each.name for each in dataclasses.fields(self) if "learned" in each.metadata]
        return {name: getattr(self, name) for name in names}

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Tensor:
        """Return the image indices of one step, `(batch_size,)` int64.

        The first step of a pass shuffles its pool, O(pool log pool); every other is O(batch_size).

        Raises:
            IndexError: `step` is outside `[-steps, steps)`.
            TypeError: It is no whole number.
            FullrankError: The order gives a segment that is none of its images.
        """
        step = self._check_step(step)
        segment = self.segment(step)
        if not (segment.lo >= 0 and segment.lo + self.batch_size <= segment.hi <= self.size and segment.origin <= step):
            raise FullrankError(
                f"{type(self).__name__} gives {segment} for step {step}: of {self.size} images it takes "
                f"0 <= lo < hi <= {self.size} with a batch of {self.batch_size} between, and origin <= {step}"
            )
        passes, batch = divmod(step - segment.origin, (segment.hi - segment.lo) // self.batch_size)
        shuffled = _shuffled_pass(self.seed, self.size, segment.lo, segment.hi, segment.stream, passes)
        # a copy, so that nobody can write into the kept pass
        return torch.from_numpy(shuffled[batch * self.batch_size : (batch + 1) * self.batch_size].copy())

    def __iter__(self) -> Iterator[Tensor]:
        return (self[step] for step in range(self.steps))

    def pool(self, step: int) -> Tensor:
        """Return the ascending indices of all images that `step` may draw from, `(pool,)` int64."""
        segment = self.segment(self._check_step(step))
        return torch.from_numpy(np.sort(_arrival(self.seed, self.size)[segment.lo : segment.hi]))

    def span(self, step: int) -> range:
        """Return the steps that share the pool of `step`: a loader may keep that pool until `span(step).stop`."""
        segment = self.segment(self._check_step(step))
        return range(segment.first, segment.stop)

    def keeps(self, step: int) -> bool:
        """Whether a loader that keeps the pool in use decoded keeps that of `step`; else it streams from there on."""
        return True

    def _check_step(self, step: int) -> int:
        step = operator.index(step)
        if not -self.steps <= step < self.steps:
            raise IndexError(f"step {step} is outside an order of {self.steps} steps")
        return step % self.steps


@register_order("multiple-pass")
@dataclass(frozen=True)
class MultiplePass(Order):
    """Show all images in reshuffled passes: the usual "epochs".

    >>> order = MultiplePass(size=10, batch_size=4, steps=5)
    >>> len(order), order[0].shape, sorted(order.pool(3).tolist()) == list(range(10))
    (5, torch.Size([4]), True)
    """

    seed: int = 0

    def segment(self, step: int) -> Segment:
        """Return the one segment there is: all steps, all images."""
        return Segment(0, self.steps, 0, self.size, stream=0, origin=0)


@dataclass(frozen=True)
class _Chunked(Order):
    """What the orders in chunks share: equal chunks of the arrival permutation, equal shares of the steps."""

    chunks: int = 100

    def chunk(self, step: int) -> int:
        """Return the chunk of a step: the c with `c * steps // chunks <= step < (c + 1) * steps // chunks`."""
        return self._visit(step) % self.chunks

    def segment(self, step: int) -> Segment:
        """Return the segment of the step's visit to its chunk."""
        visit, visits, chunk = self._visit(step), self._visits, self.chunk(step)
        first, stop = visit * self.steps // visits, (visit + 1) * self.steps // visits
        lo, hi = chunk * self.size // self.chunks, (chunk + 1) * self.size // self.chunks
        return Segment(first, stop, lo, hi, stream=1 + visit, origin=first)

    def _visit(self, step: int) -> int:
        return ((step + 1) * self._visits - 1) // self.steps

    @property
    def _visits(self) -> int:
        return self.chunks * getattr(self, "rounds", 1)  # those of `SinglePass`

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole("chunks", self.chunks)
        smallest = self.size // self.chunks
        if smallest < self.batch_size:
            what = f"chunks={self.chunks} cuts {self.size} images into chunks of {smallest}"
            do = f"chunks <= {self.size // self.batch_size}" + (f" or batch_size <= {smallest}" if smallest else "")
            raise FullrankError(f"{what}, smaller than batch_size={self.batch_size}: use {do}")
        if self.steps < self.chunks:
            what = f"steps={self.steps} leaves some of chunks={self.chunks} without a step"
            raise FullrankError(f"{what}: use chunks <= {self.steps}")


@register_order("single-pass")
@dataclass(frozen=True)
class SinglePass(_Chunked):
    """Show the images chunk by chunk, each chunk in as many reshuffled passes as its share of the steps holds.

    "Single pass" is over the chunks: an image is seen many times while its chunk lasts, and never after.
    """

    seed: int = 0
    # how often the chunks are gone through, each time in the same order and with an equal share of the steps, so that
    # the passes over a chunk are spread over so many visits; [Li22]: 1 (their code has a switch for more)
    rounds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole("rounds", self.rounds)
        if self.steps < self.chunks * self.rounds:
            visits = f"some visits to a chunk, {self.chunks} in each of {self.rounds} rounds, without a step"
            raise FullrankError(f"steps={self.steps} leaves {visits}: use rounds <= {self.steps // self.chunks}")


@register_order("cumulative")
@dataclass(frozen=True)
class Cumulative(_Chunked):
    """Show all images that have arrived so far: the pool grows by a chunk at each boundary."""

    seed: int = 0

    def segment(self, step: int) -> Segment:
        """Return the segment in which the step's chunk is the newest."""
        return dataclasses.replace(super().segment(step), lo=0)


@register_order("hybrid")
@dataclass(frozen=True)
class Hybrid(_Chunked):
    """Run `SinglePass` up to the switch, then `MultiplePass` over all images, chunks never visited included.

    From the switch on, `hybrid[s]` equals `MultiplePass(...)[s]` of the same seed, and before it `SinglePass(...)[s]`:
    the same as resuming a multiple-pass run from a single-pass checkpoint, which is how [Li22] made it.
    """

    switch: float = 0.4  # the share of steps after which it switches; [Li22]: 0.4 on ImageNet, 0.6 on Places365
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _share(self.switch):
            raise FullrankError(f"switch must be a share of the steps, from 0 to 1, got {self.switch!r}")

    @property
    def switch_step(self) -> int:
        """The first step of the multiple-pass part."""
        return round(self.switch * self.steps)

    def keeps(self, step: int) -> bool:
        """Whether `step` lies before the switch, after which the pool is the whole set."""
        return step < self.switch_step

    def segment(self, step: int) -> Segment:
        """Return the step's chunk, cut off at the switch, or the multiple-pass part."""
        if step >= self.switch_step:
            return Segment(self.switch_step, self.steps, 0, self.size, stream=0, origin=0)
        segment = super().segment(step)
        return dataclasses.replace(segment, stop=min(segment.stop, self.switch_step))


@register_order("adaptive")
@dataclass(frozen=True)
class Adaptive(_Chunked):
    """Show all images while the spectrum flattens, and a chunk at a time while it steepens: ours, not of a paper.

    It begins as `SinglePass`. Whenever AUC is measured, it goes by what AUC did since the measurement before: where it
    fell, as `MultiplePass`; where it rose, as `SinglePass`, with the chunk whose turn it is by then. No label and no
    held-out image is used.

    >>> order = Adaptive(size=100, batch_size=10, steps=50, chunks=5)
    >>> order = order.after(0, {"auc": 0.9}).after(20, {"auc": 0.8}).after(30, {"auc": 0.85})
    >>> order.turns, [len(order.pool(step)) for step in (19, 20, 29, 30)]
    ((20, 30), [20, 100, 100, 20])
    """

    # the steps at which it went from a chunk to all images, or back, ascending; the first is to all images
    turns: tuple[int, ...] = field(default=(), metadata={"learned": True})
    # the AUC that was measured last, None before the first
    auc: float | None = field(default=None, metadata={"learned": True})
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "turns", tuple(self.turns))  # a checkpoint may give a list
        if any(not isinstance(step, int) for step in self.turns) or sorted(set(self.turns)) != list(self.turns):
            raise FullrankError(f"turns must be ascending steps, got {self.turns!r}")

    def segment(self, step: int) -> Segment:
        """Return the step's chunk or all images, from the turn before to the one after."""
        before = bisect_right(self.turns, step)
        first, stop = (0, *self.turns, self.steps)[before : before + 2]
        if before % 2:
            return Segment(first, stop, 0, self.size, stream=0, origin=0)
        chunk = super().segment(step)
        return dataclasses.replace(chunk, first=max(first, chunk.first), stop=min(stop, chunk.stop))

    def after(self, step: int, scores: Mapping[str, float]) -> Adaptive:
        """Return the order that goes by the AUC measured after `step` steps; without an AUC, this one."""
        if "auc" not in scores:
            return self
        if self.turns and step < self.turns[-1]:
            raise FullrankError(f"the order turned at step {self.turns[-1]}, and scores are of step {step}, before it")
        auc, all_images = scores["auc"], len(self.turns) % 2 == 1
        turn = self.auc is not None and auc != self.auc and (auc < self.auc) != all_images and step < self.steps
        return dataclasses.replace(self, turns=(*self.turns, step) if turn else self.turns, auc=auc)


def open_order(
    name: str, size: int, batch_size: int, steps: int, seed: int, usual: Mapping[str, Any], options: Mapping[str, Any]
) -> Order:
    """Build a registered order, with those of the `usual` settings that it has, and with all of the `options`."""
    order = ORDERS[name]
    fields = (each.name for each in dataclasses.fields(order) if "learned" not in each.metadata)
    own = [name for name in fields if name not in ("size", "batch_size", "steps", "seed")]
    for option in options:
        if option not in own:
            known = f"it has {', '.join(own)}" if own else "it has none"
            raise FullrankError(f"order={name} has no option {option!r}{nearest(option, own)} ({known})")
    taken = {option: value for option, value in usual.items() if option in own}
    return order(size, batch_size, steps, seed=seed, **(taken | dict(options)))  # type: ignore[call-arg]


def subset(size: int, fraction: float, seed: int = 0) -> Tensor:
    """Choose a share of the images; with one seed, smaller subsets lie inside larger ones.

    As in [Li22] (Fig. 2), the subset is the tail of the arrival permutation.

    Returns the indices of `round(size * fraction)` images, at least 1, ascending, `(kept,)` int64.

    Raises:
        FullrankError: `fraction` is not in (0, 1], or `size` is below 1.
    """
    _whole("size", size)
    if not _share(fraction) or fraction == 0:
        raise FullrankError(f"subset must be a share of the images in (0, 1], got {fraction!r} (5 % is 0.05)")
    check_seed(seed)
    kept = max(1, round(size * fraction))
    return torch.from_numpy(np.sort(_arrival(seed, size)[size - kept :]))


class OrderSampler(Sampler[list[int]]):
    """Make an order the `batch_sampler` of anybody's `DataLoader`.

    Each walk over the sampler is the whole run from `start` on, `len(sampler)` steps, however often it is walked and
    whatever was looked at before: give Lightning `max_epochs=1` or `max_steps=len(order)`. With several processes,
    each gets its contiguous piece of every global batch; they are those of torch's default process group at the time of
    the walk, unless `rank` and `world_size` say otherwise.

    A `DataLoader` with workers asks ahead of what it has returned, so the sampler cannot know what the loop has
    consumed; `state_dict()["step"]` counts what the newest walk handed out, exact without workers. To resume exactly:

    - count your own steps: `OrderSampler(order, start=step)`, or `load_state_dict({"step": step})`;
    - torchdata's `StatefulDataLoader(dataset, batch_sampler=sampler)` counts them itself, with workers too;
    - Lightning does the same with a `StatefulDataLoader`. To `fit(..., ckpt_path=...)` with a plain `DataLoader` give
      `iter(loader)` of `start=step` and `max_steps=len(order)`: it takes a loader of known length to be at its batch 0.

    Args:
        order: The order to follow.
        start: The first step to give.
        rank: This process, in `[0, world_size)`; give both or neither.
        world_size: The number of processes; it must divide the order's batch size.

    Raises:
        FullrankError: `start`, `rank` or `world_size` does not fit, here or when it is walked.

    >>> sampler = OrderSampler(MultiplePass(size=6, batch_size=2, steps=3))
    >>> [len(batch) for batch in sampler]
    [2, 2, 2]
    """

    _newest: _Walk | None  # whose steps `state_dict` counts
    _given: tuple[int, int] | None

    def __init__(self, order: Order, *, start: int = 0, rank: int | None = None, world_size: int | None = None) -> None:
        if not isinstance(order, Order):
            raise FullrankError(f"order must be an order, such as MultiplePass(size, batch_size, steps), got {order!r}")
        self.order, self._given = order, None
        if rank is not None and world_size is not None:
            _whole("rank", rank, 0)
            _whole("world_size", world_size)
            self._given = rank, world_size
        elif (rank, world_size) != (None, None):
            what = f"rank={rank}, world_size={world_size}"
            raise FullrankError(f"{what}: give both, or neither for those of torch's process group")
        self.place()
        self.load_state_dict({"step": start})

    def place(self) -> tuple[int, int]:
        """Return this process and the number of processes."""
        if self._given is not None:
            rank, world_size = self._given
        elif dist.is_available() and dist.is_initialized():
            rank, world_size = dist.get_rank(), dist.get_world_size()
        else:
            return 0, 1
        if self.order.batch_size % world_size:
            what = f"batch_size={self.order.batch_size} does not divide over world_size={world_size} processes"
            raise FullrankError(f"{what}: use a multiple")
        if rank >= world_size:
            raise FullrankError(f"rank must be in [0, {world_size}), got {rank}")
        return rank, world_size

    def __len__(self) -> int:
        return len(self.order) - self.start  # of the whole walk: it does not shrink while a loader reads ahead

    def __iter__(self) -> Iterator[list[int]]:
        self._newest = walk = _Walk(self)
        return walk

    def state_dict(self) -> dict[str, Any]:
        """Return the next step to give, as plain numbers."""
        return {"step": self.start if self._newest is None else self._newest.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` returned."""
        self.start = self._checked(state.get("step"))
        self._newest = None

    def _checked(self, step: Any) -> int:
        if not isinstance(step, (int, np.integer)) or isinstance(step, bool) or not 0 <= step <= len(self.order):
            raise FullrankError(f"step must be in [0, {len(self.order)}], got {step!r}")
        return int(step)


class _Walk(Iterator[list[int]]):
    """One walk over an `OrderSampler`.

    It has a state of its own: torchdata's `StatefulDataLoader` loads the sampler's first and then this one, which
    leaves the next walk, and so the sampler's length, as they were before.
    """

    def __init__(self, sampler: OrderSampler) -> None:
        self.sampler, self.step = sampler, sampler.start

    def __next__(self) -> list[int]:
        order = self.sampler.order
        if self.step >= len(order):
            raise StopIteration
        rank, world_size = self.sampler.place()
        share = order.batch_size // world_size
        self.step += 1
        return order[self.step - 1][rank * share : (rank + 1) * share].tolist()

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "start": self.sampler.start}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.sampler.start = (self.sampler._checked(state.get(key)) for key in ("step", "start"))


# Kept across orders by value: a few passes cost 8 bytes an image each (10 MB for ImageNet).
@lru_cache(maxsize=4)
def _arrival(seed: int, size: int) -> npt.NDArray[np.int64]:
    return permutation(seed, Purpose.ARRIVAL, 0, 0, size)


@lru_cache(maxsize=4)
def _shuffled_pass(seed: int, size: int, lo: int, hi: int, stream: int, passes: int) -> npt.NDArray[np.int64]:
    return _arrival(seed, size)[lo:hi][permutation(seed, Purpose.PASS, stream, passes, hi - lo)]
