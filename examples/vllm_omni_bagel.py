"""BAGEL in an installed vLLM-Omni: one picture of a prompt. One file for two releases, or for a setting of yours.

Needs an NVIDIA GPU, `pip install vllm vllm-omni`, and VLLM_OMNI_MODEL: the folder of ByteDance-Seed/BAGEL-7B-MoT.
"""

import copy
import importlib.util
import os
from pathlib import Path

CASES = {
    "512": {"height": 512, "width": 512, "steps": 20},
    "1024": {"height": 1024, "width": 1024, "steps": 50},
}
PROMPT = "A small red house at a lake, in the morning"


def setup(device):
    model = os.environ.get("VLLM_OMNI_MODEL", "")
    if importlib.util.find_spec("vllm_omni") is None:
        raise RuntimeError("vllm-omni is missing; pip install vllm vllm-omni")
    if not Path(model, "llm_config.json").is_file():
        raise RuntimeError(
            f"no BAGEL in VLLM_OMNI_MODEL ({model}); set it to the folder of ByteDance-Seed/BAGEL-7B-MoT"
        )
    if device.type != "cuda":
        raise RuntimeError("vLLM-Omni runs BAGEL on a GPU; here is none")

    import vllm_omni
    from vllm_omni.entrypoints.omni import Omni

    # In a single stage on one GPU, BAGEL runs in this process, where its waits are seen. By default it is split over
    # processes of its own.
    deploy = Path(vllm_omni.__file__).parent / "deploy" / "bagel_single_stage.yaml"
    if not deploy.is_file():
        raise RuntimeError("this vllm-omni has no deploy/bagel_single_stage.yaml; install 0.22 or later")
    return Omni(model=model, deploy_config=str(deploy))


def run(omni, case, seed):
    parameters = copy.deepcopy(omni.default_sampling_params_list)
    parameters[0].height = case["height"]
    parameters[0].width = case["width"]
    parameters[0].num_inference_steps = case["steps"]
    parameters[0].seed = seed
    prompt = {"prompt": f"<|im_start|>{PROMPT}<|im_end|>", "modalities": ["image"]}
    (answer,) = omni.generate(prompt, parameters, use_tqdm=False)
    return answer.images[0]
