"""A circuit as a drawing: laid out by depth, as SVG, PNG or a page of its own."""
