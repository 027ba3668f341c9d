"""Discover over penalties and seeds, in parallel; the same as `metaplast sweep`."""

import sys

from metaplast_cli import script

if __name__ == "__main__":
    sys.exit(script("sweep"))
