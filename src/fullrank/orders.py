"""The public door to `fullrank.data.order`: `from fullrank.orders import Hybrid, OrderSampler`."""

from fullrank.data.order import *  # noqa: F403
from fullrank.data.order import __all__ as __all__
