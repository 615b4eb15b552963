"""One task, from the spec to the records of its units."""
