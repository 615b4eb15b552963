"""What follows from stored circuits and scores: similarity, groups, what uses a kernel, SQL."""
