"""What is measured at intervals while training: the spectrum, the loss on held-out images, and k-NN.

All measurements use the encoder in eval mode, in float32, and leave training as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fullrank.config import TrainConfig
from fullrank.data import former, views
from fullrank.data.images import SAMPLED, Images, UnreadableImageError, sample
from fullrank.data.still import load_for_eval, load_view_pairs
from fullrank.errors import FullrankError
from fullrank.measure.probes import knn_accuracy, knn_protocol
from fullrank.measure.scores import SCORES, take
from fullrank.measure.spectrum import Spectrum, spectrum
from fullrank.models.memory_format import choose_memory_format
from fullrank.models.methods import METHODS, Method
from fullrank.training.machine import float32_on
from fullrank.training.online_probe import OnlineProbe
from fullrank.training.setup import Data

HELD_OUT_SEED = 0
"""Held-out views are the same in every run, whatever its seed, so that held-out losses can be compared."""
HELD_OUT_STEP = 2**62
"""Their place in the stream of random views, which no training step reaches."""

_BATCH = 256


class Measurer:
    """Holds the images that are measured on, and measures.

    Args:
        config: The run's configuration, resolved.
        data: Its images.
        device: Where the encoder is.
        probe: The run's online probe, where it has one.
    """

    def __init__(self, config: TrainConfig, data: Data, device: torch.device, probe: OnlineProbe | None = None) -> None:
        assert config.image_size is not None
        self.config = config
        self.device = device
        self.probe = probe
        self._dtype = float32_on(device)
        size = config.image_size
        self.skipped: set[str] = set()
        self.failed: dict[str, str] = {}  # monitored scores that could not be taken at some step, and why
        take = former.spread if data.former else sample
        self._sampled = "at a fixed stride" if data.former else SAMPLED
        labelled = _labelled(data.measured)
        chosen = take(labelled, config.monitor.images)
        self._of_all = {"train": len(chosen) == len(labelled), "held out": True}
        self.train, chosen = load_for_eval(data.measured, chosen, size, self._skip)
        self.train_labels = None if data.measured.labels is None else data.measured.labels[chosen]
        self.pairs: tuple[Tensor, Tensor] | None = None
        self.queries: Tensor | None = None
        self.query_labels: Tensor | None = None
        if data.held_out is not None:
            labelled = _labelled(data.held_out)
            indices = take(labelled, config.monitor.images)
            self._of_all["held out"] = len(indices) == len(labelled)
            recipes = views.recipe(config.views, crop_min=config.crop_min)
            self.pairs = load_view_pairs(
                data.held_out, indices, recipes, size, seed=HELD_OUT_SEED, step=HELD_OUT_STEP, unreadable=self._skip
            )
            if METHODS[config.method].across_images:
                if len(self.pairs[0]) < 2:
                    raise FullrankError(
                        f"method={config.method} compares the images of a batch, and there is one held-out image: give "
                        "more, or none"
                    )
                # A batch is what its images are told apart from: sets are often sorted by class.
                mixed = torch.randperm(len(self.pairs[0]), generator=torch.Generator().manual_seed(HELD_OUT_SEED))
                self.pairs = (self.pairs[0][mixed], self.pairs[1][mixed])
            if data.held_out.labels is not None and self.train_labels is not None:
                self.queries, chosen = load_for_eval(data.held_out, indices, size, self._skip)
                self.query_labels = data.held_out.labels[chosen]
        self._strange = 0
        if self.query_labels is not None and self.train_labels is not None:
            assert data.measured.labels is not None
            voters = int((self.train_labels >= 0).sum())
            # of a class that no training image has, which the sample of them need not show
            strange = ~torch.isin(self.query_labels, data.measured.labels[data.measured.labels >= 0])
            self._strange = int((strange & (self.query_labels >= 0)).sum())
            if not voters or bool(strange.all()):
                self.queries = self.query_labels = None  # no class that both sets know
            elif voters < config.monitor.knn_k:
                raise FullrankError(
                    f"monitor.knn_k={config.monitor.knn_k} neighbours are more than the {voters} labelled images they "
                    "are chosen from: lower it, or raise monitor.images"
                )

    def _skip(self, name: str) -> None:
        if self.config.strict:
            raise UnreadableImageError(f"{name} cannot be decoded")
        self.skipped.add(name)

    def _sample(self, *splits: str) -> dict[str, Any]:
        """Say how images were chosen, where some were."""
        return {} if all(self._of_all[split] for split in splits) else {"sample": self._sampled}

    @property
    def protocols(self) -> dict[str, dict[str, Any]]:
        """How each measurement is taken; stored once with the run, and with its final scores."""
        config = self.config
        common = {
            "mode": "eval",
            "layer": "backbone",
            "view": "eval",
            "image_size": config.image_size,
            "branch": "online",
            "dtype": self._dtype,
        }
        # a share of the training images, not of the held-out ones
        share = {"subset": 1.0 if config.monitor.whole else config.subset} if config.subset < 1 else {}
        protocols: dict[str, dict[str, Any]] = {
            "spectrum": {
                **common,
                "images": config.images,
                "split": "train",
                "n": len(self.train),
                **self._sample("train"),
                **share,
                "center": True,
                "normalize": False,
            }
        }
        if self.pairs is not None:
            across = METHODS[config.method].across_images
            protocols["heldout_loss"] = {
                "mode": "eval",
                **loss_protocol(config),
                **({"batch": min(_BATCH, self._compared()), "batches": "shuffled"} if across else {}),
                "images": config.eval_images or config.images,
                "split": "held out",
                "n": self._compared(),
                **self._sample("held out"),
                "pairs": 1,
                "seed": HELD_OUT_SEED,
                "dtype": self._dtype,
            }
        if self.probe is not None:
            protocols["online_probe_train"] = {
                **self.probe.protocol,
                "mode": "train",
                "images": config.images,
                "split": "train",
                "view": config.views,
                "crop_min": config.crop_min,
                "image_size": config.image_size,
                "steps": f"mean since the last record, of {config.monitor.log_every} steps at most, each before it is "
                "learned from",
            }
        if self.queries is not None and self.query_labels is not None and self.train_labels is not None:
            asked = int((self.query_labels >= 0).sum())
            labels = f"{config.images} / {config.eval_images or config.images}"
            strange = never_right(self._strange, asked)
            if self.probe is not None:
                own = {**common, **self.probe.protocol, "queries": asked, "labels": labels}
                protocols["online_probe"] = {**own, **self._sample("held out"), **strange}
            protocols["knn"] = {
                **common,  # in the words of `fullrank evaluate`, so that scores of one protocol can be told
                "labels": labels,
                **share,
                **self._sample("train", "held out"),
                **strange,
                "bank": int((self.train_labels >= 0).sum()),
                "queries": asked,
                **knn_protocol(config.monitor.knn_k),
            }
        return protocols

    @torch.no_grad()
    def measure(self, method: Method) -> tuple[dict[str, float], Spectrum]:
        """Measure a method as it is now, and leave it in train mode.

        Returns:
            The scores by name (the monitored ones of `fullrank.measure.scores`, and where there are held-out images
            `heldout_loss`, and the shares `knn` and `online_probe`), and the spectrum.
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
                scores["heldout_loss"] = self.heldout_loss(method)
            if self.queries is not None and self.query_labels is not None and self.train_labels is not None:
                known, asked = self.train_labels >= 0, self.query_labels >= 0
                queries, labels = self.features(method, self.queries[asked]), self.query_labels[asked]
                scores["knn"] = knn_accuracy(
                    features[known.to(features.device)],
                    self.train_labels[known].to(features.device),
                    queries,
                    labels.to(features.device),
                    k=self.config.monitor.knn_k,
                )
                if self.probe is not None and self.probe.learned:
                    scores["online_probe"] = self.probe.measure(queries, labels)
            return scores, measured
        finally:
            method.train()

    def features(self, method: Method, images: Tensor) -> Tensor:
        """Return the representations of `(n, 3, S, S)` uint8 images, `(n, D)` float32."""
        return torch.cat([method.backbone(batch).float() for batch in self._batches(images, method)])

    def heldout_loss(self, method: Method) -> float:
        """Return the method's loss on the fixed held-out views, a mean over images."""
        assert self.pairs is not None
        count = self._compared()
        total = 0.0
        for first, second in zip(*(self._batches(view[:count], method) for view in self.pairs), strict=True):
            total += float(method(first, second).loss.double()) * len(first)
        return total / count

    def _compared(self) -> int:
        """Return how many held-out pairs the loss is taken on: whole batches where it compares the images of one."""
        assert self.pairs is not None
        count = len(self.pairs[0])
        across = METHODS[self.config.method].across_images
        return count - count % _BATCH if across and count > _BATCH else count

    def _batches(self, images: Tensor, method: Method) -> Iterator[Tensor]:
        memory_format = choose_memory_format(method)
        for batch in images.split(_BATCH):
            yield views.normalise(views.as_float(batch.to(self.device))).to(memory_format=memory_format)


def never_right(strange: int, asked: int) -> dict[str, Any]:
    """Return what a protocol says where held-out images are of classes that no training image has."""
    if not strange:
        return {}
    return {"never right": f"{strange} of {asked} held-out images, of classes without training images"}


def loss_protocol(config: TrainConfig) -> dict[str, Any]:
    """Return what a value of the method's loss depends on, wherever it is taken."""
    settings = {
        **vars(config.loss),
        "teacher": config.target.teacher,
        "dimensions": config.heads.projector_out,
        "normalize": config.heads.normalize,
        "queue": config.target.queue,
    }
    return {
        "loss": config.method,
        **{name: value for name, value in settings.items() if value is not None},
        "view": config.views,
        "crop_min": config.crop_min,
        "image_size": config.image_size,
    }


def training_protocol(config: TrainConfig) -> dict[str, Any]:
    """Return how the training loss is taken."""
    return {
        "mode": "train",
        **loss_protocol(config),
        "batch": config.batch_size,
        "images": config.images,
        "split": "train",
        "steps": f"mean since the last record, of {config.monitor.log_every} steps at most",
        "dtype": config.machine.precision,
    }


def _labelled(images: Images) -> Tensor:
    """Return the indices of the images with a label, or of all where none has: unlabelled ones cannot vote in k-NN."""
    everything = torch.arange(len(images))
    if images.labels is None or not bool((images.labels >= 0).any()):
        return everything
    return everything[images.labels >= 0]
