"""TensorFlow as the authors' released program uses it: one static graph, run by a session.

Fused batch norm, its own asymmetric SAME, ResourceApplyAdam; parameters live in the session, a step is one
``Session.run`` fed with images.  Every parameter is trained, biases before batch norm included: their
gradient is rounding noise, and Adam makes steps of it, so vectors are compared without those biases.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from reptile_np.bench.workloads import Answer, Contender, InnerLoop, MetaIteration, Workload
from reptile_np.meta.optimizers import Adam
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu

v1 = tf.compat.v1


def variants(threads):
    return {"tensorflow": lambda workload: contender(workload, threads)}


def contender(workload: Workload, threads: int) -> Contender | None:
    match workload:
        case InnerLoop(optimizer=Adam()):
            return inner_loop(workload, Graph(workload.model, workload.optimizer, threads))
        case MetaIteration():
            return meta_iteration(workload, Graph(workload.model, workload.inner, threads))
    return None


class Graph:
    """The training step of one of our classifiers, with its session."""

    def __init__(self, model, optimizer, threads):
        self.model = model
        graph = v1.Graph()
        config = v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1)
        self.session = v1.Session(graph=graph, config=config)
        with graph.as_default():
            self.x = v1.placeholder(tf.float32, (None, *model.input_shape))
            self.y = v1.placeholder(tf.int32, (None,))
            shapes = model.layout.shapes.values()
            self.parameters = [v1.Variable(np.zeros(s, np.float32), use_resource=True) for s in shapes]
            logits = self._forward()
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.y, logits=logits)
            self.loss = tf.reduce_sum(losses)
            adam = v1.train.AdamOptimizer(
                optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon
            )
            self.minimize = adam.minimize(self.loss, var_list=self.parameters)
            moments = [adam.get_slot(p, "v") for p in self.parameters]
            self.beta2_power = adam._get_beta_accumulators()[1]
            self.load_parameters = _loader(self.parameters)
            self.load_moments = _loader([*moments, self.beta2_power])
            self.session.run(v1.global_variables_initializer())

    def _forward(self):
        x, p = self.x, iter(self.parameters)
        for layer in self.model.layers:
            match layer:
                case Conv2d():
                    x = tf.nn.bias_add(tf.nn.conv2d(x, next(p), layer.stride, "SAME"), next(p))
                case BatchNorm():
                    gamma, beta = next(p), next(p)
                    x = v1.nn.fused_batch_norm(x, gamma, beta, epsilon=layer.epsilon, is_training=True)[0]
                case MaxPool():
                    x = tf.nn.max_pool2d(x, layer.size, layer.stride, "SAME")
                case Relu():
                    x = tf.nn.relu(x)
                case Flatten():
                    x = tf.reshape(x, (-1, int(np.prod(x.shape[1:]))))
                case Dense():
                    x = tf.matmul(x, next(p)) + next(p)
        return x

    def set(self, loader, arrays):
        """Assign arrays to a loader's variables."""
        placeholders, assign = loader
        self.session.run(assign, dict(zip(placeholders, arrays, strict=True)))

    def split(self, phi):
        """Return φ's pieces."""
        return list(self.model.layout.views(phi).values())

    def reset(self, workload):
        """Go back to the workload's start."""
        self.set(self.load_parameters, self.split(workload.phi))
        power = np.float32(0.999 ** (workload.state.t + 1))
        self.set(self.load_moments, [*self.split(workload.state.v), power])

    def step(self, batch):
        """Take one training step; return the loss before it."""
        return self.session.run((self.minimize, self.loss), {self.x: batch[0], self.y: batch[1]})[1]

    def displacement(self, arrays, phi):
        """Return the displacement from φ, with zeros at the biases before a batch norm."""
        moved = np.concatenate([np.ravel(a) for a in arrays]) - phi
        for name, view in self.model.layout.views(moved).items():
            if name.startswith("conv") and name.endswith("bias"):
                view[:] = 0
        return moved


def _loader(variables):
    placeholders = [v1.placeholder(tf.float32, v.shape) for v in variables]
    return placeholders, tf.group(*(v.assign(p) for v, p in zip(variables, placeholders, strict=True)))


def inner_loop(workload: InnerLoop, graph: Graph) -> Contender:
    def run():
        return [graph.step(batch) for batch in workload.batches]

    def read(losses):
        arrays = graph.session.run(graph.parameters)
        return Answer(np.array(losses, float), graph.displacement(arrays, workload.phi))

    return Contender(run, read, lambda: graph.reset(workload))


def meta_iteration(workload: MetaIteration, graph: Graph) -> Contender:
    """As the released program: parameters are exported and imported around each inner loop."""
    start, tasks = graph.split(workload.phi), workload.episodes.preset.outer.meta_batch

    def run():
        total, first, last = [0 * a for a in start], 0.0, 0.0
        for j in range(tasks):
            graph.set(graph.load_parameters, start)
            losses = [graph.step(batch) for batch in workload.episodes.training(0, j)]
            first, last = first + losses[0], last + losses[-1]
            for a, b in zip(total, graph.session.run(graph.parameters), strict=True):
                a += b
        phi = [p + workload.rate * (a / tasks - p) for p, a in zip(start, total, strict=True)]
        return first / tasks, last / tasks, phi

    def read(result):
        first, last, phi = result
        return Answer(np.array([first, last], float), graph.displacement(phi, workload.phi))

    return Contender(run, read, lambda: graph.reset(workload))
