"""What each kernel is worth to a unit: a function each published score."""
