"""How many bytes are alive in large tensors."""

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


class LiveMatrices(TorchDispatchMode):
    """Measures the largest number of bytes in tensors of at least `least` numbers alive at once."""

    def __init__(self, least):
        super().__init__()
        self.least, self.peak, self._alive = least, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.numel() >= self.least:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage):
        known = self._alive.get(storage._cdata)
        if known is not None and not known[0].expired():
            return
        self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._alive = {k: v for k, v in self._alive.items() if not v[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
