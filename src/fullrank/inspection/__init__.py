"""Inspect any encoder: what X is, its features, their spectrum and scores, a verdict, a comparison."""
