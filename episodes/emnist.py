"""EMNIST (Cohen, Afshar, Tapson and van Schaik 2017, arXiv:1702.05373): letters and digits.

Images are transposed, as in the files: exchange rows and columns to see them upright.
"""

from episodes.mnist_family import emnist_split

EMNIST = emnist_split(
    "emnist",
    "131,600 letters and digits of 28 × 28 pixels (balanced, 47 classes of equal size)",
    "balanced",
)

EMNIST_BYMERGE = emnist_split(
    "emnist-bymerge",
    "814,255 letters and digits of 28 × 28 pixels (bymerge, 47 classes)",
    "bymerge",
)
