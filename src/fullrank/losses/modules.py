# ruff: noqa: D101  # the modules have the docstrings of their functions
"""Every loss as a module: `VICRegLoss(covariance=2.0)(z1, z2)` is `vicreg(z1, z2, covariance=2.0)`.

A module has the keyword arguments, the defaults and the errors of its function, and no state: it can be pickled, copied
and put into an `nn.Sequential`. A setting that is an `nn.Parameter`, such as a temperature, is learned.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fullrank.errors import FullrankError, nearest
from fullrank.losses import alignment, contrastive, covariance

__all__ = ["BYOLLoss", "BarlowTwinsLoss", "DCLAbsLoss", "DCLLoss", "DCLSqLoss", "InfoNCELoss", "Loss", "MoCoV3Loss"]
__all__ += ["NTXentLoss", "SimCLRAbsLoss", "SimCLRLoss", "SimCLRSqLoss", "SimSiamLoss", "SpectralContrastiveLoss"]
__all__ += ["TCRLoss", "VICRegCtrLoss", "VICRegExpLoss", "VICRegLoss", "get_loss"]

ALIASES = {
    "barlow": "barlow_twins",
    "moco_v3": "mocov3",
    "nt_xent": "info_nce",
    "simclr": "info_nce",
    "spectral": "spectral_contrastive",
}
"""Short and other names of losses, the methods' among them; a dash is as good as an underscore."""


class Loss(nn.Module):
    """A loss whose settings are fixed: the base of the modules below, and of one's own.

        class MyLoss(Loss, function=my_loss): ...

    The positional arguments of `function` are the embeddings, `(N, M)`; its keyword-only ones are the settings.

    Raises:
        FullrankError: The function refuses a setting.
        TypeError: It has no such setting.
    """

    function: ClassVar[Callable[..., Tensor]]
    by_name: ClassVar[dict[str, type[Loss]]] = {}

    def __init_subclass__(cls, function: Callable[..., Tensor] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if function is None:  # a subclass of one of those below, which has its function
            return
        cls.function = staticmethod(function)
        cls.by_name.setdefault(function.__name__, cls)  # yours takes no name from those below
        settings = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        cls.__signature__ = inspect.Signature(settings)  # type: ignore[attr-defined]
        cls.__doc__ = inspect.cleandoc(function.__doc__ or "").partition("\n>>>")[0]  # its doctest runs there

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        try:
            inspect.signature(type(self)).bind(**settings)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__} {error}") from None
        self.settings = tuple(settings)
        for name, value in settings.items():
            setattr(self, name, value)
        # Two embeddings that nothing is wrong with: what the function refuses now is a setting.
        device = next((value.device for value in settings.values() if isinstance(value, Tensor)), "cpu")
        views = [p for p in inspect.signature(self.function).parameters.values() if p.kind is not p.KEYWORD_ONLY]
        if torch.device(device).type != "meta":  # where no setting has a number yet
            with torch.no_grad():
                self(*[torch.eye(2, device=device)] * len(views))

    def forward(self, *embeddings: Tensor) -> Tensor:
        """Compute the loss of embeddings `(N, M)`, in the order of the function's arguments; a scalar."""
        return self.function(*embeddings, **{name: getattr(self, name) for name in self.settings})

    def extra_repr(self) -> str:
        """Write the settings that are not the defaults."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)


# fmt: off
class SimSiamLoss(Loss, function=alignment.simsiam): ...
class BYOLLoss(Loss, function=alignment.byol): ...
class NTXentLoss(Loss, function=contrastive.info_nce): ...
class MoCoV3Loss(Loss, function=contrastive.mocov3): ...
class SimCLRSqLoss(Loss, function=contrastive.simclr_sq): ...
class SimCLRAbsLoss(Loss, function=contrastive.simclr_abs): ...
class DCLLoss(Loss, function=contrastive.dcl): ...
class DCLSqLoss(Loss, function=contrastive.dcl_sq): ...
class DCLAbsLoss(Loss, function=contrastive.dcl_abs): ...
class SpectralContrastiveLoss(Loss, function=contrastive.spectral_contrastive): ...
class VICRegLoss(Loss, function=covariance.vicreg): ...
class VICRegExpLoss(Loss, function=covariance.vicreg_exp): ...
class VICRegCtrLoss(Loss, function=covariance.vicreg_ctr): ...
class BarlowTwinsLoss(Loss, function=covariance.barlow_twins): ...
class TCRLoss(Loss, function=covariance.tcr): ...
# fmt: on
InfoNCELoss = SimCLRLoss = NTXentLoss


def get_loss(name: str) -> Callable[..., Tensor]:
    """Return the loss of a name, with dashes or underscores, or of one of its `ALIASES`.

    Raises:
        FullrankError: There is none; the message has the nearest.

    >>> get_loss("barlow").__name__, get_loss("vicreg-exp").__name__
    ('barlow_twins', 'vicreg_exp')
    """
    plain = name.lower().replace("-", "_")
    found = Loss.by_name.get(ALIASES.get(plain, plain))
    if found is None:
        hint = nearest(plain, [*Loss.by_name, *ALIASES])
        raise FullrankError(f"there is no loss {name!r}{hint}; there are {', '.join(Loss.by_name)}")
    return found.function
