"""Loops over time steps or sweeps, each as one operation of torch with its adjoint."""
