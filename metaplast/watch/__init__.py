"""Observers of a run that people watch: terminal, progress bar and TensorBoard."""
