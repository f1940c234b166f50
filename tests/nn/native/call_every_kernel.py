"""Call every kernel once on every variant: what ``csrc/tools/check_memory.sh`` runs under valgrind."""

import numpy as np

from reptile_np.meta import optimizers
from reptile_np.nn import models, native

NETWORKS = [
    (models.omniglot_cnn(5, filters=7), 2),
    (models.mini_imagenet_cnn(3, filters=2), 1),
    (models.sine_mlp((9,)), 3),
]

native.WORTH_A_TEAM = 0  # small calls too
rng = np.random.default_rng(0)
for name in native.available():
    for model, examples in NETWORKS:
        for threads in (1, 2):
            twin = model.with_ops(native.load(name, threads))
            phi = twin.init(rng)
            x = rng.random((examples, *twin.input_shape), dtype=np.float32)
            y = np.zeros(examples, int) if len(x.shape) == 4 else np.zeros((examples, 1), np.float32)
            twin.predict(phi, x)
            _, grad = twin.loss_and_grad(phi, (x, y))
            twin.hvp(phi, (x, y), grad)
            twin.linearize(phi, (x, y)).hvp(grad)
            rule = optimizers.Adam(1e-3, beta1=0.9)
            twin.inner_loop(rule, phi, [(x, y)] * 2, rule.init(phi))
            twin.optimizer_step(rule, grad, rule.init(phi), phi)
    ops = native.load(name, 2)
    x, w, y = (rng.random(shape, dtype=np.float32) for shape in ((2, 6, 5, 3), (3, 2, 3, 17), (2, 3, 3, 17)))
    pad = ((1, 0), (1, 1))
    ops.conv2d(x, w, 2, pad)
    ops.conv2d_input(y, w, 2, pad, (6, 5))
    ops.conv2d_weight(x, y, 2, pad, (3, 2))
    print(name, "done", flush=True)
