"""A circuit in Python: its kernels, algebra, and a model that runs on them alone."""
