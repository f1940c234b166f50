"""PyTorch compiled: ``torch.compile`` (inductor) of the eager network's loss and gradient, fused Adam."""

import torch

from peers import torch_eager
from reptile_np.bench.workloads import InnerLoop, MetaIteration


def variants(threads):
    torch.set_num_threads(threads)
    torch._dynamo.config.recompile_limit = 256  # one function for all workloads; past it: uncompiled
    return {
        "torch-compiled": lambda workload: contender(workload, torch.contiguous_format),
        "torch-compiled-channels-last": lambda workload: (
            contender(workload, torch.channels_last) if torch_eager.is_images(workload) else None
        ),
    }


class CompiledNet(torch_eager.Net):
    """The eager twin with its loss compiled; autograd compiles the backward pass with it."""

    def __init__(self, model, memory_format):
        super().__init__(model, memory_format)
        self.loss = torch.compile(super().loss, dynamic=False)


def contender(workload, memory_format):
    if isinstance(workload, InnerLoop):
        return torch_eager.inner_loop(workload, CompiledNet(workload.model, memory_format))
    if isinstance(workload, MetaIteration):
        return torch_eager.meta_iteration(workload, CompiledNet(workload.model, memory_format))
    return None
