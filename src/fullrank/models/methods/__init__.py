"""Methods: the branches that images go through, and the loss between them.

A method is a module that knows its backbone, gives a loss for the two views of a batch, and says which of its
parameters keep a constant learning rate. One with a projector and a loss of the two embeddings is a `JointEmbedding`
with another `criterion`. Otherwise subclass `Method`: name the criterion, give the heads' own widths, write `forward`.
`@register_method("mine")` names it, here as in your own package.
"""

from fullrank.models.methods.base import Method, Output
from fullrank.models.methods.distillation import Distillation
from fullrank.models.methods.joint import (
    DCL,
    TCR,
    BarlowTwins,
    DCLAbs,
    DCLSq,
    JointEmbedding,
    SimCLR,
    SimCLRAbs,
    SimCLRSq,
    SpectralContrastive,
    VICReg,
    VICRegCtr,
    VICRegExp,
)
from fullrank.models.methods.predicting import BYOL, MoCoV3, NNSiam, SimSiam
from fullrank.registry import METHODS, register_method

__all__ = [
    "BYOL",
    "DCL",
    "METHODS",
    "TCR",
    "BarlowTwins",
    "DCLAbs",
    "DCLSq",
    "Distillation",
    "JointEmbedding",
    "Method",
    "MoCoV3",
    "NNSiam",
    "Output",
    "SimCLR",
    "SimCLRAbs",
    "SimCLRSq",
    "SimSiam",
    "SpectralContrastive",
    "VICReg",
    "VICRegCtr",
    "VICRegExp",
    "register_method",
]
