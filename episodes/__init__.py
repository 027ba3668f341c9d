"""Sources of episodes: data sets, synthetic classes, a user's own data, task sets.

Registered sources are found through the entry point group `metaplast.episodes`. The functions here
turn a user's own data into a source.
"""

from episodes.own_data import from_dataset, from_tensors
from episodes.own_sequences import from_sequences
from episodes.task_sets import from_task_sets

__all__ = ["from_dataset", "from_sequences", "from_task_sets", "from_tensors"]
