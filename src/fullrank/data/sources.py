"""Image sets by name: what `--images digits` means.

A source is a function of the split, `train` or `eval`, and the folder of downloads. It gives anything that
`fullrank.data.images.open_images` takes, a torch `Dataset` for one, or None where it has no such split:

    @register_source("mine")
    def mine(split: str, root: str) -> Dataset: ...

`digits` are scikit-learn's 1,797 handwritten digits, 8 x 8, of which every fifth is held out; they need no network.
`cifar10`, `cifar100`, `stl10` and `places365` are torchvision's, downloaded once where there is a network.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from fullrank.data.images import ArrayImages, FileImages, Images
from fullrank.data.labels import Labels
from fullrank.errors import FullrankError
from fullrank.registry import register_source
from fullrank.text import expanded


@register_source("digits")
def digits(split: str, root: str) -> Images:
    """Open scikit-learn's handwritten digits."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = torch.from_numpy(np.rint(found.images * (255 / 16)).astype(np.uint8))
    held_out = torch.arange(len(pixels)) % 5 == 4
    chosen = held_out if split == "eval" else ~held_out
    labels = torch.from_numpy(found.target.astype(np.int64))
    pixels = pixels[chosen, None].expand(-1, 3, -1, -1).contiguous()
    # 8 x 8 pixels are too few for a convolutional encoder's strides, so views are enlarged to 16 x 16
    return ArrayImages("digits", pixels, labels[chosen], preferred_size=16)


def _torchvision(name: str, split: str, root: str) -> Images:
    from torchvision import datasets

    folder, train = expanded(root), split == "train"
    make = {
        "cifar10": partial(datasets.CIFAR10, folder, train=train),
        "cifar100": partial(datasets.CIFAR100, folder, train=train),
        "stl10": partial(datasets.STL10, folder, "train+unlabeled" if train else "test"),
        "places365": partial(datasets.Places365, folder / name, "train-standard" if train else "val", small=True),
    }[name]
    found: Any
    try:
        found = make(download=False)
    except (RuntimeError, FileNotFoundError):
        print(f"{name} is not in {folder} yet: downloading it", flush=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = make(download=True)
        except (OSError, RuntimeError) as error:  # urllib's URLError is an OSError
            raise FullrankError(
                f"{name} is not in {folder} and could not be downloaded ({error}): copy torchvision's files for it "
                "there from a machine with a network, or give a folder or .parquet files to --images"
            ) from None
    classes = tuple(getattr(found, "classes", ())) or None
    if name == "places365":
        paths, labels = zip(*found.imgs, strict=True)
        return FileImages(name, folder, paths, Labels(np.array(labels), classes, numbered=True))
    pixels = torch.from_numpy(np.asarray(found.data))
    if pixels.shape[-1] == 3:  # CIFAR keeps channels last, STL-10 first
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
    numbers = torch.as_tensor(np.asarray(found.labels if name == "stl10" else found.targets), dtype=torch.int64)
    return ArrayImages(name, pixels, numbers, classes=classes)


for _name in ("cifar10", "cifar100", "stl10", "places365"):
    register_source(_name)(lambda split, root, name=_name: _torchvision(name, split, root))
