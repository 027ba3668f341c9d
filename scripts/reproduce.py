"""Run published experiments again; the same as `metaplast reproduce`."""

import sys

from metaplast_cli import script

if __name__ == "__main__":
    sys.exit(script("reproduce"))
