"""Time the engines and their peers; the same as `metaplast benchmark`."""

import sys

from metaplast._start import script

if __name__ == "__main__":
    sys.exit(script("benchmark"))
