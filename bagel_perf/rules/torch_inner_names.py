"""More names of torch that no documentation promises, of what lies beside its functions: see ``torch_names``."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from bagel_perf.rules.torch_names import Absent, simulated_name

IS_BATCHED = simulated_name(
    "torch._C._functorch.is_batchedtensor",
    use="which tells what torch.vmap passes to a function",
    cost="an index under torch.vmap is taken for one that is read",
    stand_in=lambda tensor: False,
)

# Settings.

SETTERS = {
    setting: simulated_name(
        f"torch._C.{name}",
        use=f"which sets {setting}",
        cost="the line that sets it is not named",
        lack="rest",
    )
    for setting, name in {
        "threads": "set_num_threads",
        "default dtype": "_set_default_dtype",
        "float32 matmul precision": "_set_float32_matmul_precision",
        "deterministic algorithms": "_set_deterministic_algorithms",
        "cuDNN enabled": "_set_cudnn_enabled",
        "cuDNN benchmark": "_set_cudnn_benchmark",
        "cuDNN deterministic": "_set_cudnn_deterministic",
        "cuDNN TF32": "_set_cudnn_allow_tf32",
        "fp16 reduced precision reduction": "_set_cublas_allow_fp16_reduced_precision_reduction",
        "bf16 reduced precision reduction": "_set_cublas_allow_bf16_reduced_precision_reduction",
        "flash attention": "_set_sdp_use_flash",
        "efficient attention": "_set_sdp_use_mem_efficient",
        "math attention": "_set_sdp_use_math",
        "cuDNN attention": "_set_sdp_use_cudnn",
        "autocast on CUDA": "set_autocast_enabled",
        "autocast on the CPU": "set_autocast_enabled",
    }.items()
}

# Operators that packages register.

_CUSTOM = "custom operators are named as unjudged"
OPERATOR_KERNELS = simulated_name(
    "torch._C._dispatch_dump",
    use="which lists the kernels of an operator",
    cost=_CUSTOM,
    stand_in=lambda name: "CPU: registered at kernels.cpp:1 ::",
)
OPERATOR_TABLE = simulated_name(
    "torch._C._dispatch_dump_table",
    use="which lists what an operator does under each dispatch key",
    cost="custom operators may stop at torch's own error",
    stand_in=lambda name: "",
)
CALL_OPERATOR = simulated_name(
    "torch._C._dispatch_call_boxed",
    use="which calls an operator as C++ does",
    cost="custom operators and tensor wrappers stop at torch's own error",
)
DISPATCH_KEY = simulated_name("torch._C.DispatchKey", use="by which a kernel is chosen", cost=_CUSTOM)
DISPATCH_KEYS = simulated_name("torch._C.DispatchKeySet", use="by which a kernel is chosen", cost=_CUSTOM)
KEYS_OF_TENSOR = simulated_name("torch._C._dispatch_keys", use="by which a kernel is chosen", cost=_CUSTOM)
INCLUDED_KEYS = simulated_name(
    "torch._C._dispatch_tls_local_include_set", use="by which a kernel is chosen", cost=_CUSTOM
)
EXCLUDED_KEYS = simulated_name(
    "torch._C._dispatch_tls_local_exclude_set", use="by which a kernel is chosen", cost=_CUSTOM
)
RESOLVE_PACKET = simulated_name(
    "torch._C._jit_resolve_packet",
    use="which chooses among the overloads of an operator",
    cost="custom operators with several overloads stop at torch's own error",
)
TREE_LEAVES = simulated_name(
    "torch.utils._pytree.tree_leaves", use="which finds tensors in arguments", cost=_CUSTOM, stand_in=lambda tree: []
)

IS_BATCHED = simulated_name(
    "torch._C._functorch.is_batchedtensor",
    use="which tells whether torch.vmap runs an operator",
    cost="waits of custom operators inside torch.vmap are in no count",
    stand_in=lambda tensor: False,
)

# Classes of tensors with a dispatch of their own.

FAKE_TENSOR = simulated_name(
    "torch._subclasses.fake_tensor.FakeTensor",
    use="the type of tensors without values",
    cost="a backward pass of fake tensors stops at torch's own error",
    lack="rest",
    stand_in=Absent,
)
FUNCTIONAL_TENSOR = simulated_name(
    "torch._subclasses.functional_tensor.FunctionalTensor",
    use="the type of tensors that tracers make",
    cost="a backward pass inside a tracer stops at torch's own error",
    lack="rest",
    stand_in=Absent,
)
DISPATCH_MODE_OF = simulated_name(
    "torch._C._get_dispatch_mode",
    use="which tells whether tensors are fake",
    cost="fake tensors of the device are the host's",
    lack="rest",
    stand_in=lambda key: None,
)
FAKE_MODE = simulated_name(
    "torch._C._TorchDispatchModeKey.FAKE",
    use="which tells whether tensors are fake",
    cost="fake tensors of the device are the host's",
    lack="rest",
)
TO_COPY = simulated_name(
    "torch.ops.aten._to_copy.default",
    use="which copies across devices",
    cost="moves of wrappers stop at torch's own error",
)
PARAMETER_META = simulated_name(
    "torch.nn.parameter._ParameterMeta.__call__",
    use="which makes parameters",
    cost="classes derived from torch.nn.Parameter lose their own methods on the device",
    lack="rest",
    stand_in=type.__call__,
)
MAKE_WRAPPER = simulated_name(
    "torch.Tensor._make_wrapper_subclass",
    use="which makes a tensor of a class with a dispatch of its own",
    cost="gradients of such tensors stop at torch's own error",
    lack="rest",
)

# Storages.

NATIVE_STORAGE = simulated_name(
    "torch._C.StorageBase",
    use="which copies storages",
    cost="nothing can be counted",
    lack="all",
    stand_in=torch.UntypedStorage,
)
WRAP_STORAGE = simulated_name(
    "torch.TypedStorage._new_wrapped_storage",
    use="which gives a storage a type",
    cost="typed storages of the device cannot be copied",
    lack="rest",
)
TO_DLPACK = simulated_name(
    "torch._C._to_dlpack",
    use="which hands a tensor to another library",
    cost="such a tensor is taken for the host's",
)

# What torch.jit made, and what packages ask for.

SCRIPT_SAVES = tuple(
    simulated_name(
        f"torch.jit._script.RecursiveScriptModule.{name}",
        use="which saves what torch.jit made",
        cost="its copies are in no count",
    )
    for name in ("save", "save_to_buffer")
)
SCRIPT_PARTS = tuple(
    simulated_name(
        f"torch._C.{name}",
        use="which lists what a module of torch.jit holds",
        cost="modules of torch.jit that take no device tensors are taken for the host's",
        stand_in=lambda module: {},
    )
    for name in ("ParameterDict", "BufferDict", "ModuleDict")
)
NATIVE = simulated_name(
    "torch._C", use="which packages ask for names that a torch with CUDA has", cost="nothing can be counted", lack="all"
)
C10_GUARDS = "_ZN3c104impl26device_guard_impl_registryE"
"""``c10::impl::device_guard_impl_registry``: a pointer for each type of device, the CPU's first, CUDA's second."""


def decompositions() -> dict[Any, Any]:
    """What operators are made of in Python; empty where torch has no such table: such operators are refused then.

    Imports it, which takes a second and few programs need.
    """
    try:
        found: dict[Any, Any] = importlib.import_module("torch._decomp").decomposition_table
    except (ImportError, AttributeError):
        return {}
    return found
