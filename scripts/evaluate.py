"""Compare rules that train networks online; the same as `metaplast evaluate`."""

import sys

from metaplast._start import script

if __name__ == "__main__":
    sys.exit(script("evaluate"))
