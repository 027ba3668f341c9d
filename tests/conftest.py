"""Two workers share two cores: each, and every process it starts, takes one."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported, which reads it once.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
