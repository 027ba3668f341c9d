"""Export a rule as code, LaTeX, Markdown or JSON; the same as `metaplast export`."""

import sys

from metaplast._start import script

if __name__ == "__main__":
    sys.exit(script("export"))
