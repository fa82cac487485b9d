"""Parts for other people's frameworks; each imports its framework only when it is imported itself."""
