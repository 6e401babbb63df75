"""Predicts what a request takes, from the dimensions of its model. Arithmetic on plain values."""
