"""One run: its configuration, the loop, optimizer and schedule, checkpoints and the run folder."""
