"""What optimizers ask of tensors below torch's functions: which they may treat together, and by which device."""

from __future__ import annotations

from typing import Any

import torch

from bagel_perf.harness import torch_names
from bagel_perf.harness.simulated.patches import Patches
from bagel_perf.harness.simulated.tensor import DEVICE, SimulatedTensor, hidden

Groups = dict[tuple[torch.device | None, torch.dtype | None], tuple[list[list[Any]], list[int]]]


def _grouping(group_cpu: Any) -> Any:
    """Torch's own grouping, which takes device tensors for the CPU tensors they are."""

    def group(columns: list[list[Any]], with_indices: bool = False) -> Groups:
        if SimulatedTensor not in map(type, columns[0]):
            grouped: Groups = group_cpu(columns, with_indices)
            return grouped
        groups: Groups = {}
        with hidden():
            for index, first in enumerate(columns[0]):
                lists, indices = groups.setdefault(_key(first), ([[] for _ in columns], []))
                for members, column in zip(lists, columns, strict=True):
                    if column:  # a list that an optimizer has no use for is empty
                        members.append(column[index])
                if with_indices:
                    indices.append(index)
        return groups

    return group


def _key(tensor: Any) -> tuple[torch.device | None, torch.dtype | None]:
    if tensor is None:
        return None, None
    return DEVICE if type(tensor) is SimulatedTensor else tensor.device, tensor.dtype


def patch_optimizers(patches: Patches) -> None:
    """Device tensors may be treated together, as CUDA's are."""
    patches.replace(torch_names.GROUP_TENSORS, _grouping)
    for name in torch_names.FOREACH_TYPES:
        patches.extend(name, SimulatedTensor)
