"""Which kernels are kept, the network run on them alone, and how faithful it stays."""
