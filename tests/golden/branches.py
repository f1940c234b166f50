"""Trajectories of a network with kinks, along a chosen branch: which side each kink takes is an argument.

A ReLU network's loss is continuous, but its gradient jumps where a pre-activation is 0 or two entries of a
pooling window are equal.  Two correct float32 programs may take different sides there.  On one *branch* (the
side of every kink given) the loss is smooth, and correct programs differ only by rounding.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from reptile_np.nn.ops import NUMPY
from reptile_np.nn.parameter_free import MaxPool, Relu


class Kink(NamedTuple):
    """One ReLU or pooling window, and the side it does not take."""

    layer: int
    index: int  # in the flat array of sides
    other: int
    distance: float  # of the pre-activation from 0, or between the two largest of the window


@dataclass
class Pass:
    """One minibatch at one point: the losses, the gradient, and what a flipped side needs."""

    model: object
    losses: np.ndarray
    grad: np.ndarray
    places: list
    bars: list  # the adjoint of each layer's output
    entering: list  # what each layer with kinks was given

    def sides(self):
        """The side of every kink: {layer: array}."""
        return sides_of(self.model, self.places)

    def kinks(self, reach):
        """The kinks no farther than ``reach[layer]``, a distance for each channel."""
        found = []
        for i, layer in enumerate(self.model.layers):
            if _kinked(layer):
                distance, other = _distance(layer, self.entering[i], self.places[i])
                near = distance.reshape(-1, len(reach[i])) <= reach[i]
                near = np.flatnonzero(near.ravel() & (self.bars[i].ravel() != 0))
                found += [Kink(i, n, int(other[n]), float(distance[n])) for n in near]
        return found

    def jump(self, kink):
        """How the gradient changes when `kink` takes the other side."""
        i, layer = kink.layer, self.model.layers[kink.layer]
        bar = np.zeros_like(self.bars[i])
        bar.flat[kink.index] = self.bars[i].flat[kink.index]
        flipped = _sides(layer, self.places[i]).copy()
        flipped.flat[kink.index] = kink.other
        place = _place(layer, flipped, self.entering[i])
        bar = layer.apply_transpose(place, bar) - layer.apply_transpose(self.places[i], bar)
        return _backward(self.model, self.places, bar, i)[0]


def sides_of(model, places):
    """The side of every kink: {layer: array}."""
    return {i: _sides(layer, places[i]) for i, layer in enumerate(model.layers) if _kinked(layer)}


def look(model, phi, batch, sides=None, forced=None):
    """Return the `Pass` at φ; on the branch `sides` if given, but for `forced` {(layer, index): side}."""
    x, y = batch[0].astype(phi.dtype), batch[1]
    z, places, entering = forward(model, phi, x, sides, forced)
    bars = [None] * len(places)
    grad = _backward(model, places, model.loss.adjoint(z, y), len(places), bars)[0]
    return Pass(model, model.loss.per_example(z, y), grad, places, bars, entering)


def forward(model, phi, x, sides=None, forced=None):
    """Return the logits, each layer's place, and what each layer with kinks was given."""
    places, entering = [], []
    for i, (layer, theta) in enumerate(zip(model.layers, _split(model, phi), strict=True)):
        if not _kinked(layer):
            x, place = layer.forward(theta, x, NUMPY)
            entering.append(None)
        else:
            entering.append(x)
            place = layer.forward(theta, x, NUMPY)[1] if sides is None else _place(layer, sides[i], x)
            here = {index: side for (at, index), side in (forced or {}).items() if at == i}
            if here:
                changed = _sides(layer, place).copy()
                changed.flat[list(here)] = list(here.values())
                place = _place(layer, changed, x)
            x = layer.apply(place, x)
        places.append(place)
    return x, places, entering


def _backward(model, places, bar, below, bars=None):
    """The gradient's pieces of the layers before `below`, zero for the others, as one vector."""
    pieces = [np.zeros_like(p) for p in model.layout.views(np.zeros(model.layout.size, bar.dtype)).values()]
    starts = np.cumsum([0, *(len(_count(layer)) for layer in model.layers)])
    for i in reversed(range(below)):
        if bars is not None:
            bars[i] = bar
        bar, theta_bar = model.layers[i].backward(places[i], bar, NUMPY, want_x_bar=i > 0)
        pieces[starts[i] : starts[i + 1]] = theta_bar
    return np.concatenate([np.ravel(piece) for piece in pieces]), bar


def _count(layer):
    """The names of a layer's parameters, whatever its input."""
    return () if isinstance(layer, (Relu, MaxPool)) else layer.shapes((1, 1, 1))


def _split(model, phi):
    pieces = iter(model.layout.views(phi).values())
    return [tuple(next(pieces) for _ in _count(layer)) for layer in model.layers]


def _kinked(layer):
    return isinstance(layer, (Relu, MaxPool))


def _sides(layer, place):
    return place if isinstance(layer, Relu) else place[0]


def _place(layer, sides, x):
    return sides if isinstance(layer, Relu) else (sides, x.shape)


def _distance(layer, x, place):
    """How far each kink is, and the side it would take beyond."""
    if isinstance(layer, Relu):
        return np.abs(x).ravel(), ~place.ravel()
    rows, cols = layer.counts(*x.shape[1:3])
    padded = np.pad(x, ((0, 0), *layer.pad(*x.shape[1:3]), (0, 0)), constant_values=-np.inf)
    step, size = layer.stride, range(layer.size)
    taps = np.stack(
        [padded[:, u : u + step * rows : step, v : v + step * cols : step] for u in size for v in size]
    )
    best = np.take_along_axis(taps, place[0][None].astype(np.intp), 0)[0]
    np.put_along_axis(taps, place[0][None].astype(np.intp), -np.inf, 0)
    return (best - taps.max(0)).ravel(), taps.argmax(0).ravel()


@dataclass
class Task:
    """What one inner loop leaves: its points and passes."""

    phis: list
    states: list
    passes: list = field(default_factory=list)
    logits: np.ndarray | None = None  # of the forward batches from the last point, once they were asked for


def inner_loop(model, inner, phi, state, batches, branch=None, forced=None, start=None, as_float32=False):
    """Run an inner loop on a branch; `branch` and `forced` hold a value per minibatch.

    ``as_float32``: every kink takes the side that NumPy's float32 pass from the same point takes.
    """
    task = Task([phi], [state])
    first = 0
    if start is not None:  # the steps before are those of an earlier run
        earlier, first = start
        task = Task(earlier.phis[: first + 1], earlier.states[: first + 1], earlier.passes[:first])
    for k, batch in enumerate(batches[first:], start=first):
        sides = branch[k] if branch else None
        if as_float32:
            sides = sides_of(model, forward(model, task.phis[-1].astype(np.float32), batch[0])[1])
        task.passes.append(look(model, task.phis[-1], batch, sides, forced[k] if forced else None))
        phi, state = inner.update(task.passes[-1].grad, task.states[-1], task.phis[-1])
        task.phis.append(phi)
        task.states.append(state)
    return task
