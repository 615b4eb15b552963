"""The science: which kernels reach a unit, what they are worth, which to keep, how well that does."""
