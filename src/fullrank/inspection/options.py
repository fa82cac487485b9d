"""How to inspect: the flags of `fullrank inspect`. Imports nothing heavy, for `fullrank --help` is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fullrank.config import Layer, Layers, Limit, Normalization, Pixels, Pretrained, Stem
from fullrank.shapes import Checked


@dataclass(frozen=True)
class InspectOptions(Checked):
    """How to inspect; the defaults are those of the command line."""

    backbone: str | None = None
    """The network that a weights file is for: resnet18, resnet50, ... of [Li22], or any timm model."""
    prefix: str | None = None
    """Prefix of the backbone's names in a weights file, such as module.encoder; found by itself when left out."""
    stem: Stem = "auto"
    """First layers of the ResNet that a weights file is for; auto tells 7x7 from 3x3, but neither a stride of 2 nor
    solo-learn's border of 2."""
    attention_heads: Layers | None = None
    """Attention heads of a weights file's vision transformer, which weights do not tell; timm's when left out. MoCo
    v3's small one has 12, timm's 6."""
    normalization: Normalization = "auto"
    """Mean and standard deviation that images are normalized by for a weights file, which weights do not tell. auto:
    timm's for the backbone (.5 for most vision transformers, ImageNet's for ResNets). imagenet: DINO, MAE and MoCo v3.
    cifar10: solo-learn on CIFAR-10 and CIFAR-100."""
    key: str | None = None
    """Which tensor or column to take, of a feature file that holds several."""
    images: str | None = None
    """Images to take features of: digits, cifar10, ..., a folder, parquet files; a run's own training images when
    left out."""
    limit: Limit | None = None
    """How many images, at random; the larger of 5,000 and five times the widest D when left out."""
    image_size: Pixels | None = None
    """Rows and columns of the images for a timm model or a weights file; the model's own when left out. Give the size
    that it was trained with: a ResNet's weights do not tell it, and 224 is taken if it begins with 7x7."""
    pretrained: Pretrained = "yes"
    """Trained weights of a timm model, from the Hugging Face Hub or its cache: yes, or no (random ones)."""
    layer: Layer = "representation"
    """Of a run: the representation (the backbone's output) or the embedding (the projector's)."""
    views: Literal["auto", "none", "cifar", "simsiam", "byol"] = "auto"
    """Random views for alignment and LiDAR; auto takes those of a run's training, and none for other encoders."""
    untrained: bool = True
    """Inspect the same network with its initial random weights too, for the verdict: doubles the time. timm's ResNets
    start with their residual branches off, which raises AUC (resnet18 on digits: .92, and .79 with them on)."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
