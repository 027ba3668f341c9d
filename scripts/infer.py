"""Infer the plasticity rule that made recordings; the same as `metaplast infer`."""

import sys

from metaplast._start import script

if __name__ == "__main__":
    sys.exit(script("infer"))
