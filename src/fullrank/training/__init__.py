"""One run: its configuration, the loop, optimiser and schedule, checkpoints and the run folder."""
