"""The public door to `fullrank.data.order`: `from fullrank.orders import Hybrid, OrderSampler`."""

from fullrank.data.order import (
    ORDERS,
    Cumulative,
    Hybrid,
    MultiplePass,
    Order,
    OrderSampler,
    SinglePass,
    subset,
)

__all__ = ["ORDERS", "Cumulative", "Hybrid", "MultiplePass", "Order", "OrderSampler", "SinglePass", "subset"]
