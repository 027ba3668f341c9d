"""Types of arrays other than `metaplast.base.bands.Numbers`."""

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
