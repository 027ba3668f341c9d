"""`python -m metaplast` is the command `metaplast`."""

import sys

from metaplast._start import main

if __name__ == "__main__":
    sys.exit(main())
