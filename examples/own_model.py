"""A layer of your own: its four faces (value, VJP, JVP, JVP of the VJP), checked, and trained by exact MAML.

The layer is Swish with a learned slope b, y = x s(b x) with the logistic function s (Ramachandran et al.
2017).  A network with it has an exact gradient and exact Hessian products.  The checks find
a term that is missing in a face.

    python examples/own_model.py
"""

from dataclasses import dataclass

import numpy as np

from reptile_np.checks import CheckFailure, check_grad, check_hvp, check_taylor_order
from reptile_np.meta import inner_loop, meta_gradients
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn.faces import Layer
from reptile_np.nn.layers import Dense
from reptile_np.nn.losses import SquaredError
from reptile_np.nn.models import Model
from reptile_np.tasks import sine


@dataclass(frozen=True)
class Swish(Layer):
    """``y = x s(u)`` with u = b x.  Below, s1 = s'(u) = s (1 - s) and s2 = s''(u) = s1 (1 - 2 s)."""

    label = "swish"

    def shapes(self, size):
        """One parameter: the slope b."""
        return {"slope": (1,)}

    def init(self, rng, size):
        """Start as x s(x)."""
        return (np.ones(1),)

    def forward(self, theta, x, ops):
        """The value, and what the other faces read."""
        (b,) = theta
        s = 1 / (1 + np.exp(-b * x))
        return x * s, (b, x, s, s * (1 - s))

    def backward(self, saved, y_bar, ops, want_x_bar=True):
        """The adjoints: dy/dx = s + u s1 and dy/db = x² s1."""
        b, x, s, s1 = saved
        return y_bar * (s + b * x * s1), (np.sum(y_bar * x**2 * s1, keepdims=True).reshape(1),)

    def forward_dot(self, saved, theta_dot, x_dot, ops):
        """The tangent y_dot = (s + u s1) x_dot + x² s1 b_dot."""
        b, x, s, s1 = saved
        (b_dot,) = theta_dot
        return (s + b * x * s1) * x_dot + x**2 * s1 * b_dot, (x_dot, b_dot * x + b * x_dot)

    def backward_dot(self, saved, dot, y_bar, y_bar_dot, ops, want_x_bar=True):
        """The tangents of the adjoints: those of y_bar_dot, and the second-order terms."""
        b, x, s, s1 = saved
        x_dot, u_dot = dot
        s2 = s1 * (1 - 2 * s)
        x_bar_dot, (b_bar_dot,) = self.backward(saved, y_bar_dot, ops)
        x_bar_dot = x_bar_dot + y_bar * (2 * s1 + b * x * s2) * u_dot  # second-order term
        second = y_bar * (2 * x * x_dot * s1 + x**2 * s2 * u_dot)  # second-order term
        return x_bar_dot, (b_bar_dot + second.sum().reshape(1),)


class WithoutSecondOrder(Swish):
    """Swish without its two second-order terms, to show what the checks report."""

    def backward_dot(self, saved, dot, y_bar, y_bar_dot, ops, want_x_bar=True):
        """Return the adjoints of y_bar_dot only."""
        return self.backward(saved, y_bar_dot, ops)


def network(layer):
    """Return a regression network 1-16-16-1 with this layer."""
    layers = (Dense(16, "fan_in"), layer, Dense(16, "fan_in"), layer, Dense(1, "fan_in"))
    return Model(layers, (1,), SquaredError("mean"))


def main():
    """Check the layer, let a check find what `WithoutSecondOrder` lacks, and compute a direction of MAML."""
    rng = np.random.default_rng(0)
    model = network(Swish())
    phi = model.init(rng, dtype=np.float64)
    batch = sine.sample_task(rng, dtype=np.float64).support
    print(check_grad(model.loss_and_grad, phi, batch))
    print(check_hvp(model.loss_and_grad, model.hvp, phi, batch))
    print(check_taylor_order(model.loss_and_grad, phi, batch, hvp=model.hvp))
    wrong = network(WithoutSecondOrder())
    try:
        check_hvp(wrong.loss_and_grad, wrong.hvp, phi, batch)
    except CheckFailure as failure:
        print(f"without the second-order terms: {failure}")
    t = inner_loop.adapt(model, Sgd(0.02), phi, [batch] * 5)
    direction = meta_gradients.maml(model, 0.02)(t)
    print(f"exact MAML through 5 steps: a direction of norm {np.linalg.norm(direction):.3f}")


if __name__ == "__main__":
    main()
