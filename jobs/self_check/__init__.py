"""The engine held against the model itself, before any work is done with it."""
