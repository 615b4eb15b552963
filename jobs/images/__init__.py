"""The image set: where images come from, how they are decoded, and which are held out."""
