"""Every name of torch that is used or replaced here although no documentation promises it.

No other module of ``bagel_perf`` touches one, which a test holds. Each is looked up where a device or a watch opens, or
once with the module that calls it; what this torch lacks is in the notes of every count, and where the count itself
would be wrong, it is open as well.

To add one: a constant here, with every path under which some version has it. ``find()`` gives the object or the
stand-in, ``Patches.replace`` replaces it. Attributes of torch's objects are used in place once ``MEMBERS`` has them.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from bagel_perf.rules.torch_versions import Lack, Side, TorchName

SIMULATED: tuple[Side, ...] = ("simulated",)
CUDA: tuple[Side, ...] = ("cuda",)


def simulated_name(
    *paths: str, use: str, cost: str, lack: Lack = "figures", stand_in: Any = None, is_added: bool = False
) -> TorchName:
    sides = SIMULATED
    return TorchName(paths=paths, use=use, cost=cost, lack=lack, sides=sides, stand_in=stand_in, is_added=is_added)


def _cuda(*paths: str, use: str, cost: str, lack: Lack = "rest", stand_in: Any = None) -> TorchName:
    return TorchName(paths=paths, use=use, cost=cost, lack=lack, sides=CUDA, stand_in=stand_in)


def _both(*paths: str, use: str, cost: str, lack: Lack = "rest", stand_in: Any = None) -> TorchName:
    return TorchName(paths=paths, use=use, cost=cost, lack=lack, sides=SIMULATED + CUDA, stand_in=stand_in)


class Absent(AbstractContextManager[None]):
    """Stands for a type that this torch lacks: nothing is an instance, and its context does nothing."""

    def __exit__(self, *raised: object) -> None:
        pass


_NOTHING = "nothing can be counted"
_TWICE = "what hooks and custom functions wait for is counted with the call around them"

# Calls, and the operators inside them.

DISABLE_TORCH_FUNCTION = simulated_name(
    "torch._C.DisableTorchFunction",
    use="under which a tensor of the device is the CPU tensor underneath",
    cost=_NOTHING,
    lack="all",
    stand_in=nullcontext,
)
ENABLE_TORCH_FUNCTION = simulated_name(
    "torch._C._EnableTorchFunction",
    use="under which hooks inside a call are judged by themselves",
    cost="hooks of saved tensors get host tensors",
    stand_in=nullcontext,
)
IS_TORCH_FUNCTION_ENABLED = simulated_name(
    "torch._C._is_torch_function_enabled",
    use="which tells whether a hook runs inside a call",
    cost="hooks of saved tensors get host tensors",
    stand_in=lambda: True,
)
DISABLED_TORCH_FUNCTION = _both(
    "torch._C._disabled_torch_function_impl",
    "torch.nn.Parameter.__torch_function__",
    use="which marks types that override no function",
    cost="torch's modules may leave their fused paths while they are counted",
)
FUNCTION_MODES = _both(
    "torch.overrides._get_current_function_mode_stack",
    use="which names the modes of other people",
    cost="torch's modules stay on their fused paths under a program's own mode",
    stand_in=list,
)
HAS_TORCH_FUNCTION = _both(
    "torch.overrides.has_torch_function",
    use="by which torch's modules choose their path",
    cost="torch's modules leave their fused paths while they are counted",
)
FUNCTIONS_CHECK = simulated_name(
    "torch.nn.functional.has_torch_function_unary",
    "torch.nn.functional.has_torch_function",
    use="by which torch's functions of Python are known",
    cost="functions of Python are judged by the CPU's operators alone",
)
DISPATCH_MODE = simulated_name(
    "torch.utils._python_dispatch.TorchDispatchMode",
    use="which shows the operators inside a call",
    cost=_NOTHING,
    lack="all",
    stand_in=Absent,
)
_DispatchMode: Any = DISPATCH_MODE.find()


class OperatorMode(_DispatchMode):  # type: ignore[misc]
    """A mode that sees operators, and does not have torch import its compiler first to keep that out of them."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


POP_DISPATCH_MODE = simulated_name(
    "torch.utils._python_dispatch._pop_mode_temporarily",
    use="which suspends looking into a call",
    cost=_TWICE,
    stand_in=nullcontext,
)
NUM_DISPATCH_MODES = simulated_name(
    "torch._C._len_torch_dispatch_stack",
    use="which tells whether a call is looked into",
    cost=_TWICE,
    stand_in=lambda: 0,
)
DISPATCH_MODE_AT = simulated_name(
    "torch._C._get_dispatch_stack_at",
    use="which tells whether a call is looked into",
    cost=_TWICE,
    stand_in=lambda place: None,
)
OPERATOR = _both("torch._ops.OpOverload", use="the type of operators", cost="operators have no names", stand_in=Absent)
OPERATOR_PACKET = _both(
    "torch._ops.OpOverloadPacket", use="the type of operators", cost="operators have no names", stand_in=Absent
)
SCHEMA = _both("torch.ops.aten.add.Tensor._schema", use="which has the name of an operator", cost=_NOTHING, lack="all")

_WHOLE = "waits inside composite operators are in no count under torch.inference_mode"
HAS_KERNEL = simulated_name(
    "torch._C._dispatch_has_kernel_for_dispatch_key",
    use="which tells whether an operator is made of others",
    cost=_WHOLE,
    stand_in=lambda name, key: False,
)
COMPOSITE_KEY = simulated_name(
    "torch._C.DispatchKey.CompositeImplicitAutograd", use="which names the kernel that calls them", cost=_WHOLE
)
COMPOSITE_KERNEL = simulated_name("torch.ops.aten.add.Tensor._op_dk", use="which runs that kernel", cost=_WHOLE)

_CUSTOM = "custom operators stop at torch's own error"
HANDLE = simulated_name("torch.ops.aten.add.Tensor._handle", use="by which an operator is called", cost=_CUSTOM)
PACKET_NAME = simulated_name("torch.ops.aten.add._qualified_op_name", use="the name of an operator", cost=_CUSTOM)

# Tensors, storages, and the functions that make them.

MAKE_SUBCLASS = simulated_name(
    "torch.Tensor._make_subclass",
    use="which makes a leaf a tensor of the device",
    cost="leaves are made by detaching, which is slower",
    lack="rest",
    stand_in=lambda kind, tensor, needs_grad: tensor.detach().as_subclass(kind).requires_grad_(needs_grad),
)
DEFAULT_DEVICE = simulated_name(
    "torch.utils._device.CURRENT_DEVICE",
    use="the default device",
    cost="what a program makes without naming a device is taken for the host's",
)
FACTORIES = simulated_name(
    "torch.utils._device._device_constructors",
    use="the functions that make tensors on the default device",
    cost="what they make is taken for the host's",
    stand_in=frozenset,
)
STORAGE_ID = simulated_name(
    "torch.UntypedStorage._cdata",
    use="by which a storage is known again",
    cost=_NOTHING,
    lack="all",
)
STORAGE_BASE = simulated_name(
    "torch.storage._StorageBase",
    use="the type of storages",
    cost="copies of storages to the device are in no count",
    stand_in=Absent,
)
STORAGE_CUDA = simulated_name(
    "torch.storage._StorageBase.cuda",
    use="which copies a storage to the device",
    cost="such copies are in no count",
)
STORAGE_TO = simulated_name(
    "torch.storage._StorageBase.to",
    use="which copies a storage to the device",
    cost="such copies are in no count",
)
STORAGE_REF = simulated_name(
    "torch.multiprocessing.reductions.StorageWeakRef",
    use="which tells whether pinned memory is still there",
    cost="which memory is pinned is not known",
    lack="all",
)
REDUCE_EX = simulated_name(
    "torch.Tensor._reduce_ex_internal",
    use="which pickles a tensor",
    cost="a tensor of the device cannot be pickled",
    lack="rest",
)
REBUILD_PARAMETER = simulated_name(
    "torch._utils._rebuild_parameter",
    use="which makes a parameter out of a pickle",
    cost="a parameter of the device cannot be pickled",
    lack="rest",
)
TENSOR_TEXT = simulated_name(
    "torch._tensor_str._str",
    use="which reads the values that it prints",
    cost="reads of printed tensors are in no count",
    stand_in=lambda tensor, **options: f"tensor(..., size={tuple(tensor.shape)})",
)

# Backward passes, and functions of the program in them.

ENGINE = simulated_name(
    "torch.autograd.variable.Variable._execution_engine",
    use="which runs a backward pass",
    cost=_NOTHING,
    lack="all",
)
APPLY = simulated_name(
    "torch.autograd.Function.apply",
    use="which runs a custom function",
    cost="views that custom functions give are taken for the host's",
)
SAVE_FOR_BACKWARD = simulated_name(
    "torch.autograd.function.FunctionCtx.save_for_backward",
    use="which keeps tensors for a backward pass",
    cost="saved tensors are taken for the host's in custom functions",
)
SAVED_TENSORS = simulated_name(
    "torch.autograd.function.BackwardCFunction.saved_tensors",
    use="which gives them back",
    cost="saved tensors are taken for the host's in custom functions",
)
SAVED_TENSORS_HOOKS = simulated_name(
    "torch.autograd.graph.saved_tensors_hooks.__init__",
    use="which takes hooks of saved tensors",
    cost="hooks of saved tensors get host tensors",
)
TRANSFORMS = tuple(
    simulated_name(
        f"torch._functorch.{name}",
        use="with which function transforms wrap a tensor",
        cost="waits inside torch.vmap and torch.func are in no count",
    )
    for name in (
        "vmap._add_batch_dim",
        "vmap._remove_batch_dim",
        "vmap._maybe_remove_batch_dim",
        "eager_transforms._wrap_for_grad",
        "eager_transforms._unwrap_for_grad",
        "eager_transforms._wrap_tensor_for_grad",
        "eager_transforms._maybe_wrap_functional_tensor",
        "eager_transforms._maybe_unwrap_functional_tensor",
    )
)

# Compilers, optimizers, profilers, and torch.cuda.

SCRIPTED_CALLS = tuple(
    simulated_name(
        f"torch._C.{name}.__call__",
        use="which runs what torch.jit made",
        cost="waits inside of it are in no count",
    )
    for name in ("ScriptFunction", "ScriptMethod")
)
GROUP_TENSORS = simulated_name(
    "torch._C._group_tensors_by_device_and_dtype",
    use="by which optimizers sort parameters",
    cost="optimizers may take another path than on CUDA",
)
FOREACH_TYPES = tuple(
    simulated_name(
        f"torch.{path}._foreach_supported_types",
        use="the types that optimizers treat together",
        cost="optimizers take another path than on CUDA",
    )
    for path in ("optim.optimizer", "utils._foreach_utils")
)
PROFILE_INIT = _both(
    "torch.autograd.profiler.profile.__init__",
    use="which starts a profiler of the program's",
    cost="a program that profiles CUDA stops at torch's own error",
)
GET_ACCELERATOR = simulated_name(
    "torch._C._get_accelerator",
    use="which names the accelerator",
    cost="functions that ask for the accelerator find none",
    lack="rest",
)
SET_DEFAULT_TENSOR_TYPE = simulated_name(
    "torch.set_default_tensor_type",
    use="which sets the default device in an older way",
    cost="a program that calls it stops at torch's own error",
    lack="rest",
)
SCATTER = simulated_name(
    "torch._C._scatter",
    use="which nn.DataParallel copies with",
    cost="nothing, it is put there",  # builds of torch for the CPU never have it
    lack="rest",
    is_added=True,
)
SLEEP = simulated_name(
    "torch.cuda._sleep",
    use="which keeps a GPU busy",
    cost="a program that calls it stops at torch's own error",
    lack="rest",
)
LAZY_INIT = simulated_name(
    "torch.cuda._lazy_init",
    use="which every call that reaches CUDA asks",
    cost="such a call stops at torch's own error instead of a sentence",
    lack="rest",
)
# On a GPU.

GPU_TRACE = _cuda("torch.cuda._gpu_trace", use="which calls back when the host waits", cost=_NOTHING, lack="all")
ACTIVATE_GPU_TRACE = _cuda("torch._C._activate_gpu_trace", use="which has it call back", cost=_NOTHING, lack="all")
C10_SWITCH = "_ZN3c104impl8GPUTrace9haveStateE"
"""``c10::impl::GPUTrace::haveState`` in torch's core library; without it callbacks stay on, which reports note."""
ENGINE_RUN_BACKWARD = _cuda(
    "torch.autograd._engine_run_backward",
    use="in which the host waits for a backward pass",
    cost="waits of backward passes have no line",
)
EXPERIMENTAL_CONFIG = _cuda(
    "torch._C._profiler._ExperimentalConfig",
    use="which has a profile record waits",
    cost="the profile knows no events of waits",
    stand_in=lambda **options: None,
)
RECORD_FUNCTION_FAST = _cuda(
    "torch._C._profiler._RecordFunctionFast",
    "torch.profiler.record_function",
    use="which ties a wait in a profile to its line",
    cost="waits have no times",
)
ENABLE_PROFILER = _cuda(
    "torch.autograd.profiler._enable_profiler",
    use="which starts a profiler of the program's",
    cost="a program that profiles itself ends our profile with an error",
)
DEVICE_TYPE = _cuda(
    "torch._C._autograd.DeviceType",
    "torch.autograd.DeviceType",
    use="by which a profile tells host and device apart",
    cost="device work is not counted",
)
FLASH_ATTENTION = _cuda(
    "torch.ops.aten._flash_attention_forward",
    use="the attention of several lengths in one call",
    cost="it is not there",
)

MEMBERS = (SCHEMA, STORAGE_ID, COMPOSITE_KERNEL, HANDLE, PACKET_NAME)
"""Attributes of torch's objects that are used in place."""


_DEFAULT_DEVICE_AT: tuple[Any, str] = DEFAULT_DEVICE.place() or (None, DEFAULT_DEVICE.name)


def default_device() -> torch.device | None:
    """The default device that is set now, None where none is."""
    device: torch.device | None = getattr(*_DEFAULT_DEVICE_AT, None)
    return device


def untyped(storage: Any) -> Any:
    """The untyped storage inside a typed one; anything else as it is."""
    return getattr(storage, "_untyped_storage", storage)


def dynamo_counters() -> dict[str, Any]:
    """What torch.compile has counted so far; empty where nothing was compiled, or where torch counts elsewhere."""
    counters: dict[str, Any] = getattr(sys.modules.get("torch._dynamo.utils"), "counters", {})
    return counters
