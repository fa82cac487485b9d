"""Words that options take are checked wherever options are built, with the nearest word."""

from dataclasses import replace

import pytest
import torch

import fullrank
from fullrank.config import BackboneConfig, OptimConfig, TrainConfig
from fullrank.data.images import open_images
from fullrank.data.views import recipe
from fullrank.encoders import open_encoder
from fullrank.errors import FullrankError
from fullrank.evaluation.options import KnnOptions, LinearOptions
from fullrank.inspection.inspect import inspect
from fullrank.inspection.options import InspectOptions
from fullrank.ranking.options import RankOptions
from fullrank.ranking.rank import rank
from fullrank.studies.registry import find
from fullrank.studies.store import planned
from fullrank.training.presets import preset


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: replace(TrainConfig(), method="simsaim"), "method must be .*'simsaim'; did you mean 'simsiam'"),
        (lambda: TrainConfig(order="hybrd"), "order must be .*'hybrd'; did you mean 'hybrid'"),
        (lambda: TrainConfig(cache=None), "cache must be one of auto, memory, chunks, stream, got None"),
        (lambda: TrainConfig(optim=OptimConfig(optimizer="sdg")), "optim.optimizer must .* did you mean 'sgd'"),
        (lambda: TrainConfig(backbone=BackboneConfig(stem="cfar")), "backbone.stem must be .* did you mean 'cifar'"),
        (lambda: inspect(["x.npy"], InspectOptions(layer="embeding")), "layer must be .* did you mean 'embedding'"),
        (lambda: inspect(["x.npy"], InspectOptions(views="simsam")), "views must be .* did you mean 'simsiam'"),
        (lambda: inspect(["x.npy"], InspectOptions(pretrained=False)), "pretrained must be one of yes, no, got False"),
        (lambda: open_encoder("x", layer="embeding"), "layer must be .* did you mean 'embedding'"),
        (lambda: KnnOptions(vote="majorty"), "vote must be .* did you mean 'majority'"),
        (lambda: LinearOptions(precision="bf61"), "precision must be .* did you mean 'bf16'"),
        (lambda: rank(["x"], RankOptions(accuracy="liner")), "accuracy must be .* did you mean 'linear'"),
        (lambda: open_images("digits", split="tran"), "split must be one of train, eval, .* did you mean 'train'"),
        (lambda: planned(find("orders"), "papr", [0]), "scale must be .* did you mean 'paper'"),
        (lambda: recipe("simsam"), "views must be one of .*, got 'simsam'; did you mean 'simsiam'"),
        (lambda: fullrank.load(5), "load takes a run's folder, a checkpoint or an exported .* type int: give a path"),
        (
            lambda: fullrank.methods.Distillation(torch.nn.Flatten(), width=4),
            "Distillation learns from a teacher, a module, got None: Distillation.backbone, teacher=",
        ),
        (lambda: preset("simsiam-resnet81-imagenet"), "did you mean 'simsiam-resnet18-imagenet'"),
    ],
)
def test_a_word_that_is_none_of_the_known_is_named_with_the_nearest(use, message):
    with pytest.raises(FullrankError, match=message):
        use()
