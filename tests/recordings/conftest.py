"""Small recordings that all tests share."""

import pytest
from recorded import planted

from metaplast.recordings.recording import Recording


@pytest.fixture(scope="session")
def small():
    """A recording of 4 neurons in 10 trials, made by Oja's rule."""
    return Recording.of(planted("xy=1,y2W=-1", trials=10, noise=0.05).arrays, "small.npz")
