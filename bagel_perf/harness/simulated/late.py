"""Patches to modules of packages that a program may import while the device is open, or has imported before."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Self

from bagel_perf.harness.simulated.patches import Patches

Patch = Callable[[Patches, Any], None]
"""Adds what has to be replaced in a module."""


class LatePatches(AbstractContextManager["LatePatches"]):
    """A context in which modules are patched as soon as they are imported; on exit each is as it was."""

    def __init__(self) -> None:
        self._wanted: dict[str, Patch] = {}
        self._hidden: dict[str, Patches] = {}
        self._done = ExitStack()

    def add(self, module: str, patch: Patch) -> None:
        """Has ``patch`` called with the module, when there is one of this name."""
        self._wanted[module] = patch

    def hide(self, patches: Patches, module: str) -> None:
        """Takes ``patches``, which are in force, back while a module is imported that must not see them."""
        self._hidden[module] = patches

    def __enter__(self) -> Self:
        sys.meta_path.insert(0, self)
        for name in self._wanted:
            if name in sys.modules:
                self._apply(sys.modules[name])
        return self

    def __exit__(self, *raised: Any) -> None:
        sys.meta_path.remove(self)
        self._done.close()

    def _apply(self, module: ModuleType) -> None:
        patches = Patches()
        self._wanted[module.__name__](patches, module)
        self._done.enter_context(patches)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """What the other finders find, for a module that is to be patched; the interface of ``sys.meta_path``."""
        if name not in self._wanted and name not in self._hidden:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                self._patch_after(spec.loader)
                return spec
        return None

    def _patch_after(self, loader: Any) -> None:
        """The loader stays itself, as other code looks at its type."""
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def exec_module(module: ModuleType) -> None:
            with self._without(module.__name__):
                execute(module)
            if self in sys.meta_path and module.__name__ in self._wanted:
                self._apply(module)

        loader.exec_module = exec_module

    @contextmanager
    def _without(self, module: str) -> Iterator[None]:
        patches = self._hidden.get(module) if self in sys.meta_path else None
        if patches is None:
            yield
            return
        patches.__exit__(None, None, None)
        try:
            yield
        finally:
            patches.__enter__()
