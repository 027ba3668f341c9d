"""Run published experiments again; the same as `metaplast reproduce`."""

import sys

from metaplast.commands import script

if __name__ == "__main__":
    sys.exit(script("reproduce"))
