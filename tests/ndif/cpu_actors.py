"""Models of NDIF on the CPU, where its own ask for CUDA at every turn."""

import gc

import ray
from ndif.services.ray.sandbox.model import SandboxModelDeployment
from nnsight.modeling.huggingface import HuggingFaceModel


def load(deployment):
    model = HuggingFaceModel.from_model_key(
        deployment.model_key, dispatch=True, dtype=deployment.dtype_name, device="cpu", **deployment.kwargs
    )
    model._module.requires_grad_(False)
    return model


class OnCpu(SandboxModelDeployment):
    """Requests of trusted keys run in its process, those of others in one of their own."""

    # There is no other memory to park it in.
    CACHEABLE = False
    load_from_disk = load

    def cleanup(self):
        self.discard_sandbox()
        self.kill_switch.clear()
        self.kill_reason = None
        self.execution_ident = None
        self.model.interleaver.cancel()
        gc.collect()


@ray.remote(num_cpus=1, max_restarts=-1)
class Actor(OnCpu):
    pass
