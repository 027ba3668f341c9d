"""Rerun published experiments; the same as `metaplast reproduce`."""

import sys

from metaplast._start import script

if __name__ == "__main__":
    sys.exit(script("reproduce"))
