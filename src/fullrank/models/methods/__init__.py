"""Methods: the branches that images go through, and the loss between them.

A method is a module that knows its backbone, gives a loss for the two views of a batch, and says which of its
parameters keep a constant learning rate. To add one with a projector and a loss of the two embeddings, name the loss in
`joint.LOSSES`. Otherwise subclass `Method`: name the criterion, give the heads' own widths, write `forward`, and
register the class here; either way the configuration's list of methods needs the name too.
"""

from fullrank.models.methods.base import Method, Output
from fullrank.models.methods.distillation import Distillation
from fullrank.models.methods.joint import LOSSES, JointEmbedding, joint_embedding
from fullrank.models.methods.predicting import BYOL, MoCoV3, NNSiam, SimSiam

METHODS: dict[str, type[Method]] = {
    "simsiam": SimSiam,
    "nnsiam": NNSiam,
    "byol": BYOL,
    "mocov3": MoCoV3,
    **{name: joint_embedding(name) for name in LOSSES},
    "distill": Distillation,
}

__all__ = ["BYOL", "METHODS", "Distillation", "JointEmbedding", "Method", "MoCoV3", "NNSiam", "Output", "SimSiam"]
