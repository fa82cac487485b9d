"""The public door to `fullrank.data.order`: `from fullrank.orders import Hybrid, OrderSampler`."""

from fullrank.data.order import (
    Adaptive,
    Cumulative,
    Hybrid,
    MultiplePass,
    Order,
    OrderSampler,
    Segment,
    SinglePass,
    subset,
)
from fullrank.registry import ORDERS, register_order

__all__ = [
    "ORDERS",
    "Adaptive",
    "Cumulative",
    "Hybrid",
    "MultiplePass",
    "Order",
    "OrderSampler",
    "Segment",
    "SinglePass",
    "register_order",
    "subset",
]
