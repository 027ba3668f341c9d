"""Write the report of a finished discovery again; the same as `metaplast report`."""

import sys

from metaplast_cli import script

if __name__ == "__main__":
    sys.exit(script("report"))
