"""Plant random rules and see whether discovery recovers them; the same as `metaplast recover`."""

import sys

from metaplast_cli import script

if __name__ == "__main__":
    sys.exit(script("recover"))
