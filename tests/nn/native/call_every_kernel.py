"""Call every kernel once on every variant: what ``csrc/tools/check_memory.sh`` runs under valgrind."""

import numpy as np

from reptile_np.meta import optimizers
from reptile_np.nn import models, native

NETWORKS = [
    (models.omniglot_cnn(5, filters=7), 2),
    (models.mini_imagenet_cnn(3, filters=2), 1),
    (models.finn_omniglot_cnn(5, filters=7), 2),
    (models.finn_mini_imagenet_cnn(3, filters=2), 1),
    (models.sine_mlp((9,)), 3),
]


def finite(*results):
    """Branch on every number: valgrind then reports one that was computed from unset memory."""
    assert all(np.isfinite(result).all() for result in results)


small_calls_too = {"least_work": 0, "trials": False}
rng = np.random.default_rng(0)
for name in native.available():
    for model, examples in NETWORKS:
        for threads in (1, 2):
            network = model.with_ops(native.load(name, threads, **small_calls_too))
            phi = network.init(rng)
            x = rng.random((examples, *network.input_shape), dtype=np.float32)
            y = np.zeros(examples, int) if len(x.shape) == 4 else np.zeros((examples, 1), np.float32)
            loss, grad = network.loss_and_grad(phi, (x, y))
            finite(network.predict(phi, x), loss, grad, network.hvp(phi, (x, y), grad))
            finite(network.linearize(phi, (x, y)).hvp(grad))
            for rule in (optimizers.Adam(1e-3, beta1=0.9), optimizers.Sgd(0.1), optimizers.Sgd(0 * phi)):
                for keep in ("ends", "hessians"):
                    t = network.adapt(rule, phi, [(x, y)] * 2, rule.init(phi), keep)
                    finite(*t.phis, *t.grads, *t.losses, *t.state, *(hvp(grad) for hvp in t.hessians))
                end, state = network.update(rule, grad, rule.init(phi), phi)
                finite(end, *state)
    ops = native.load(name, 2, **small_calls_too)
    x, w, y = (rng.random(shape, dtype=np.float32) for shape in ((2, 6, 5, 3), (3, 2, 3, 17), (2, 3, 3, 17)))
    pad = ((1, 0), (1, 1))
    finite(
        ops.conv2d(x, w, 2, pad),
        ops.conv2d_input(y, w, 2, pad, (6, 5)),
        ops.conv2d_weight(x, y, 2, pad, (3, 2)),
    )
    print(name, "done", flush=True)
