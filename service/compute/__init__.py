"""What computes: the build of an atlas, and one circuit of a model in memory."""
