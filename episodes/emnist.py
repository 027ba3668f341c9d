"""EMNIST (Cohen, Afshar, Tapson and van Schaik 2017, arXiv:1702.05373): letters and digits.

Images are transposed, as in the files: turn rows and columns to see them upright.
"""

from episodes.mnist_family import emnist_split

EMNIST = emnist_split(
    "emnist",
    "131,600 letters and digits of 28 × 28 pixels, as many of each class (balanced, 47 classes)",
    "balanced",
)

EMNIST_BYMERGE = emnist_split(
    "emnist-bymerge",
    "814,255 letters and digits of 28 × 28 pixels (bymerge, 47 classes)",
    "bymerge",
)
