"""Feature visualization: images made by gradient ascent to drive a unit."""
