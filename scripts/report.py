"""Rewrite the report of a finished discovery; the same as `metaplast report`."""

import sys

from metaplast._start import script

if __name__ == "__main__":
    sys.exit(script("report"))
