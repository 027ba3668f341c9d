"""Observers that show a run while it works: terminal, progress bar and TensorBoard."""
