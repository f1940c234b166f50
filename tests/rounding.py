"""What rounding can do to a network: errors as large as a dtype allows, times a small factor."""

from dataclasses import replace

import numpy as np

from reptile_np.nn.ops import NUMPY
from tests.oracles import gamma

TINY = 1e-6


def wobbling(seed, dtype=np.float32):
    """Ops in float64 whose errors are TINY × what `dtype` allows: ± min(γ_n, 6 √n u) Σ |terms| in each sum.

    γ_n is the worst case of n products.  Where roundings are independent and of mean zero the error exceeds
    λ √n u Σ |terms| with probability 2 exp(-λ² / 2) (Higham & Mary 2019, theorem 2.4): 3e-8 at λ = 6.
    """
    rng, u = np.random.default_rng(seed), float(np.finfo(dtype).eps) / 2

    def worst(map_, length):
        def wobbly(*arguments):
            terms = map_(*(np.abs(a) if isinstance(a, np.ndarray) else a for a in arguments))
            n = length(*arguments)
            share = min(gamma(n, dtype), 6 * np.sqrt(n) * u)
            return map_(*arguments) + TINY * share * rng.choice([-1.0, 1.0], terms.shape) * terms

        return wobbly

    lengths = {  # of the sums in each entry of the result
        "matmul": lambda x, w: len(w),
        "matmul_input": lambda y_bar, w: w.shape[1],
        "matmul_weight": lambda x, y_bar: len(x),
        "conv2d": lambda x, kernel, *_: kernel[..., 0].size,
        "conv2d_input": lambda y_bar, kernel, *_: kernel[:, :, 0].size,
        "conv2d_weight": lambda x, y_bar, *_: y_bar[..., 0].size,
    }
    maps = {name: worst(getattr(NUMPY, name), length) for name, length in lengths.items()}
    return replace(NUMPY, name="wobbling", **maps)
