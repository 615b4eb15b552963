"""The science: which kernels reach a unit, what each is worth, which to keep, and how well."""
