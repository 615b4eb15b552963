"""Criteria held against each other over the units of a layer, and the report of it."""
