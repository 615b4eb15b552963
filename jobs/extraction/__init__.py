"""A circuit as a small network of its own: dead channels left out, constants folded."""
