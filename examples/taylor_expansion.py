"""Equations (9)-(14) of the paper, measured: their remainder is O(alpha^2).

For two minibatches with losses L_1, L_2 and small steps alpha, the three directions are

    Reptile   (phi_1 - phi_3) / alpha      = g_1 + g_2 - alpha H_2 g_1                  + O(alpha^2)
    FOMAML    L_2'(phi_2)                  =       g_2 - alpha H_2 g_1                  + O(alpha^2)
    MAML      (I - alpha H_1) L_2'(phi_2)  =       g_2 - alpha H_2 g_1 - alpha H_1 g_2  + O(alpha^2)

with g_i = L_i'(phi_1) and H_i = L_i''(phi_1).  Halving alpha must divide the remainder by four: on a
logarithmic scale, the slopes that the program prints must be 2.  (Equation numbers are those of
arXiv:1803.02999, version 1.)

    python examples/taylor_expansion.py
"""

import numpy as np

rng = np.random.default_rng(0)
x = rng.standard_normal((2, 8, 3))  # two minibatches of 8 examples
y = rng.standard_normal((2, 8))


def gradient(i, phi):
    """Return the gradient of L_i(phi) = mean (tanh(x phi) - y)^2 / 2 over minibatch i."""
    t = np.tanh(x[i] @ phi)
    return x[i].T @ ((t - y[i]) * (1 - t**2)) / 8


def hessian(i, phi):
    """Return the second derivative of L_i, by complex steps through its gradient: exact to rounding."""
    return np.stack([gradient(i, phi + 1e-30j * e).imag / 1e-30 for e in np.eye(3)], axis=1)


phi_1 = rng.standard_normal(3)
g_1, g_2 = gradient(0, phi_1), gradient(1, phi_1)
h_1, h_2 = hessian(0, phi_1), hessian(1, phi_1)
alphas = 0.1 / 2.0 ** np.arange(8)
left = {"Reptile": [], "FOMAML": [], "MAML": []}
for alpha in alphas:
    phi_2 = phi_1 - alpha * gradient(0, phi_1)
    phi_3 = phi_2 - alpha * gradient(1, phi_2)
    reptile, fomaml = (phi_1 - phi_3) / alpha, gradient(1, phi_2)
    maml = fomaml - alpha * h_1 @ fomaml
    left["Reptile"].append(reptile - (g_1 + g_2 - alpha * h_2 @ g_1))
    left["FOMAML"].append(fomaml - (g_2 - alpha * h_2 @ g_1))
    left["MAML"].append(maml - (g_2 - alpha * h_2 @ g_1 - alpha * h_1 @ g_2))

for name, remainders in left.items():
    sizes = np.linalg.norm(remainders, axis=1)
    slope = np.polyfit(np.log(alphas), np.log(sizes), 1)[0]
    print(
        f"{name:8} left out: {sizes[0]:.1e} at alpha {alphas[0]:.4f}, "
        f"{sizes[-1]:.1e} at {alphas[-1]:.4f}; slope {slope:.2f}"
    )
