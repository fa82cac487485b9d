"""The public door to `fullrank.data.order`: `from fullrank.orders import Hybrid, OrderSampler`."""

from fullrank.data.order import Cumulative, Hybrid, MultiplePass, Order, OrderSampler, Segment, SinglePass, subset
from fullrank.registry import ORDERS, register_order

__all__ = [
    "ORDERS",
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
