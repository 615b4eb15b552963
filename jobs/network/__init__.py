"""A model, loaded and traced: its operations, convolutions, kernel axis and receptive fields."""
