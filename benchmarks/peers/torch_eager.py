"""PyTorch, eager: its own convolution, batch norm, pooling, loss and fused Adam.

Written to be as fast as possible: NCHW and channels_last are both timed; asymmetric SAME padding is a pad
of its own only where it is asymmetric; pooling pads by ``ceil_mode``; no gradient is computed of conv biases,
whose gradient is exactly zero before a batch norm; Adam is the fused one.  torch.optim's Adam adds
epsilon to the corrected √v, ours to the uncorrected: with epsilon = 1e-8 the steps agree far within the
benchmark's tolerance.  The MAML gradient and the Hessian product go through ``create_graph``.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch._dynamo  # Adam imports it; imported after TensorFlow it crashes
import torch.nn.functional as F

from reptile_np.bench.workloads import (
    Answer,
    Contender,
    HessianProduct,
    InnerLoop,
    MetaGradient,
    MetaIteration,
    Workload,
)
from reptile_np.meta.optimizers import Adam
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SquaredError
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu, Tanh


def variants(threads: int) -> dict[str, Callable[[Workload], Contender | None]]:
    torch.set_num_threads(threads)
    return {
        "torch-eager": lambda workload: contender(workload, torch.contiguous_format),
        "torch-channels-last": lambda workload: (
            contender(workload, torch.channels_last) if is_images(workload) else None
        ),
    }


def is_images(workload):
    model = getattr(workload, "model", None)
    return model is not None and len(model.input_shape) == 3


def contender(workload: Workload, memory_format: torch.memory_format) -> Contender | None:
    kinds = {
        InnerLoop: inner_loop,
        MetaIteration: meta_iteration,
        HessianProduct: hessian_product,
        MetaGradient: meta_gradient,
    }
    make = kinds.get(type(workload))
    return make(workload, Net(workload.model, memory_format)) if make else None


class Net:
    """The torch twin of one of our models: parameters are a list of tensors in the order of φ."""

    def __init__(self, model, memory_format):
        self.model, self.memory_format = model, memory_format
        self.names = list(model.layout.shapes)

    def parameters(self, phi):
        """Return φ's pieces as tensors that want gradients: OIHW kernels, (out, in) dense weights."""
        return [self._tensor(view).requires_grad_(self.wants(name)) for name, view in self._views(phi)]

    def wants(self, name):
        """Whether a parameter is differentiated by."""
        return not (name.startswith("conv") and name.endswith("bias"))

    def vector(self, tensors):
        """Return tensors in the order of φ as one vector (n,); None is a zero gradient."""
        pieces = []
        for tensor, shape in zip(tensors, self.model.layout.shapes.values(), strict=True):
            a = np.zeros(shape, np.float32) if tensor is None else tensor.detach().numpy()
            pieces.append(np.ravel(a.transpose(_ORDER_BACK[a.ndim]) if tensor is not None else a))
        return np.concatenate(pieces)

    def batch(self, batch):
        """Return a minibatch as tensors, images NCHW."""
        x, y = (torch.from_numpy(np.array(a)) for a in batch)
        if x.ndim == 4:
            x = x.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)
        return x, y

    def loss(self, parameters, batch):
        """Return the minibatch's loss."""
        x, y = batch
        z = self.forward(parameters, x)
        if isinstance(self.model.loss, SquaredError):
            return F.mse_loss(z, y)
        return F.cross_entropy(z, y, reduction="sum")

    def forward(self, parameters, x):
        """Return the outputs (b, o)."""
        p = iter(parameters)
        for layer in self.model.layers:
            match layer:
                case Conv2d():
                    (top, bottom), (left, right) = layer.pad(*x.shape[2:])
                    if (top, left) == (bottom, right):
                        x = F.conv2d(x, next(p), next(p), layer.stride, (top, left))
                    else:
                        x = F.conv2d(F.pad(x, (left, right, top, bottom)), next(p), next(p), layer.stride)
                case BatchNorm():
                    x = F.batch_norm(x, None, None, next(p), next(p), training=True, eps=layer.epsilon)
                case MaxPool():
                    x = F.max_pool2d(x, layer.size, layer.stride, ceil_mode=True)
                case Relu():
                    x = F.relu(x)
                case Tanh():
                    x = torch.tanh(x)
                case Flatten():
                    x = x.permute(0, 2, 3, 1).reshape(len(x), -1)
                case Dense():
                    x = F.linear(x, next(p), next(p))
        return x

    def _views(self, phi):
        return self.model.layout.views(phi).items()

    def _tensor(self, view):
        tensor = torch.from_numpy(np.ascontiguousarray(view.transpose(_ORDER[view.ndim])))
        return tensor.contiguous(memory_format=self.memory_format) if tensor.ndim == 4 else tensor.clone()


_ORDER = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}  # ours → torch's: (in, out) → (out, in), HWIO → OIHW
_ORDER_BACK = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}


class Trainer:
    """Parameters with their optimiser, which takes steps in place."""

    def __init__(self, net, optimizer, phi, state):
        self.net, self.start = net, net.parameters(phi)
        self.parameters = [p.detach().clone().requires_grad_(p.requires_grad) for p in self.start]
        wanted = [p for p in self.parameters if p.requires_grad]
        if isinstance(optimizer, Adam):
            self.optimizer = torch.optim.Adam(
                wanted,
                optimizer.learning_rate,
                betas=(optimizer.beta1, optimizer.beta2),
                eps=optimizer.epsilon,
                fused=True,
            )
            self.moments = net.parameters(state.v)
            self.steps = float(state.t)
        else:
            self.optimizer = torch.optim.SGD(wanted, optimizer.learning_rate, fused=True)
            self.moments = None

    @torch.no_grad()
    def reset(self):
        """Go back to the starting φ and optimiser state."""
        self.load(self.start)
        if self.moments is None:
            return
        for p, v in zip(self.parameters, self.moments, strict=True):
            if p.requires_grad:
                self.optimizer.state[p] = {
                    "step": torch.tensor(self.steps),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": v.detach().clone(),
                }

    @torch.no_grad()
    def load(self, parameters):
        """Copy parameters in."""
        torch._foreach_copy_(self.parameters, parameters)

    def step(self, batch):
        """Take one step; return the loss before it."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.net.loss(self.parameters, batch)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def inner_loop(workload: InnerLoop, net: Net) -> Contender:
    trainer = Trainer(net, workload.optimizer, workload.phi, workload.state)
    batches = [net.batch(batch) for batch in workload.batches]

    def run():
        return [trainer.step(batch) for batch in batches]

    def read(losses):
        return Answer(np.array(losses), net.vector(trainer.parameters) - workload.phi)

    return Contender(run, read, trainer.reset)


def meta_iteration(workload: MetaIteration, net: Net) -> Contender:
    trainer = Trainer(net, workload.inner, workload.phi, workload.state)
    preset = workload.episodes.preset
    tasks = preset.outer.meta_batch

    def run():
        total = [torch.zeros_like(p) for p in trainer.parameters]
        first = last = 0.0
        for j in range(tasks):
            trainer.load(trainer.start)
            losses = [trainer.step(net.batch(batch)) for batch in workload.episodes.training(0, j)]
            first, last = first + losses[0], last + losses[-1]
            with torch.no_grad():
                torch._foreach_add_(total, trainer.parameters)
        with torch.no_grad():
            torch._foreach_mul_(total, workload.rate / tasks)
            torch._foreach_add_(total, trainer.start, alpha=1 - workload.rate)
        return first / tasks, last / tasks, total

    def read(result):
        first, last, phi = result
        return Answer(np.array([first, last]), net.vector(phi) - workload.phi)

    return Contender(run, read, trainer.reset)


def hessian_product(workload: HessianProduct, net: Net) -> Contender:
    parameters, v, batch = net.parameters(workload.phi), net.parameters(workload.v), net.batch(workload.batch)
    wanted = [i for i, p in enumerate(parameters) if p.requires_grad]
    v = [v[i].detach() for i in wanted]

    def run():
        inputs = [parameters[i] for i in wanted]
        grads = torch.autograd.grad(net.loss(parameters, batch), inputs, create_graph=True)
        return torch.autograd.grad(grads, inputs, v)

    return Contender(run, lambda hv: Answer(np.zeros(0), _scatter(net, wanted, hv)))


def meta_gradient(workload: MetaGradient, net: Net) -> Contender:
    start = net.parameters(workload.phi)
    wanted = [i for i, p in enumerate(start) if p.requires_grad]
    batches = [net.batch(batch) for batch in workload.batches]

    def run():
        parameters, losses = list(start), []
        for batch in batches[:-1]:
            loss = net.loss(parameters, batch)
            grads = torch.autograd.grad(loss, [parameters[i] for i in wanted], create_graph=True)
            for i, grad in zip(wanted, grads, strict=True):
                parameters[i] = parameters[i] - workload.alpha * grad
            losses.append(loss)
        losses.append(net.loss(parameters, batches[-1]))
        return losses, torch.autograd.grad(losses[-1], [start[i] for i in wanted])

    def read(result):
        losses, grads = result
        return Answer(np.array([loss.item() for loss in losses]), _scatter(net, wanted, grads))

    return Contender(run, read)


def _scatter(net, wanted, tensors):
    """Return the vector (n,) with the tensors at their places and zeros at the biases nobody asked for."""
    whole = [None] * len(net.names)
    for i, tensor in zip(wanted, tensors, strict=True):
        whole[i] = tensor
    return net.vector(whole)
