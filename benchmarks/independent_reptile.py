"""Reptile on Mini-ImageNet once more, in PyTorch: a second implementation, to compare accuracies with.

It was written from a description of the authors' program and shares no code with `reptile_np`; only the
images are those that ``reptile-np data mini-imagenet`` imported.

    python benchmarks/independent_reptile.py --data DIR [--seed 0] [--outer-steps 500]

trains (about 10 minutes on one core for 500 outer steps), evaluates on test classes, and prints one line of
JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Samples = list[tuple[Any, int]]
Parameters = list[torch.Tensor]
WAYS, TRAIN_SHOTS, META_BATCH, INNER_STEPS, INNER_BATCH = 5, 15, 5, 8, 10
TEST_STEPS, TEST_BATCH, TASKS = 50, {1: 5, 5: 15}, {1: 400, 5: 300}  # shots -> batch, tasks


def read(folder: Path) -> dict[str, list[Any]]:
    """Return the classes of each split; a class is an array (images, 84, 84, 3) of bytes."""
    manifest = json.loads((folder / "mini-imagenet.json").read_text())
    pixels, splits, first = np.load(folder / manifest["pixels"], mmap_mode="r"), {}, 0
    for c in manifest["classes"]:
        splits.setdefault(c["split"], []).append(pixels[first : first + c["count"]])
        first += c["count"]
    return splits


def initial() -> Parameters:
    """Return kernels (Glorot uniform), biases, γ and β of four blocks, and the dense layer."""
    parameters = []
    for channels in (3, 32, 32, 32):
        most = math.sqrt(6 / (9 * channels + 9 * 32))
        kernel = (2 * torch.rand(32, channels, 3, 3) - 1) * most
        parameters += [kernel, torch.zeros(32), torch.ones(32), torch.zeros(32)]
    most = math.sqrt(6 / (1152 + WAYS))
    parameters += [(2 * torch.rand(WAYS, 1152) - 1) * most, torch.zeros(WAYS)]
    return [p.requires_grad_() for p in parameters]


def logits(parameters: Parameters, x: torch.Tensor) -> torch.Tensor:
    """Return (b, ways): 4 × [convolution, batch norm, pool, ReLU], dense."""
    x = x.contiguous(memory_format=torch.channels_last)
    for i in range(4):
        kernel, bias, gamma, beta = parameters[4 * i : 4 * i + 4]
        x = F.conv2d(x, kernel, bias, padding=1)
        x = F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-3)
        x = F.relu(F.max_pool2d(x, 2, 2, ceil_mode=True))
    return F.linear(x.permute(0, 2, 3, 1).flatten(1), parameters[16], parameters[17])


class Adam:
    """Adam with beta1 = 0 and TensorFlow's place of epsilon."""

    def __init__(self, parameters: Parameters) -> None:
        self.v, self.t = [torch.zeros_like(p) for p in parameters], 0

    def step(self, parameters: Parameters, x: torch.Tensor, y: torch.Tensor) -> None:
        """Update the parameters by the gradient of the summed loss."""
        loss = F.cross_entropy(logits(parameters, x), y, reduction="sum")
        gradients = torch.autograd.grad(loss, parameters)
        self.t += 1
        rate = 1e-3 * math.sqrt(1 - 0.999**self.t)
        with torch.no_grad():
            for p, v, g in zip(parameters, self.v, gradients, strict=True):
                v.mul_(0.999).addcmul_(g, g, value=0.001)
                p.addcdiv_(g, v.sqrt().add_(1e-8), value=-rate)


def task(classes: list[Any], shots: int) -> Samples:
    """Return `shots` labelled images of each of five random classes, class by class."""
    samples = []
    for label, c in enumerate(shuffled(range(len(classes)))[:WAYS]):
        images = classes[c]
        samples += [(images[i], label) for i in shuffled(range(len(images)))[:shots]]
    return samples


def shuffled(items: Iterable[Any]) -> list[Any]:
    """Return the items in random order."""
    items = list(items)
    random.shuffle(items)
    return items


def batches(samples: Samples, size: int, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield minibatches from shuffled epochs; a batch may lie in two epochs."""
    queue: Samples = []
    for _ in range(number):
        while len(queue) < size:
            samples = shuffled(samples)
            queue += samples
        batch, queue = queue[:size], queue[size:]
        yield tensor([x for x, _ in batch]), torch.tensor([y for _, y in batch])


def tensor(images: list[Any]) -> torch.Tensor:
    """Return float32 (b, 3, 84, 84) between 0 and 1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def put(parameters: Parameters, values: Parameters) -> None:
    """Overwrite the parameters."""
    with torch.no_grad():
        for p, value in zip(parameters, values, strict=True):
            p.copy_(value)


def train(classes: list[Any], outer_steps: int) -> tuple[Parameters, Adam]:
    """Return the trained parameters, and Adam with its moments, which are never reset."""
    parameters = initial()
    adam = Adam(parameters)
    for i in range(outer_steps):
        phi = [p.detach().clone() for p in parameters]
        mean = [torch.zeros_like(p) for p in phi]
        for _ in range(META_BATCH):
            for x, y in batches(task(classes, TRAIN_SHOTS), INNER_BATCH, INNER_STEPS):
                adam.step(parameters, x, y)
            for m, p in zip(mean, parameters, strict=True):
                m += p.detach() / META_BATCH
            put(parameters, phi)
        rate = 1 - i / outer_steps
        put(parameters, [p + rate * (m - p) for p, m in zip(phi, mean, strict=True)])
    return parameters, adam


def evaluate(parameters: Parameters, adam: Adam, classes: list[Any], shots: int) -> dict[str, Any]:
    """Return accuracy and 95 % half width, transductive and not."""
    phi, v, t = [p.detach().clone() for p in parameters], [v.clone() for v in adam.v], adam.t
    right: dict[str, list[float]] = {"transductive": [], "non_transductive": []}
    for _ in range(TASKS[shots]):
        samples = task(classes, shots + 1)
        test, support = samples[:: shots + 1], [s for i, s in enumerate(samples) if i % (shots + 1)]
        for x, y in batches(support, TEST_BATCH[shots], TEST_STEPS):
            adam.step(parameters, x, y)
        with torch.no_grad():
            together = logits(parameters, tensor([x for x, _ in test])).argmax(1).tolist()
            beside = [x for x, _ in support]
            alone = [int(logits(parameters, tensor([*beside, x]))[-1].argmax()) for x, _ in test]
        for mode, found in (("transductive", together), ("non_transductive", alone)):
            right[mode].append(float(np.mean([a == y for a, (_, y) in zip(found, test, strict=True)])))
        put(parameters, phi)
        adam.v, adam.t = [a.clone() for a in v], t
    return {
        mode: {"mean": float(np.mean(r)), "ci95": 1.96 * float(np.std(r, ddof=1)) / math.sqrt(len(r))}
        for mode, r in right.items()
    }


def main() -> None:
    """Train, evaluate with one and five shots, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the imported images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--outer-steps", type=int, default=500)
    args = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    splits = read(args.data)
    parameters, adam = train(splits["train"], args.outer_steps)
    result: dict[str, Any] = {"seed": args.seed, "outer_steps": args.outer_steps, "torch": torch.__version__}
    for k, tasks in TASKS.items():
        result[f"{k}-shot"] = {"tasks": tasks, **evaluate(parameters, adam, splits["test"], k)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
