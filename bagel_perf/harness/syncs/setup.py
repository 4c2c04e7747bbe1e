"""Tells the uploads of a model's set-up from those of its work, by the functions that are under way.

Set-up is the first upload of each parameter and buffer by ``Module.to``, ``.cuda()`` or ``load_state_dict``, what an
optimizer's ``load_state_dict`` uploads, and what ``torch.load`` and the loaders of installed packages do
(``from_pretrained`` and its like). Nothing that happens inside a module's call is: that is a model which is moved
while it works. The second upload of the same parameter is none either.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal

import torch

from bagel_perf.schema.waits import Kind

UPLOADS: tuple[Kind, ...] = ("pageable_upload", "unknown")
_TORCH = Path(torch.__file__).parent
_MODULE = str(_TORCH / "nn" / "modules" / "module.py")
_Role = Literal["parameter", "loader", "call", ""]
_ROLES: dict[tuple[str, str], _Role] = {
    (_MODULE, "_apply"): "parameter",
    (_MODULE, "_load_from_state_dict"): "parameter",
    (_MODULE, "_call_impl"): "call",
    (_MODULE, "_wrapped_call_impl"): "call",
    (str(_TORCH / "optim" / "optimizer.py"), "load_state_dict"): "loader",
    **dict.fromkeys(((str(_TORCH / "serialization.py"), name) for name in ("load", "_load", "_legacy_load")), "loader"),
}
_NAMES = """
from_pretrained from_single_file load_checkpoint_in_model load_checkpoint_and_dispatch load_model load_weights load_file
"""
_LOADERS = frozenset(_NAMES.split())
_LOADING = f"{os.sep}transformers{os.sep}core_model_loading.py"
"""It uploads on threads of its own, on which ``from_pretrained`` is not under way."""


class SetUp:
    """Knows what was uploaded before; one for each stretch that is watched."""

    def __init__(self, is_installed: Callable[[CodeType], bool]) -> None:
        self._is_installed = is_installed
        self._roles: dict[int, tuple[CodeType, _Role]] = {}
        self._seen: dict[int, tuple[weakref.ref[Any], set[str]]] = {}

    def holds(self, kind: Kind, frame: FrameType | None) -> bool:
        """Whether a wait of a kind that happens now, below ``frame``, is of the set-up."""
        if kind not in UPLOADS:
            return False
        found = False
        parameter: FrameType | None = None
        while frame is not None:
            role = self._role_of(frame.f_code)
            if role == "call":
                return False
            if role == "parameter" and parameter is None:
                parameter = frame
            found = found or bool(role)
            frame = frame.f_back
        return found and (parameter is None or self._is_first(parameter))

    def _role_of(self, code: CodeType) -> _Role:
        found = self._roles.get(id(code))
        if found is None:
            found = self._roles[id(code)] = (code, self._look(code))
        return found[1]

    def _look(self, code: CodeType) -> _Role:
        role = _ROLES.get((code.co_filename, code.co_name), "")
        if role or not self._is_installed(code):
            return role
        return "loader" if code.co_name in _LOADERS or code.co_filename.endswith(_LOADING) else ""

    def _is_first(self, frame: FrameType) -> bool:
        """Whether the parameter that a function of ``Module`` is at was not met before; notes it."""
        values = frame.f_locals
        module, name = values.get("self"), str(values.get("key"))
        known = self._seen.get(id(module))
        if known is None or known[0]() is not module:
            known = self._seen[id(module)] = (weakref.ref(module), set())
        is_first = name not in known[1]
        known[1].add(name)
        return is_first
