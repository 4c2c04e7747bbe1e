"""A runtime-environment hook of Ray's: ``RAY_RUNTIME_ENV_HOOK=bagel_perf.ray_hook.arm`` in the driver's environment.

Workers of a cluster that runs already inherit nothing of the driver's; what this adds is given to those of its job.
"""

from __future__ import annotations

from typing import Any

from bagel_perf.watch_orders import variables, watch_where_asked

OF_THE_NODE = "${PYTHONPATH}"
"""Ray replaces it by what the worker has."""


def arm(runtime_env: dict[str, Any] | None) -> dict[str, Any]:
    """Adds what arms the workers of a job to their variables, and watches the driver, where a watch is asked for.

    The others stay, as does the user's PYTHONPATH.
    """
    wanted = dict(runtime_env or {})
    folder = watch_where_asked()
    if not folder:
        return wanted
    own = dict(wanted.get("env_vars") or {})
    return {**wanted, "env_vars": {**own, **variables(folder, own.get("PYTHONPATH", OF_THE_NODE))}}
