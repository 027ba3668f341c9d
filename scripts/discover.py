"""Discover a plasticity rule; the same as `metaplast discover`."""

import sys

from metaplast._start import script

if __name__ == "__main__":
    sys.exit(script("discover"))
