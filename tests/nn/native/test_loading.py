"""Which tables there are, how they are chosen, and what happens if one is missing."""

import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn import native
from reptile_np.nn.models import Model, omniglot_cnn, sine_mlp
from reptile_np.nn.native import extension, networks
from reptile_np.nn.native.networks import NativeNetwork
from reptile_np.nn.ops import NUMPY
from tests import native_kernels
from tests.nn.native.networks import single
from tests.oracles import assert_close, relative_error

built = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")


def one_line(error):
    return "\n" not in str(error.value) and str(error.value)


@built
def test_available_names_are_what_load_accepts_best_first():
    names = native.available()
    assert "portable" in names
    assert list(names) == [name for name in native.VARIANTS if name in names]
    assert [native.load(name).name for name in names] == [f"native-{name}" for name in names]
    assert native.load().name == f"native-{names[0]}"


@built
def test_an_unknown_variant_is_refused_in_one_line():
    with pytest.raises(UsageError, match="choose one of") as error:
        native.load("mmx")
    assert one_line(error)


@built
@pytest.mark.parametrize("threads", [0, -1, 65, 2.5, "two", "0"])
def test_a_bad_thread_count_is_refused_in_one_line(threads, monkeypatch):
    with pytest.raises(UsageError, match="from 1 to 64") as error:
        native.load(threads=threads)
    assert one_line(error)
    monkeypatch.setenv("REPTILE_NP_THREADS", str(threads))
    with pytest.raises(UsageError, match=rf"^REPTILE_NP_THREADS is {threads}; .* from 1 to 64"):
        native.load()


@built
def test_a_bad_variant_in_the_environment_is_named_with_the_variable(monkeypatch):
    monkeypatch.setenv("REPTILE_NP_OPS", "mmx")
    with pytest.raises(UsageError, match=r"^REPTILE_NP_OPS is 'mmx'; choose one of"):
        native.load()


@built
def test_the_environment_decides_what_the_caller_does_not(monkeypatch):
    monkeypatch.setenv("REPTILE_NP_OPS", "portable")
    monkeypatch.setenv("REPTILE_NP_THREADS", "3")
    ops = native.load()
    assert (ops.name, ops.threads, ops.kernels.team.threads) == ("native-portable", 3, 3)
    ops = native.load(native.available()[0], threads=1)
    assert (ops.name, ops.threads) == (f"native-{native.available()[0]}", 1)


@built
@pytest.mark.parametrize("threads", [0, 1.5, None])
def test_the_peak_is_that_of_a_whole_number_of_threads(threads):
    with pytest.raises(
        UsageError, match=f"^fma_gflops: threads is {threads}; give a whole number of at least 1$"
    ):
        native.fma_gflops(native.available()[0], threads)


def test_without_the_extension_there_is_no_variant_and_load_says_what_to_do(monkeypatch):
    monkeypatch.setattr(extension, "lib", None)
    assert native.available() == ()
    for call in (native.load, lambda: native.fma_gflops("avx2")):
        with pytest.raises(UsageError, match="install a C compiler") as error:
            call()
        assert one_line(error)


MODELS = {"whole in C": omniglot_cnn(3, filters=4), "tanh": sine_mlp((4,))}


@built
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("left", [("portable",), ()])
def test_a_model_whose_instruction_set_is_missing_gets_the_best_there_is_and_a_warning(
    monkeypatch, name, left
):
    """A process that unpickles it may run on another machine."""
    best = native.available()[0]
    if best in left:
        pytest.skip("this machine has one instruction set only")
    model = MODELS[name].with_ops(native_kernels.load(best, 1))
    stored = pickle.dumps(model)
    monkeypatch.setattr(networks, "available", lambda: left)
    instead = "native-portable" if left else "numpy"
    with pytest.warns(UserWarning, match=f"^native-{best} is not available .*: using {instead}$"):
        restored = pickle.loads(stored)
    assert restored.ops.name == instead
    assert isinstance(restored, NativeNetwork) == bool(left)
    phi = model.init(np.random.default_rng(0), np.float64)
    x = np.ones((3, *model.input_shape))
    expected = model.predict(phi, x)
    np.testing.assert_array_equal(restored.predict(phi, x), expected)
    single = [array.astype(np.float32) for array in (phi, x)]
    assert_close(restored.predict(*single), expected.astype(np.float32))


@built
@pytest.mark.filterwarnings("ignore:native-.* is not available")
@pytest.mark.parametrize("left", [native.available()[:1], ("portable",), ()])
def test_a_hessian_of_a_trajectory_is_the_same_on_a_machine_without_its_instruction_set(monkeypatch, left):
    """What it was saved from is not pickled: every instruction set has its own layout."""
    model, rng = omniglot_cnn(5, filters=7), np.random.default_rng(0)
    phi, batch, v = single(model, rng, 3)
    network = model.with_ops(native_kernels.load(threads=1))
    t = adapt(network, Sgd(0.1), phi, [batch], keep="hessians")
    expected = t.hessians[0](v)
    stored = pickle.dumps((t, network.linearize(phi, batch)))
    monkeypatch.setattr(networks, "available", lambda: left)
    trajectory, linearization = pickle.loads(stored)
    for hvp in (trajectory.hessians[0], linearization.hvp):
        assert relative_error(hvp(v), expected) < 1e-5


@built
def test_kernels_of_a_missing_instruction_set_are_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(extension, "available", lambda: ("portable",))
    with pytest.raises(UsageError, match=r"choose one of portable$") as error:
        native.load("portable16")
    assert one_line(error)


@built
def test_going_back_to_numpy_gives_a_plain_model_and_forth_again_a_native_one():
    model = sine_mlp()
    network = model.with_ops(native.load())
    assert type(network) is NativeNetwork
    assert type(network.with_ops(NUMPY)) is Model
    assert network.with_ops(NUMPY) == model
    assert type(network.with_ops(NUMPY).with_ops(native.load())) is NativeNetwork


FORKS = """
import os, threading, time
import numpy as np
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Adam
from reptile_np.nn import native
from reptile_np.nn.models import omniglot_cnn

model = omniglot_cnn(5, filters=4).with_ops(native.load(threads=1))
rng = np.random.default_rng(0)
phi, batch = model.init(rng), (rng.random((5, 28, 28, 1), np.float32), np.arange(5))
run = lambda: adapt(model, Adam(1e-3), phi, [batch] * 2, keep="ends").phis[-1]
expected, stop = run(), threading.Event()

def work():
    while not stop.is_set():
        run()

workers = [threading.Thread(target=work, daemon=True) for _ in range(3)]
for worker in workers:
    worker.start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        os._exit(0 if (run() == expected).all() else 1)
    deadline = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.001)
    if ended == (0, 0):
        os.kill(child, 9)
        raise SystemExit("the child hangs")
    assert ended[1] == 0, "the child's answer differs"
stop.set()
for worker in workers:
    worker.join()
"""


@built
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_process_may_fork_while_other_threads_are_inside_native_calls():
    """In a process of its own: the child of a test run would inherit pytest."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


FORKS_WHILE_A_NETWORK_IS_PREPARED = """
import os, threading, time
import numpy as np
from reptile_np.nn import native
from reptile_np.nn.models import omniglot_cnn
from reptile_np.nn.native import networks

started, made = threading.Event(), networks.NetworkCalls


def slow(*arguments):
    started.set()
    time.sleep(0.5)
    return made(*arguments)


a, b = (omniglot_cnn(5).with_ops(native.load(threads=1)) for _ in range(2))
phi, x = np.zeros(a.layout.size, np.float32), np.zeros((5, 28, 28, 1), np.float32)
b.layout, b.output_shape
networks.NetworkCalls = slow
threading.Thread(target=a.predict, args=(phi, x)).start()
started.wait()
child = os.fork()
if child == 0:
    networks.NetworkCalls = made
    b.predict(phi, x)
    os._exit(0)
deadline = time.monotonic() + 30
while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
    time.sleep(0.01)
if ended == (0, 0):
    os.kill(child, 9)
    raise SystemExit("the child hangs")
assert ended[1] == 0
"""


@built
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_process_may_fork_while_another_thread_prepares_a_network():
    """Python 3.11's `cached_property` holds one lock for all networks: the child used to wait for ever."""
    program = [sys.executable, "-W", "ignore", "-c", FORKS_WHILE_A_NETWORK_IS_PREPARED]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@built
def test_a_plain_model_with_native_maps_works_too():
    model = Model(sine_mlp((3,)).layers, (1,), sine_mlp().loss, native.load())
    assert type(model) is Model
    assert model.kernels.endswith("because it is not from Model.with_ops")

    class Own(Model):
        pass

    own = Own(model.layers, model.input_shape, model.loss).with_ops(native.load())
    assert own.kernels.endswith("because it is a subclass of Model")
    phi, x = model.init(np.random.default_rng(0)), np.ones((2, 1), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t = adapt(model, Sgd(0.1), phi, [(x, x)])
    assert len(t.phis) == 2
