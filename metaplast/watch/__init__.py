"""Observers that show the progress of a run: in the terminal and in TensorBoard."""
