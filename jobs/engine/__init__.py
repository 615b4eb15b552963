"""One forward pass over a traced layer, and backward passes of many units over it."""
