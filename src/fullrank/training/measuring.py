"""What is measured at intervals while training: the spectrum, the loss on held-out images, and k-NN.

All measurements use the encoder in eval mode, in float32, and leave training as it was.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fullrank.config import TrainConfig
from fullrank.data import views
from fullrank.data.eval_images import load_for_eval, view_blocks
from fullrank.data.images import SAMPLED, SEEN, Images, UnreadableImageError, sample
from fullrank.errors import FullrankError
from fullrank.measure.probes import knn_accuracy, knn_protocol
from fullrank.measure.scores import SCORES, take
from fullrank.measure.spectrum import Spectrum, spectrum
from fullrank.models.encoder import Encoder, Preprocessing
from fullrank.models.memory_format import choose_memory_format
from fullrank.models.methods import METHODS, Method
from fullrank.training.machine import float32_on
from fullrank.training.online_probe import OnlineProbe

if TYPE_CHECKING:
    from fullrank.training.setup import Data

HELD_OUT_SEED = 0
"""Held-out views are the same in every run, whatever its seed, so that held-out losses can be compared."""
HELD_OUT_STEP = 2**62
"""Their place in the stream of random views, which no training step reaches."""

_BATCH = 256


class _Labeled(NamedTuple):
    """What accuracies are measured on: the images of the spectrum, and held-out ones, that have a label."""

    voters: Tensor  # which of the images of the spectrum have one, (n,) bool
    voters_labels: Tensor
    queries: Tensor  # (m, 3, S, S) uint8
    labels: Tensor  # (m,)
    strange: int  # how many queries are of a class that no training image has


class Measurer:
    """Holds the images that are measured on, and measures."""

    def __init__(self, config: TrainConfig, data: Data, device: torch.device, probe: OnlineProbe | None = None) -> None:
        self.config = config
        self.data = data
        self.device = device
        self.probe = probe
        self.skipped: set[str] = set()  # the names of images that could not be decoded
        self.failed: dict[str, str] = {}  # why monitored scores could not be taken at some step
        self._across = METHODS[config.method].across_images
        chosen, self._sample = self._choose(data.measured)
        self.train, chosen = load_for_eval(data.measured, chosen, data.image_size, self._skip)
        self.pairs: tuple[Tensor, Tensor] | None = None
        self._labeled: _Labeled | None = None
        if data.held_out is not None:
            indices, self._held_out_sample = self._choose(data.held_out)
            self.pairs = self._load_pairs(data.held_out, indices)
            if data.seen:
                print(f"the held-out images {SEEN}: no accuracy is measured", file=sys.stderr)
            elif data.held_out.labels is not None and data.measured.labels is not None:
                queries, indices = load_for_eval(data.held_out, indices, data.image_size, self._skip)
                self._labeled = self._tell_apart(
                    data.measured.labels, data.measured.labels[chosen], queries, data.held_out.labels[indices]
                )

    def _choose(self, images: Images) -> tuple[Tensor, dict[str, str]]:
        """Choose images to measure on, with a label where some have one; say how where they are not all.

        Those without a label cannot vote in k-NN.
        """
        labeled = torch.arange(len(images))
        if images.labels is not None and bool((images.labels >= 0).any()):
            labeled = labeled[images.labels >= 0]
        chosen = sample(labeled, self.config.monitor.num_images)
        return chosen, {"sample": SAMPLED} if len(chosen) < len(labeled) else {}

    def _load_pairs(self, images: Images, indices: Tensor) -> tuple[Tensor, Tensor]:
        recipes = views.recipe(self.config.views, crop_min=self.config.crop_min)
        place: Any = {"seed": HELD_OUT_SEED, "step": HELD_OUT_STEP, "unreadable": self._skip}
        blocks = view_blocks(images, indices, recipes, self.data.image_size, **place)
        first, second = map(torch.cat, zip(*blocks, strict=True))
        if not self._across:
            return first, second
        if len(first) < 2:
            raise FullrankError(
                f"method={self.config.method} compares the images of a batch, and there is one held-out image: give "
                "more, or none"
            )
        # A batch is what its images are told apart from: they are whole, and mixed, for sets are often sorted by class.
        count = len(first) - len(first) % _BATCH if len(first) > _BATCH else len(first)
        mixed = torch.randperm(len(first), generator=torch.Generator().manual_seed(HELD_OUT_SEED))[:count]
        return first[mixed], second[mixed]

    def _tell_apart(self, every: Tensor, own: Tensor, queries: Tensor, labels: Tensor) -> _Labeled | None:
        """Return what k-NN is measured on; None where the sets have no class in common.

        `every` are the labels of all training images, of which those that are measured on, `own`, need not show each.
        """
        voters, asked = own >= 0, labels >= 0
        strange = ~torch.isin(labels, every[every >= 0])
        if not bool(voters.any()) or bool(strange.all()):
            if bool(voters.any()) and bool(asked.any()):
                what = "the held-out images share no class with the training images"
                print(f"{what}: no accuracy is measured", file=sys.stderr)
            return None
        if int(voters.sum()) < self.config.monitor.knn_k:
            raise FullrankError(
                f"monitor.knn_k={self.config.monitor.knn_k} neighbors are more than the {int(voters.sum())} labeled "
                "images they are chosen from: lower it, or raise monitor.num_images"
            )
        return _Labeled(voters, own[voters], queries[asked], labels[asked], int((strange & asked).sum()))

    def _skip(self, name: str) -> None:
        if self.config.strict:
            raise UnreadableImageError(f"{name} cannot be decoded")
        self.skipped.add(name)

    @property
    def protocols(self) -> dict[str, dict[str, Any]]:
        """How each measurement is taken; stored once with the run, and with its final scores."""
        config, monitor = self.config, self.config.monitor
        held_out, size, dtype = config.eval_images or config.images, config.image_size, float32_on(self.device)
        common: dict[str, Any] = {"mode": "eval", "layer": "backbone", "view": "eval", "image_size": size}
        common |= {"branch": "online", "dtype": dtype}
        train = {"images": config.images, "split": "train"}
        # a share of the training images, not of the held-out ones
        share = {"subset": 1.0 if monitor.whole else config.subset} if config.subset < 1 else {}
        own: dict[str, Any] = {"n": len(self.train), **self._sample, **share, "center": True, "normalize": False}
        protocols: dict[str, dict[str, Any]] = {"spectrum": {**common, **train, **own}}
        if self.pairs is not None:
            count = len(self.pairs[0])
            batches = {"batch": min(_BATCH, count), "batches": "shuffled"} if self._across else {}
            shown = {"images": held_out, "split": "held out", "n": count, **self._held_out_sample}
            drawn = {"pairs": 1, "seed": HELD_OUT_SEED, "dtype": dtype}
            protocols["heldout_loss"] = {"mode": "eval", **loss_protocol(config), **batches, **shown, **drawn}
        if self.probe is not None:
            steps = f"mean since the last record, of {config.log_every} steps at most, each before it is learned from"
            shown = {"view": config.views, "crop_min": config.crop_min, "image_size": size, "steps": steps}
            protocols["online_probe_train"] = {**self.probe.protocol, "mode": "train", **train, **shown}
        if self._labeled is not None:
            labels = {"labels": f"{config.images} / {held_out}"}
            queries = {"queries": len(self._labeled.labels)}
            strange = never_right(self._labeled.strange, queries["queries"])
            if self.probe is not None:
                own = {**self.probe.protocol, **queries, **labels, **self._held_out_sample, **strange}
                protocols["online_probe"] = {**common, **own}
            own = {**labels, **share, **self._sample, **self._held_out_sample, **strange}
            bank = {"bank": len(self._labeled.voters_labels), **queries}
            # in the words of `fullrank evaluate`, so that scores of one protocol can be told
            protocols["knn"] = {**common, **own, **bank, **knn_protocol(monitor.knn_k)}
        return protocols

    @torch.no_grad()
    def measure(self, method: Method) -> tuple[dict[str, float], Spectrum]:
        """Measure a method as it is now, and leave it in train mode.

        The scores by name are the monitored ones of `fullrank.measure.scores`, and where there are held-out images
        `heldout_loss`, and the shares `knn` and `online_probe`.
        """
        method.eval()
        try:
            features = self.features(method, self.train)
            measured = spectrum(features.cpu())
            scores: dict[str, float] = {}
            for kind in SCORES.values():
                if kind.monitored and kind.function is not None:
                    score = take(kind, measured if kind.spectrum == "centered" else features.cpu(), {})
                    if score.value is not None:
                        scores[kind.name] = score.value
                    else:
                        self.failed.setdefault(kind.name, score.why)
            if self.pairs is not None:
                scores["heldout_loss"] = self._heldout_loss(method, self.pairs)
            if self._labeled is not None:
                voters, voters_labels, queries, labels, _ = self._labeled
                asked = self.features(method, queries)
                bank = features[voters.to(features.device)]
                where, k = features.device, self.config.monitor.knn_k
                scores["knn"] = knn_accuracy(bank, voters_labels.to(where), asked, labels.to(where), k=k)
                if self.probe is not None and self.probe.learned:
                    scores["online_probe"] = self.probe.measure(asked, labels)
            return scores, measured
        finally:
            method.train()

    def features(self, method: Method, images: Tensor) -> Tensor:
        """Return the representations of `(n, 3, S, S)` uint8 images, `(n, D)` float32."""
        encoder = Encoder(method.backbone, Preprocessing(images.shape[-1]))
        return encoder.features(images, batch_size=_BATCH).features.to(self.device)

    def _heldout_loss(self, method: Method, pairs: tuple[Tensor, Tensor]) -> float:
        """Return the method's loss on the fixed held-out views, a mean over images."""
        memory_format, total = choose_memory_format(method), 0.0
        for batch in zip(*(view.split(_BATCH) for view in pairs), strict=True):
            pixels = (views.as_float(view.to(self.device)) for view in batch)
            output = method(*(views.normalize(each).to(memory_format=memory_format) for each in pixels))
            total += float(output.loss.double()) * len(batch[0])
        return total / len(pairs[0])


def never_right(strange: int, asked: int) -> dict[str, Any]:
    """Return what a protocol says where held-out images are of classes that no training image has."""
    if not strange:
        return {}
    return {"never right": f"{strange} of {asked} held-out images, of classes without training images"}


def loss_protocol(config: TrainConfig) -> dict[str, Any]:
    """Return what a value of the method's loss depends on, wherever it is taken."""
    heads, target = config.heads, config.target
    settings = {**vars(config.loss), "teacher": target.teacher, "dimensions": heads.projector_out}
    settings |= {"normalize": heads.normalize, "queue": target.queue}
    seen = {"view": config.views, "crop_min": config.crop_min, "image_size": config.image_size}
    return {"loss": config.method, **{name: value for name, value in settings.items() if value is not None}, **seen}


def training_protocol(config: TrainConfig) -> dict[str, Any]:
    """Return how the training loss is taken."""
    seen = {"batch": config.batch_size, "images": config.images, "split": "train"}
    steps = f"mean since the last record, of {config.log_every} steps at most"
    return {"mode": "train", **loss_protocol(config), **seen, "steps": steps, "dtype": config.machine.precision}
