"""What people touch: the Python client and the command line."""
