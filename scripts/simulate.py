"""Simulate recordings of a layer that learns by a rule; the same as `metaplast simulate`."""

import sys

from metaplast._start import script

if __name__ == "__main__":
    sys.exit(script("simulate"))
