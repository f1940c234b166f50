"""The Omniglot inner step in plain NumPy, to compare times and values with.

im2col by nine slices into one buffer, one BLAS product per convolution and per gradient, col2im by nine
slices back, batch norm by its formula, Adam on one flat vector; float32.  Nothing is shared with
`reptile_np`; the two results agree to 1e-4.

    python benchmarks/plain_im2col.py [--batch 10] [--rounds 40]

times both in turns, and prints minima.  Set OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
PADS = {28: (0, 1), 14: (0, 1), 7: (1, 1), 4: (0, 1)}  # SAME at stride 2, as TensorFlow


class PlainStep:
    """4 × [conv 3×3 stride 2, batch norm, ReLU], dense, softmax cross-entropy (sum), Adam (beta1 = 0)."""

    def __init__(self, phi: Array, ways: int, filters: int = 64) -> None:
        self.phi, self.v, self.t = phi.copy(), np.zeros_like(phi), 0
        self.grad = np.zeros_like(phi)
        shapes: list[tuple[int, ...]] = []
        for channels in (1, filters, filters, filters):
            shapes += [(9 * channels, filters), (filters,), (filters,), (filters,)]
        shapes += [(4 * filters, ways), (ways,)]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        self.p = [a.reshape(s) for a, s in zip(np.split(self.phi, ends), shapes, strict=True)]
        self.g = [a.reshape(s) for a, s in zip(np.split(self.grad, ends), shapes, strict=True)]

    def __call__(self, x: Array, y: Array, rate: float = 1e-3) -> float:
        """Take one step; return the loss before it."""
        batch, kept = len(x), []
        for i in range(4):
            w, bias, gamma, beta = self.p[4 * i : 4 * i + 4]
            cols = im2col(x)
            z = cols @ w
            z += bias
            centred = z - z.mean(0)
            r = 1 / np.sqrt(np.einsum("pc,pc->c", centred, centred) / len(z) + 1e-3)
            xhat = centred * r
            out = xhat * gamma
            out += beta
            np.maximum(out, 0, out=out)
            kept.append((cols, x.shape, xhat, r, out))
            side = -(-x.shape[1] // 2)
            x = out.reshape(batch, side, side, -1)
        flat = x.reshape(batch, -1)
        logits = flat @ self.p[16] + self.p[17]
        logits -= logits.max(1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(1, keepdims=True)
        p /= total
        rows = np.arange(batch)
        loss = float((np.log(total[:, 0]) - logits[rows, y]).sum())
        p[rows, y] -= 1
        self.g[16][:] = flat.T @ p
        self.g[17][:] = p.sum(0)
        back = p @ self.p[16].T
        for i in reversed(range(4)):
            cols, shape, xhat, r, out = kept[i]
            w, _, gamma, _ = self.p[4 * i : 4 * i + 4]
            back = back.reshape(out.shape) * (out > 0)
            self.g[4 * i + 3][:] = back.sum(0)
            np.einsum("pc,pc->c", back, xhat, out=self.g[4 * i + 2])
            n = len(back)
            back = (gamma * r) * (back - self.g[4 * i + 3] / n - xhat * (self.g[4 * i + 2] / n))
            self.g[4 * i][:] = cols.T @ back
            if i:
                back = col2im(back @ w.T, shape)
        self.t += 1
        self.v *= 0.999
        self.v += 0.001 * self.grad**2
        self.phi -= rate * math.sqrt(1 - 0.999**self.t) * self.grad / (np.sqrt(self.v) + 1e-8)
        return loss


def im2col(x: Array) -> Array:
    """Return (b·oh·ow, 9·c): the 3×3 patches at stride 2."""
    batch, side, _, channels = x.shape
    before, after = PADS[side]
    padded = np.zeros((batch, side + before + after, side + before + after, channels), x.dtype)
    padded[:, before : before + side, before : before + side] = x
    out = -(-side // 2)
    cols = np.empty((batch, out, out, 3, 3, channels), x.dtype)
    for u in range(3):
        for v in range(3):
            cols[:, :, :, u, v] = padded[:, u : u + 2 * out : 2, v : v + 2 * out : 2]
    return cols.reshape(batch * out * out, -1)


def col2im(cols: Array, shape: tuple[int, ...]) -> Array:
    """Return the image that adds every patch back where it was read."""
    batch, side, _, channels = shape
    before, after = PADS[side]
    out = -(-side // 2)
    cols = cols.reshape(batch, out, out, 3, 3, channels)
    padded = np.zeros((batch, side + before + after, side + before + after, channels), cols.dtype)
    for u in range(3):
        for v in range(3):
            padded[:, u : u + 2 * out : 2, v : v + 2 * out : 2] += cols[:, :, :, u, v]
    return padded[:, before : before + side, before : before + side]


def main() -> None:
    """Check that the two agree, then time them turn by turn."""
    from reptile_np.meta.inner_loop import adapt
    from reptile_np.meta.optimizers import Adam
    from reptile_np.nn.models import omniglot_cnn

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    rng, model, adam, steps = np.random.default_rng(0), omniglot_cnn(5), Adam(1e-3), 5
    phi = model.init(rng)
    x = (rng.random((options.batch, 28, 28, 1)) < 0.9).astype(np.float32)
    batches = [(x, rng.integers(0, 5, options.batch))] * steps

    ours = adapt(model, adam, phi, batches, keep="ends")
    plain = PlainStep(phi, ways=5)
    losses = [plain(*batch) for batch in batches]
    deviation = np.abs(np.array(losses) - ours.losses).max() / max(losses)
    print(f"losses of {steps} steps agree to {deviation:.1e}")
    if deviation > 1e-4:
        raise SystemExit("the two do not compute the same step")
    times: dict[str, list[float]] = {"reptile_np": [], "plain": []}
    state = adam.init(phi)
    for _ in range(options.rounds):
        start = time.perf_counter()
        adapt(model, adam, phi, batches, state, keep="ends")
        times["reptile_np"].append((time.perf_counter() - start) / steps)
        start = time.perf_counter()
        for batch in batches:
            plain(*batch)
        times["plain"].append((time.perf_counter() - start) / steps)
    for name, seconds in times.items():
        least, middle = 1e3 * min(seconds), 1e3 * np.median(seconds)
        print(f"{name:<12} {least:6.2f} ms per step (minimum), {middle:6.2f} (median)")
    print(f"ratio of minima {min(times['reptile_np']) / min(times['plain']):.2f}")


if __name__ == "__main__":
    main()
