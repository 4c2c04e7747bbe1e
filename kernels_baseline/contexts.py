"""Component ``pack_contexts`` as upstream: each guidance context is prefilled by itself, though two begin alike.

Places name vLLM-Omni's vllm_omni/model_executor/stage_input_processors/bagel.py at commit eb4e60ee ("sip").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bagel_perf.subjects.bagel.model.layout import Packing, Parts
from bagel_perf.subjects.bagel.model.packing import pack_parts


def pack_contexts(parts: Parts, prompt_ids: Sequence[int], device: torch.device) -> Packing:
    """Every context in full (sip:102-108); does not wait."""
    layout = pack_parts(parts, prompt_ids, device)
    return Packing(layout=layout, contexts=layout.contexts)
