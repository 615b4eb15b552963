"""How tasks reach machines: in this process, or on Ray."""
