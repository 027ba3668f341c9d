"""Recurrences through one matrix over many time steps, each as one operation with its adjoint."""
