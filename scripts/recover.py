"""Plant random rules and see whether discovery recovers them; the same as `metaplast recover`."""

import sys

from metaplast._start import script

if __name__ == "__main__":
    sys.exit(script("recover"))
