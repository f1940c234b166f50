"""A float64 trajectory shadows a float32 recording, whichever side each kink took.

The statement.  Start from the recorded φ (before an outer step, or an evaluation).  There is a choice of
sides, for the kinks within rounding of a decision, such that the float64 trajectory on that branch agrees
with every recorded loss, parameter and logit within rounding.  A wrong program has no such branch: a side
changes the gradient along one direction, a wrong rate or loss along others.

Within rounding means `WIDER` times what float32 itself does here: NumPy in float32 runs along the *same*
branch of the *same* data, and its distance from the float64 trajectory is the unit.  So the unit is condition
times rounding, and no constant is carried from one recording to another.  NumPy's batch norm adds up to 7,840
numbers one after another, the worst order there is: the error of a sum of n numbers is at most n u in that
order, (log n) u in pairs, and its root mean square grows with the square roots of these (Higham, *Accuracy
and Stability*, section 4.2).  Other orders are therefore expected to be nearer.  `WIDER` is for the model's
two liberties: the signs of the errors are random, so the largest of as few as 3 losses may by chance be a few
times smaller than another program's; and Adam divides by √v, so that errors of small gradients count more.

Measured on the recordings of ``test_second_recordings.py``: correct programs are within 7 units, most within
2; an inner or outer rate that is 0.1 % off is 17 units away or more, most other errors more than 1,000.
"""

from dataclasses import replace

import numpy as np

from reptile_np.meta.meta_gradients import reptile
from tests.golden.recordings import META_BATCH
from tests.golden.stages import cast, stages

WIDER = 12
REACH = 8  # kinks within this many times the rms rounding of their layer's input are undecided
QUANTILES = [0.5, 0.9, 0.99]
ROUNDS, TRIALS, FEW = 10, 20, 16  # flips, candidates of a flip, and of those whose effect looks unrelated


def quantiles(a):
    return np.quantile(np.abs(a), QUANTILES)


class Shadow:
    """The float64 trajectory that comes nearest to a stage's recording, and how near it comes.

    `like` is the shadow of the same stage by another program: it has measured the rounding already.
    """

    def __init__(self, stage, like=None):
        self.stage, self.flips = stage, 0
        if like is None:
            self.starts = [self.start(as_float32=True)]
            self.measure()
        else:
            vars(self).update(
                {k: v for k, v in vars(like).items() if k.endswith("_unit") or k in ("reach", "starts")}
            )
        self.tasks, self.as_float32 = self.starts[0]
        self.found = self.distances(self.tasks)
        if self.holds:  # with float32's sides, none turned; else the search begins at the better start
            return
        if len(self.starts) == 1:  # the list is shared with the shadow `like`
            self.starts.append(self.start(as_float32=False))
        options = [(*self.starts[0], self.found), (*self.starts[1], self.distances(self.starts[1][0]))]
        reached = []
        for option in sorted(options, key=lambda option: self.badness(option[2])):
            self.tasks, self.as_float32, self.found = option
            self.forced, self.flips = [[{} for _ in batches] for batches in stage.tasks], 0
            self.search()
            reached.append((max(self.found.values()), self.tasks, self.found, self.flips))
            if self.holds:
                return
        _, self.tasks, self.found, self.flips = min(reached, key=lambda end: end[0])

    @property
    def states(self):
        """The inner state at the end, and what float32 makes of it along the branch."""
        branch = [[step.sides() for step in task.passes] for task in self.tasks]
        return self.tasks[-1].states[-1], self.stage.run(np.float32, branch)[-1].states[-1]

    @property
    def holds(self):
        """Whether the recording lies within rounding of this trajectory."""
        return max(self.found.values()) <= WIDER

    def start(self, as_float32):
        """A float64 run whose kinks take the sides that float64 takes, or float32."""
        return self.stage.run(np.float64, as_float32=as_float32), as_float32

    def measure(self):
        """The rounding of float32 along the branch: the unit of every distance."""
        stage, (tasks, _) = self.stage, self.starts[0]
        branch = [[step.sides() for step in task.passes] for task in tasks]
        float32 = stage.run(np.float32, branch)
        exact = [[step.losses for step in task.passes] for task in tasks]
        rough = [[step.losses for step in task.passes] for task in float32]
        # minibatch k of every task is as far from the recorded point: one unit for all of them
        off = [
            [np.abs(a - b).max() for a, b in zip(*pair, strict=True)]
            for pair in zip(exact, rough, strict=True)
        ]
        self.loss_unit = np.max(off, axis=0)
        self.reach = [
            [
                {i: REACH * _spread(a.entering[i] - b.entering[i]) for i in branch[0][0]}
                for a, b in zip(one.passes, two.passes, strict=True)
            ]
            for one, two in zip(tasks, float32, strict=True)
        ]
        if stage.after is not None:
            self.after_unit = quantiles(stage.end(float32) - stage.end(tasks))
        if stage.v is not None:
            self.v_unit = quantiles(float32[-1].states[-1].v - tasks[-1].states[-1].v)
        if stage.logits is not None:
            self.logit_unit = np.abs(stage.outputs(tasks) - stage.outputs(float32)).max()

    def distances(self, tasks):
        """{what: how many units of rounding the recording is away}."""
        found = {}
        for j, (task, recorded) in enumerate(zip(tasks, self.stage.losses, strict=True)):
            for k, (step, losses) in enumerate(zip(task.passes, recorded, strict=True)):
                found[f"losses of minibatch {k + 1} of task {j + 1}"] = (
                    np.abs(step.losses - losses).max() / self.loss_unit[k]
                )
        if self.stage.after is not None:
            off = quantiles(self.stage.end(tasks) - self.stage.after) / self.after_unit
            found |= {f"{100 * q:.0f} % of φ": ratio for q, ratio in zip(QUANTILES, off, strict=True)}
        if self.stage.v is not None:
            off = quantiles(tasks[-1].states[-1].v - self.stage.v) / self.v_unit
            found |= {f"{100 * q:.0f} % of v": ratio for q, ratio in zip(QUANTILES, off, strict=True)}
        if self.stage.logits is not None:
            found["logits"] = np.abs(self.stage.outputs(tasks) - self.stage.logits).max() / self.logit_unit
        return found

    def badness(self, distances):
        """What a flip is to reduce: the orders of magnitude beyond twice the unit."""
        return sum(np.log(max(1.0, d / 2)) for d in distances.values())

    def search(self):
        """Flip undecided kinks, one group of equal ones at a time, while that brings the recording nearer."""
        first = max(d for what, d in self.found.items() if what.startswith("losses of minibatch 1 "))
        if first > WIDER:
            return  # a forward pass from the recorded point: a loss is continuous, so no side explains that
        while max(self.found.values()) > WIDER / 2 and self.flips < ROUNDS:
            now = self.badness(self.found)
            best = now - 0.2, None, None, None
            for gain, where, group in self.candidates():
                tasks, forced = self.flipped(where, group)
                found = self.distances(tasks)
                if self.badness(found) < best[0]:
                    best = self.badness(found), tasks, forced, found
                    if gain > 0.5:
                        break  # a cosine of that size in 10^5 dimensions is no chance
            if best[1] is None:
                return
            _, self.tasks, self.forced, self.found = best
            self.flips += 1

    def flipped(self, where, group):
        """The run in which the kinks of `group` take their other sides, and all the sides then forced."""
        (j, k), forced = where, [[dict(step) for step in task] for task in self.forced]
        forced[j][k] |= {(kink.layer, kink.index): kink.other for kink in group}
        tasks = self.stage.run(
            np.float64, forced=forced, old=self.tasks, changed=(j, k), as_float32=self.as_float32
        )
        return tasks, forced

    def candidates(self):
        """The kinks most likely to have gone the other way: ((task, minibatch), kinks that decide alike)."""
        found = []
        for j, task in enumerate(self.tasks):
            for k, step in enumerate(task.passes):
                groups = {}
                for kink in step.kinks(self.reach[j][k]):
                    if (kink.layer, kink.index) not in self.forced[j][k]:
                        channel = kink.index % step.entering[kink.layer].shape[-1]
                        # equal patches of white paper give equal values, and decide alike
                        groups.setdefault((kink.layer, channel, round(kink.distance, 12)), []).append(kink)
                for (layer, channel, distance), group in groups.items():
                    found.append(
                        (
                            self.gain(j, k, step, group),
                            distance / self.reach[j][k][layer][channel],
                            (j, k),
                            group,
                        )
                    )
        by_gain = sorted((c for c in found if c[0] > 0.05), key=lambda c: -c[0])
        by_distance = sorted((c for c in found if not c[0] > 0.05), key=lambda c: c[1])
        unknown, poor = ([c for c in by_distance if bool(np.isnan(c[0])) is nan] for nan in (True, False))
        return [(c[0], *c[2:]) for c in by_gain[:TRIALS] + unknown[:TRIALS] + poor[:FEW]]

    def gain(self, j, k, step, group):
        """How well the change of φ by this flip alone explains what is left: the cosine of the two.

        NaN where the step is seen only through the steps after it.
        """
        stage, inner = self.stage, self.stage.recording.program.inner
        last = k + 1 == len(stage.tasks[j])
        if stage.after is None or not (last or stage.recording.program.direction is reptile):
            return np.nan
        task = self.tasks[j]
        jump = sum(step.jump(kink) for kink in group)
        phi = inner.update(step.grad + jump, task.states[k], task.phis[k])[0]
        change, left = phi - task.phis[k + 1], stage.after - stage.end(self.tasks)
        norm = np.linalg.norm(change) * np.linalg.norm(left)
        return float(np.vdot(change, left) / norm) if norm else 0.0


def _spread(a):
    """The rms of each channel, or of all channels if that is more."""
    return np.sqrt(np.maximum(np.mean(a**2, axis=(0, 1, 2)), np.mean(a**2)))


def shadowed(recording):
    """Return {stage: its `Shadow`}, and the last inner state of training."""
    walk, shadows, state = stages(recording), {}, None
    try:
        while True:
            name, stage = walk.send(state)
            shadows[name] = Shadow(stage)
            if stage.after is not None:
                state = shadows[name].states
                last = state[0]
    except StopIteration:
        return shadows, last


def guided(shadows):
    """The float32 states that the stages of a shadowed recording start from: {stage: (φ, inner state)}."""
    return {name: (s.stage.phi, cast(s.stage.state, np.float32)) for name, s in shadows.items()}


def shadowed_like(recording, shadows):
    """The shadows of a recording made from the same starts (`guided`), each measured with the same units."""
    stage_of = {name: s.stage for name, s in shadows.items()}
    mine = {}
    for name, stage in stage_of.items():
        if stage.after is not None:
            i = int(name.split()[-1]) - 1
            losses = recording.losses(f"train{i}")
            k = len(losses) // META_BATCH
            v = recording.vector("adam_v") if stage.v is not None else None
            now = replace(stage, losses=[losses[:k], losses[k:]], after=recording.phi(i + 1), v=v)
        else:
            logits = recording.arrays[f"{name}/logits"]
            now = replace(stage, losses=[recording.losses(name)], logits=logits)
        mine[name] = Shadow(now, like=shadows[name])
    return mine
