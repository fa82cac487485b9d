"""Encoders from timm, the heads on top of them, and the methods that train both."""

__all__ = ["methods"]  # the documentation finds the names of `fullrank.methods` through it
