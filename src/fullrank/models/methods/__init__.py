# ruff: noqa: F403  # each file says in its __all__ what it gives
"""Methods: the branches that images go through, and the loss between them.

A method is a module that knows its backbone, gives a loss for the two views of a batch, and says which of its
parameters keep a constant learning rate. One with a projector and a loss of the two embeddings is a `JointEmbedding`
with another `criterion`. Otherwise subclass `Method`: name the criterion, give the heads' own widths, write `forward`.
`@register_method("mine")` names it, here as in your own package.
"""

from fullrank.models.methods import base, distillation, joint, predicting
from fullrank.models.methods.base import *
from fullrank.models.methods.distillation import *
from fullrank.models.methods.joint import *
from fullrank.models.methods.predicting import *
from fullrank.registry import METHODS, register_method

__all__ = ["METHODS", "register_method", *base.__all__, *distillation.__all__, *joint.__all__, *predicting.__all__]
