"""Observers of a run: terminal, progress bar, TensorBoard, and the files of a run folder."""
