"""What may be published: paths without the folders that they lie in here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

BETWEEN = " / "
"""Stands between the training and the held-out images in a protocol's `labels`; a path has no blanks around its `/`."""


def public(value: Any) -> Any:
    r"""Cut each path to its last part; whatever else is there stays, in lists and mappings too.

    Text with a separator in it is a path, for no known set of images has one in its name.

    >>> public("cifar10 / /home/me/secret/val"), public("private/clients/acme"), public(r"C:\data\acme")
    ('cifar10 / val', 'acme', 'acme')
    >>> public({"images": "/home/me/train-*.parquet", "loss": "l2 / 2 |W|^2", "n": 5, "crop": (0.5, "./a/b/")})
    {'images': 'train-*.parquet', 'loss': 'l2 / 2 |W|^2', 'n': 5, 'crop': [0.5, 'b']}
    """
    if isinstance(value, str):
        return BETWEEN.join(_last(part) for part in value.split(BETWEEN))
    if isinstance(value, Mapping):
        return {key: public(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [public(each) for each in value]
    return value


def _last(text: str) -> str:
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1]
