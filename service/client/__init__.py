"""The Python client: an atlas, its layers and their units."""
