"""Reptile on sine waves: the whole method in one file of NumPy.

A task is one sine wave, y = a sin(x + b), with its own amplitude a and phase b.  Reptile trains
initial parameters from which a small network learns any such wave in a few gradient steps:

    repeat:
        draw a task                                       (a new sine wave)
        W = phi after k steps of gradient descent on it   (the inner loop)
        phi = phi + epsilon (W - phi)                     (the outer step)

Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", arXiv:1803.02999, section 3.
Nothing is imported but NumPy; `reptile_np` is not needed.

    python examples/reptile_on_sine_waves.py            30,000 outer steps, about ten seconds
    python examples/reptile_on_sine_waves.py 2000       a shorter run
"""

import sys

import numpy as np

GRID = np.linspace(-5, 5, 50)[:, None]  # (50, 1): the points on which the error of a wave is measured


# ---- the network 1-64-64-1: y = tanh(tanh(x w1 + b1) w2 + b2) w3 + b3 ------------------------------


def initial_parameters(rng):
    """Return [w1, b1, w2, b2, w3, b3], drawn uniformly from ±1/√(number of inputs)."""
    sizes = [(1, 64), (64, 64), (64, 1)]
    draw = [(rng.uniform(-1, 1, s), rng.uniform(-1, 1, s[1])) for s in sizes]
    return [p / np.sqrt(s[0]) for s, pair in zip(sizes, draw, strict=True) for p in pair]


def predict(phi, x):
    """Return the network's outputs (b, 1) at the points x (b, 1)."""
    w1, b1, w2, b2, w3, b3 = phi
    return np.tanh(np.tanh(x @ w1 + b1) @ w2 + b2) @ w3 + b3


def gradient(phi, x, y):
    """Return the gradient of the mean squared error on (x, y), an array per parameter."""
    w1, b1, w2, b2, w3, b3 = phi
    h1 = np.tanh(x @ w1 + b1)
    h2 = np.tanh(h1 @ w2 + b2)
    error = h2 @ w3 + b3 - y
    d3 = 2 * error / len(x)  # derivative of the loss by the output, (b, 1)
    d2 = (d3 @ w3.T) * (1 - h2**2)  # by the input of the second tanh, (b, 64)
    d1 = (d2 @ w2.T) * (1 - h1**2)  # by the input of the first tanh, (b, 64)
    return [x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ d3, d3.sum(0)]


# ---- tasks -----------------------------------------------------------------------------------------


def random_wave(rng):
    """Return one task: a function x -> a sin(x + b), 0.1 <= a <= 5, 0 <= b <= 2 pi."""
    a, b = rng.uniform(0.1, 5), rng.uniform(0, 2 * np.pi)
    return lambda x: a * np.sin(x + b)


# ---- the algorithm -----------------------------------------------------------------------------------


def inner_loop(phi, minibatches, alpha=0.02):
    """Return W: phi after one step of gradient descent on each minibatch (x, y)."""
    for x, y in minibatches:
        phi = [p - alpha * g for p, g in zip(phi, gradient(phi, x, y), strict=True)]
    return phi


def reptile(phi, rng, outer_steps, epsilon=0.1):
    """Return phi after meta-training; epsilon falls linearly to 0."""
    for i in range(outer_steps):
        wave = random_wave(rng)
        order = rng.permutation(len(GRID))  # 5 minibatches of 10 points
        minibatches = [(GRID[part], wave(GRID[part])) for part in np.split(order, 5)]
        w = inner_loop(phi, minibatches)
        step = epsilon * (1 - i / outer_steps)
        phi = [p + step * (q - p) for p, q in zip(phi, w, strict=True)]
    return phi


def error_on_new_waves(phi, rng, waves=100, points=10, steps=32):
    """Return the mean squared error on new waves, after `steps` steps on `points` points of each."""
    errors = []
    for _ in range(waves):
        wave = random_wave(rng)
        x = rng.uniform(-5, 5, (points, 1))
        adapted = inner_loop(phi, [(x, wave(x))] * steps)
        errors.append(np.mean((predict(adapted, GRID) - wave(GRID)) ** 2))
    return np.mean(errors)


def main(outer_steps):
    """Train, and print the error on new waves before and after."""
    rng = np.random.default_rng(0)
    random_phi = initial_parameters(rng)
    trained_phi = reptile(random_phi, rng, outer_steps)
    print("mean squared error on 100 new waves, after 32 gradient steps on 10 points of each:")
    print(f"  from random parameters:        {error_on_new_waves(random_phi, np.random.default_rng(1)):.3f}")
    print(f"  from meta-trained parameters:  {error_on_new_waves(trained_phi, np.random.default_rng(1)):.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30_000)
