"""Loops over time steps or sweeps, each as one torch operation with its adjoint."""
