"""Encoders from timm, the heads on top of them, and the methods that train both."""
