"""Let a reservoir learn to draw a curve from a reward; the same as `metaplast draw`."""

import sys

from metaplast._start import script

if __name__ == "__main__":
    sys.exit(script("draw"))
