"""Where a step's images come from (`images`), which they are (`order`), and how each is seen (`views`).

Nothing here imports from `fullrank.models` or `fullrank.training`: the orders and views serve any loop.
"""
