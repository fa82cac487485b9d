"""What a representation is worth: its spectrum, its neighbors, and words for both.

Nothing here imports from `fullrank.models` or `fullrank.training`: every function takes plain tensors of features.
"""
