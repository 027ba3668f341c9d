"""Discover a plasticity rule; the same as `metaplast discover`."""

import sys

from metaplast_cli import script

if __name__ == "__main__":
    sys.exit(script("discover"))
