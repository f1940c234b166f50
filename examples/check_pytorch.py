"""Check the gradient of a PyTorch module, and find out which method its meta-gradient belongs to.

The checks take plain functions of one flat vector; `functional_call` makes such functions of any module.

    python examples/check_pytorch.py
"""

import sys

import numpy as np

from reptile_np.checks import CheckFailure, check_grad, check_hvp, meta_gradient_expansion

try:
    import torch
    from torch.func import functional_call
except ImportError:
    print("PyTorch is not installed: pip install torch")
    sys.exit(0)

rng = np.random.default_rng(0)
torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()
shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
ends = np.cumsum([p.numel() for p in module.parameters()]).tolist()
phi = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()


def loss(p, batch):
    """Return the module's cross-entropy at the flat parameters p."""
    pieces = torch.tensor_split(p, ends[:-1])
    named = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
    x, y = map(torch.as_tensor, batch)
    return torch.nn.functional.cross_entropy(functional_call(module, named, x), y)


def loss_and_grad(at, batch):
    """Return the loss and its gradient, as NumPy."""
    p = torch.tensor(at, requires_grad=True)
    value = loss(p, batch)
    return value.item(), torch.autograd.grad(value, p)[0].numpy()


def hvp(at, batch, v):
    """Return the Hessian times v, as NumPy."""
    return torch.autograd.functional.hvp(lambda p: loss(p, batch), torch.tensor(at), torch.tensor(v))[
        1
    ].numpy()


def maml(at, batches, alpha, detached=False):
    """Return MAML's meta-gradient; `detached=True` leaves out the second-order terms, as FOMAML does."""
    start = p = torch.tensor(at, requires_grad=True)
    for batch in batches[:-1]:
        (g,) = torch.autograd.grad(loss(p, batch), p, create_graph=not detached)
        p = p - alpha * g
    return torch.autograd.grad(loss(p, batches[-1]), start)[0].numpy()


def task():
    """Return the minibatches of one task."""
    return [(rng.standard_normal((6, 3)), rng.integers(0, 2, 6)) for _ in range(3)]


batch = task()[0]
print(check_grad(loss_and_grad, phi, batch, shapes=shapes))
print(check_hvp(loss_and_grad, hvp, phi, batch, shapes=shapes))
tasks = [task() for _ in range(3)]
for name, method in (
    ("create_graph=True", maml),
    ("create_graph=False", lambda *arguments: maml(*arguments, detached=True)),
):
    found = meta_gradient_expansion(method, loss_and_grad, hvp, phi, tasks, k=3)
    print(f"with {name}: {found.method}")
try:
    check_grad(lambda at, b: (loss_and_grad(at, b)[0], 2 * loss_and_grad(at, b)[1]), phi, batch)
except CheckFailure as failure:
    print(f"a gradient that is twice too large: {failure}")
