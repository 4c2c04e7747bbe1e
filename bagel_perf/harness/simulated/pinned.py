"""Remembers which host memory the simulated program has pinned: copies from and to it need not wait."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bagel_perf.harness import torch_names

_WeakRef: Any = torch_names.STORAGE_REF.find()


class PinnedMemory:
    """Pinned storages, held weakly: all views of a storage are pinned, and memory is freed as usual."""

    def __init__(self) -> None:
        self._storages: dict[int, Any] = {}

    def add(self, tensor: Tensor) -> Tensor:
        """Takes the memory of ``tensor`` for pinned; gives ``tensor``."""
        self._storages = {key: ref for key, ref in self._storages.items() if not ref.expired()}
        storage = tensor.untyped_storage()
        # A weak reference keeps the address from being given to another storage, so it may serve as key.
        self._storages[storage._cdata] = _WeakRef(storage)
        return tensor

    def holds(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._storages
