"""The stages of a recording: each outer step, and each evaluation, from the recorded state."""

from dataclasses import dataclass

import numpy as np

from reptile_np.meta.meta_gradients import reptile
from tests.golden.branches import forward, inner_loop
from tests.golden.recordings import ENDINGS, META_BATCH, OUTER_STEP


@dataclass
class Stage:
    """Inner loops from one recorded point: their minibatches, and what was recorded of them."""

    recording: object
    phi: np.ndarray
    state: object  # the float64 state of the inner optimiser
    rough_state: object  # the same, as far as float32 has rounded it since it was last recorded
    tasks: list  # of lists of minibatches
    losses: list  # recorded, [task][minibatch]
    after: np.ndarray | None = None  # the recorded φ after an outer step
    v: np.ndarray | None = None  # Adam's second moment recorded after the last outer step
    predict_x: tuple = ()
    logits: np.ndarray | None = None  # recorded, after the first task

    def run(self, dtype, branch=None, forced=None, old=None, changed=(0, 0), as_float32=False):
        """Run every task; tasks and minibatches before `changed` are those of the run `old`.

        With SGD a change of one task does not reach the others: only Adam's state runs on.
        """
        program, (first, step) = self.recording.program, changed
        state = self.state if dtype is np.float64 else self.rough_state
        tasks = []
        for j, batches in enumerate(self.tasks):
            if old and (j < first or (j > first and state == ())):
                task = old[j]
            else:
                task = inner_loop(
                    program.model,
                    program.inner,
                    self.phi.astype(dtype),
                    state,
                    batches,
                    branch[j] if branch else None,
                    forced[j] if forced else None,
                    (old[j], step) if old and j == first else None,
                    as_float32,
                )
            state = task.states[-1]
            tasks.append(task)
        return tasks

    def end(self, tasks):
        """φ after the outer step."""
        short = self.recording.program.direction is not reptile
        total = sum(task.phis[-2 if short else 0] - task.phis[-1] for task in tasks)
        phi = self.phi.astype(total.dtype)
        return phi - total.dtype.type(OUTER_STEP) * (total / META_BATCH)

    def outputs(self, tasks):
        """The logits of every forward batch (continuous across kinks)."""
        if tasks[0].logits is None:
            model, phi = self.recording.program.model, tasks[0].phis[-1]
            rows = [forward(model, phi, x.astype(phi.dtype))[0] for x in self.predict_x]
            tasks[0].logits = np.concatenate(rows)
        return tasks[0].logits


def cast(state, dtype):
    return type(state)(*(part.astype(dtype) if isinstance(part, np.ndarray) else part for part in state))


def stages(recording):
    """Yield (name, stage) of every outer step and evaluation; send `Shadow.states` after each outer step."""
    inner = recording.program.inner
    adam = "adam_beta2_power" in recording.arrays
    state, rough = (inner.init(recording.phi(0).astype(dtype)) for dtype in (np.float64, np.float32))
    for i in range(recording.outer_steps):
        losses = recording.losses(f"train{i}")
        k = len(losses) // META_BATCH
        stage = Stage(
            recording,
            recording.phi(i),
            state,
            rough,
            [recording.episodes(i, j) for j in range(META_BATCH)],
            [losses[:k], losses[k:]],
            after=recording.phi(i + 1),
            v=recording.vector("adam_v") if adam and i + 1 == recording.outer_steps else None,
        )
        state, rough = yield f"outer step {i + 1}", stage
    if adam:
        state = state._replace(v=recording.vector("adam_v").astype(np.float64))
    for prefix in ENDINGS.values():
        yield (
            prefix,
            Stage(
                recording,
                recording.phi(recording.outer_steps),
                state,
                cast(state, np.float32),
                [recording.batches(prefix)],
                [recording.losses(prefix)],
                predict_x=recording.predicted(prefix),
                logits=recording.arrays[f"{prefix}/logits"],
            ),
        )
