"""The public door to `fullrank.models.methods`: methods as modules, for any backbone and any training loop.

    from fullrank.methods import SimSiam, VICReg

    method = SimSiam(backbone, projector_out=2048)      # timm says its width; else width=512 or image_size=224
    for step, (view1, view2) in enumerate(loader):      # (B, 3, S, S) each, as `fullrank.views.TwoViews` gives them
        loss = method(view1, view2).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step, steps)                  # moves the target of BYOL and MoCoV3; else nothing

Settings are the fields of `fullrank.config`'s `HeadsConfig`, `LossConfig` and `TargetConfig`; what is left out is the
method's own. `method.backbone` is the encoder.
"""

from fullrank.models.methods import *  # noqa: F403
from fullrank.models.methods import __all__ as __all__
