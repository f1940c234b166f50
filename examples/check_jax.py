"""Check the gradient of a JAX function of a pytree, and find out which method its meta-gradient belongs to.

`ravel_pytree` makes one flat vector of any pytree of parameters, and back.

    python examples/check_jax.py
"""

import sys

import numpy as np

from reptile_np.checks import check_grad, check_hvp, meta_gradient_expansion

try:
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree
except ImportError:
    print("JAX is not installed: pip install jax")
    sys.exit(0)

jax.config.update("jax_enable_x64", True)  # differences need float64
rng = np.random.default_rng(0)
parameters = {
    "hidden": {"w": rng.standard_normal((3, 5)), "b": rng.standard_normal(5)},
    "out": {"w": rng.standard_normal((5, 1)), "b": rng.standard_normal(1)},
}
flat, unravel = ravel_pytree(parameters)
phi = np.asarray(flat)


def loss(p, batch):
    """Return the mean squared error of the network at the flat parameters p."""
    x, y = batch
    tree = unravel(p)
    hidden = jnp.tanh(x @ tree["hidden"]["w"] + tree["hidden"]["b"])
    return jnp.mean((hidden @ tree["out"]["w"] + tree["out"]["b"] - y) ** 2)


@jax.jit
def hessian_times(p, batch, v):
    """Return the Hessian times v."""
    return jax.jvp(lambda q: jax.grad(loss)(q, batch), (p,), (v,))[1]


value_and_grad = jax.jit(jax.value_and_grad(loss))


def loss_and_grad(at, batch):
    """Return the loss and its gradient, as NumPy."""
    value, grad = value_and_grad(at, batch)
    return float(value), np.asarray(grad)


def hvp(at, batch, v):
    """Return the Hessian times v, as NumPy."""
    return np.asarray(hessian_times(at, batch, v))


def maml(at, batches, alpha, stop=lambda g: g):
    """Return MAML's meta-gradient; ``stop=jax.lax.stop_gradient`` makes it FOMAML's."""

    def last_loss(p):
        for batch in batches[:-1]:
            p = p - alpha * stop(jax.grad(loss)(p, batch))
        return loss(p, batches[-1])

    return np.asarray(jax.grad(last_loss)(at))


def task():
    """Return the minibatches of one task."""
    return [(rng.standard_normal((6, 3)), rng.standard_normal((6, 1))) for _ in range(3)]


batch = task()[0]
print(check_grad(loss_and_grad, phi, batch))
print(check_hvp(loss_and_grad, hvp, phi, batch))
tasks = [task() for _ in range(2)]
for name, method in (
    ("jax.grad through the inner loop", maml),
    ("stop_gradient", lambda *arguments: maml(*arguments, stop=jax.lax.stop_gradient)),
):
    found = meta_gradient_expansion(method, loss_and_grad, hvp, phi, tasks, k=3)
    print(f"with {name}: {found.method}")
