"""Names in a configuration, and what each stands for: methods, orders, views and sources of images, yours among them.

    from fullrank.registry import register_method, register_order, register_source, register_views

    @register_method("mine")
    class Mine(Method): ...

Then `TrainConfig(method="mine")` trains it. The command line finds what an installed package names as an entry point:

    [project.entry-points."fullrank.methods"]       # or fullrank.orders, fullrank.views, fullrank.sources
    mine = "my_package.my_module:Mine"

A score is a `fullrank.measure.scores.ScoreKind`, and its entry point in `fullrank.scores`.

Nothing is imported before it is used, so that `fullrank --help` stays quick.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fullrank.errors import FullrankError, choose

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from fullrank.data.order import Order
    from fullrank.data.views import ViewRecipe
    from fullrank.models.methods.base import Method

Item = TypeVar("Item")
Kept = TypeVar("Kept")


@dataclass(eq=False)
class Registry(Collection[str], Generic[Item]):
    """Things of one kind, by name."""

    field: str  # the field of the configuration that takes a name
    group: str  # the entry points of other packages that add to it
    home: str  # the module whose import registers what is built in
    built_in: tuple[str, ...]  # those names, known without the import
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)  # other names of theirs
    base: str = ""  # the class, as `module:name`, that all of them are subclasses of; empty where they are functions
    _found: dict[str, Item] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def register(self, name: str) -> Callable[[Kept], Kept]:
        """Decorate a class or a function: give it a name. A class gets the attribute `name` too.

        Raises:
            FullrankError: The name is that of something built in.
        """

        def keep(item: Any) -> Any:
            ours = str(getattr(item, "__module__", "")).startswith("fullrank.")  # None in code that is executed
            if not ours and self.canonical(name) in self.built_in:
                raise FullrankError(f"{self.field} {name!r} is built in: register yours under another name")
            if isinstance(item, type):
                item.name = name  # type: ignore[attr-defined]
            self._found[name] = item
            return item

        return keep

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self.built_in, *self._found, *self._points)))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self._found or name in self._points

    def __getitem__(self, name: str) -> Item:
        """Return what has this name, importing it where it was not used before.

        Raises:
            FullrankError: There is nothing of this name, it is of another kind, or the package that has it cannot be
                imported.
        """
        if name not in self._found:
            self.check(self.field, name)
            if name in self.built_in:
                importlib.import_module(self.home)
            else:
                try:
                    loaded = self._points[name].load()
                except Exception as error:  # it is anybody's code
                    where = self._points[name].value
                    raise FullrankError(f"{self.field} {name!r} cannot be had from {where}: {error}") from error
                if name not in self._found:  # its import may have registered it
                    self.register(name)(loaded)
        found = self._found[name]
        if self.base:
            module, _, base = self.base.partition(":")
            kind = getattr(importlib.import_module(module), base)
            if not (isinstance(found, type) and issubclass(found, kind)):
                raise FullrankError(f"{self.field} {name!r} is {found!r}, not a subclass of {module}.{base}")
        return found

    def canonical(self, name: str) -> str:
        """Return the name that records have, of an alias or with `_` for `-` or the other way; others as they are."""
        dashed = name.replace("_", "-")
        same = (own for own in (*self.aliases, *self) if own.replace("_", "-") == dashed)
        found = name if name in self else next(same, name)
        return self.aliases.get(found, found)

    def check(self, field: str, name: Any) -> None:
        """Raise `FullrankError`, with the nearest name, unless there is one like this."""
        if name not in self:
            choose(field, name, list(self))

    def forget(self, name: str) -> None:
        """Take out what a test or a notebook has registered."""
        self._found.pop(name)

    @cached_property
    def _points(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points

        return {point.name: point for point in entry_points(group=self.group) if point.name not in self.built_in}


METHODS: Registry[type[Method]] = Registry(
    "method",
    "fullrank.methods",
    "fullrank.models.methods",
    (
        *("simsiam", "nnsiam", "byol", "mocov3", "simclr", "simclr_sq", "simclr_abs", "dcl", "dcl_sq", "dcl_abs"),
        *("spectral", "vicreg", "vicreg_exp", "vicreg_ctr", "barlow_twins", "tcr", "distill"),
    ),
    {
        "barlow": "barlow_twins",
        "moco-v3": "mocov3",
        "info-nce": "simclr",
        "spectral-contrastive": "spectral",
    },
    base="fullrank.models.methods.base:Method",
)
"""Classes of methods: `fullrank.models.methods.Method`."""

ORDERS: Registry[type[Order]] = Registry(
    "order",
    "fullrank.orders",
    "fullrank.data.order",
    ("multiple-pass", "single-pass", "cumulative", "hybrid", "adaptive"),
    base="fullrank.data.order:Order",
)
"""Classes of orders: `fullrank.orders.Order`."""

VIEWS: Registry[Callable[[], tuple[ViewRecipe, ViewRecipe]]] = Registry(
    "views", "fullrank.views", "fullrank.data.views", ("simsiam", "byol", "mocov3", "cifar")
)
"""Functions that give the recipes of the first and the second view: `fullrank.data.views.ViewRecipe`."""

SOURCES: Registry[Callable[[str, str], Any]] = Registry(
    "images", "fullrank.sources", "fullrank.data.sources", ("digits", "cifar10", "cifar100", "stl10", "places365")
)
"""Functions of the split, `train` or `eval`, and the folder of downloads, that give what `open_images` takes, or None
where there is no such split."""

register_method, register_order = METHODS.register, ORDERS.register
register_views, register_source = VIEWS.register, SOURCES.register
