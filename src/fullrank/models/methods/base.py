"""What every method is: a backbone, heads, and a loss whose settings come from the configuration."""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from fullrank import losses
from fullrank.config import HeadsConfig, LossConfig, TargetConfig, TrainConfig, from_dict, nearest_setting
from fullrank.errors import FullrankError
from fullrank.models import heads
from fullrank.models.backbones import width_of

__all__ = ["Method", "Output"]

Section = TypeVar("Section", HeadsConfig, LossConfig, TargetConfig)
_SECTIONS = {"heads": HeadsConfig, "loss": LossConfig, "target": TargetConfig}


@dataclass(frozen=True)
class Output:
    """What a method computes for a batch."""

    loss: Tensor  # a scalar to minimize
    embedding: Tensor  # `(N, M)`, the first view's, without gradient: monitors read it
    representations: tuple[Tensor, ...]  # `(N, D)` of each view that the backbone saw, without gradient, for probes


class Method(nn.Module, ABC):
    """A backbone, heads, and a loss.

    Args:
        backbone: Images `(B, 3, S, S)` -> representation `(B, D)`: the part that is kept after training.
        config: The run's configuration; or give settings, or neither for the method's own.
        width: D. Left out, it is what a timm model says of itself, or what a forward pass gives.
        image_size: S, for that forward pass; the configuration's when left out.
        **settings: Fields of `HeadsConfig`, `LossConfig` and `TargetConfig` that the method has, such as
            `projector_out=2048`, `covariance=2.0` or `momentum=0.99`.

    Attributes:
        width: D.
        criterion: The loss, a function of embeddings, as in `class Mine(JointEmbedding, criterion=my_loss)`; its
            keyword-only arguments are the coefficients that may be set.
        has_predictor: Whether a `predictor` follows the projector.
        across_images: Whether the loss of an image depends on the others of its batch. Such a loss sees the embeddings
            of all processes in training, so that many processes compute what one does.
        heads_config: The heads' settings, those left out filled in with the method's own.
        loss_config: Likewise the loss's coefficients.
        target_config: Likewise the target branch's settings.

    Raises:
        FullrankError: The configuration sets what the method does not have, a setting is unknown, or D is.
    """

    criterion: ClassVar[Callable[..., Tensor]]
    has_predictor: ClassVar[bool] = False
    across_images: ClassVar[bool] = False

    def __init_subclass__(cls, criterion: Callable[..., Tensor] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if criterion is not None:
            cls.criterion = staticmethod(criterion)

    def __init__(
        self,
        backbone: nn.Module,
        config: TrainConfig | None = None,
        *,
        width: int | None = None,
        image_size: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        name: str = getattr(self, "name", type(self).__name__) if config is None else config.method
        if config is None:
            config = configured(settings, type(self).__name__)
        elif settings:
            raise FullrankError(f"give {type(self).__name__} a configuration or settings, not both: {[*settings]}")
        self.backbone = backbone
        self.width = width or width_of(backbone, image_size or config.image_size)
        self.heads_config = fill(config.heads, self.own_heads(self.width), "heads", name)
        self.loss_config = fill(config.loss, coefficients(self.criterion), "loss", name)
        self.target_config = fill(config.target, self.own_target(), "target", name)
        if self.heads_config.projector_out == 1:
            what = "heads.projector_out=1 leaves embeddings of one dimension, in which nothing can be told apart"
            raise FullrankError(f"{what}: take at least 2")

    @classmethod
    def own_heads(cls, width: int) -> HeadsConfig:
        """Return the method's own heads behind a backbone of this width; None is what it does not have."""
        return HeadsConfig()

    @classmethod
    def own_target(cls) -> TargetConfig:
        """Return the method's own settings of the target branch; None is what it does not have."""
        return TargetConfig()

    @abstractmethod
    def forward(self, first: Tensor, second: Tensor) -> Output:
        """Compute the loss of two views, `(N, 3, S, S)` each, row n of both from image n."""

    def constant_rate_modules(self) -> Iterable[nn.Module]:
        """Return the modules whose learning rate does not decay."""
        return ()

    def after_step(self, step: int, steps: int) -> None:
        """Do what follows the optimizer's step number `step`, from 0, of `steps`; a function of it and the weights."""

    def represent(self, view: Tensor) -> Tensor:
        """Return the representation of a view, `(N, D)`, or raise `FullrankError` where the backbone gives none."""
        h = self.backbone(view)
        if h.ndim != 2 or h.shape[1] != self.width:
            raise FullrankError(
                f"the backbone gives {tuple(h.shape)}, not (N, {self.width}): take off its classifier "
                "(timm: num_classes=0; torchvision: model.fc = nn.Identity()), pool its output, or give its width="
            )
        return h

    def build_projector(self, *, last: heads.Last) -> nn.Sequential:
        """Build the configured projector on the backbone's representation."""
        own: Any = self.heads_config  # filled in
        return heads.mlp(self.width, own.projector_hidden, own.projector_out, own.projector_layers, last=last)

    def build_predictor(self, *, last: heads.Last) -> nn.Sequential:
        """Build the configured predictor, two layers, of an embedding from an embedding."""
        own: Any = self.heads_config
        return heads.mlp(own.projector_out, own.predictor_hidden, own.projector_out, 2, last=last)

    def compute_loss(self, *embeddings: Tensor) -> Tensor:
        """Compute the criterion of what is at least float32, from all processes where it compares images."""
        chosen = {name: value for name, value in vars(self.loss_config).items() if value is not None}
        # cast before they are gathered, for gradients are summed over processes in the same precision
        full = [z.to(torch.promote_types(z.dtype, torch.float32)) for z in embeddings]
        if self.across_images and self.training:
            full = [losses.gather(z) for z in full]
        return self.criterion(*self.prepare(full), **chosen)

    def prepare(self, embeddings: list[Tensor]) -> list[Tensor]:
        """Do what is to be done to the embeddings of the whole batch before the criterion."""
        return embeddings


def configured(settings: dict[str, Any], method: str) -> TrainConfig:
    """Return a configuration with these settings, each put into its section."""
    homes = {field.name: section for section, kind in _SECTIONS.items() for field in dataclasses.fields(kind)}
    sections: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        if name not in homes:
            hint = nearest_setting(name, homes)
            raise FullrankError(f"{method} has no setting {name!r}{hint} (known: {', '.join(homes)})")
        sections.setdefault(homes[name], {})[name] = value
    return from_dict(sections, TrainConfig(), method)


def fill(asked: Section, own: Section, section: str, method: str) -> Section:
    """Fill in a method's own settings of a section of the configuration where none was asked for.

    What is None in its own the method does not have: asking for it is an error.
    """
    taken, given = ({name: value for name, value in vars(of).items() if value is not None} for of in (own, asked))
    for name, value in given.items():
        if name not in taken:
            known = ", ".join(f"{section}.{other}" for other in taken) or f"nothing of {section}"
            raise FullrankError(
                f"method={method} has no {section}.{name} (got {value}): leave it out, or where a preset or a file "
                f"sets it give --{section}.{name.replace('_', '-')} None; it takes {known}"
            )
    return dataclasses.replace(own, **given)


def coefficients(criterion: Callable[..., Tensor]) -> LossConfig:
    """Return a loss's coefficients with their defaults, as its signature has them."""
    known = {field.name for field in dataclasses.fields(LossConfig)}
    settings = (p for p in inspect.signature(criterion).parameters.values() if p.kind is p.KEYWORD_ONLY)
    return LossConfig(**{each.name: each.default for each in settings if each.name in known})
