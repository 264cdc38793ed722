"""Private ground: checks, labels, results, checkpoints and threads that several packages share."""
