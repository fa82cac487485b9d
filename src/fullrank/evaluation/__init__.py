"""Evaluate a run with labels: a frozen encoder, its labeled images, and probes on them."""
