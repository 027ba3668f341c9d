"""Discover over penalties and seeds, in parallel; the same as `metaplast sweep`."""

import sys

from metaplast._start import script

if __name__ == "__main__":
    sys.exit(script("sweep"))
