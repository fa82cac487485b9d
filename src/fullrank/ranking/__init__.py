"""Rank runs, or the checkpoints of one, without labels; and forecast their accuracy where some have labels."""
