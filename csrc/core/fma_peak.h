/* The highest rate of multiply-adds that this processor reaches with this instruction set, for `reptile-np bench`. */

#ifndef RK_FMA_PEAK_H
#define RK_FMA_PEAK_H

#include "core/vec.h"

/* Keep every multiply-add unit busy with as many independent sums as the micro-kernel has.  Returns the operations done. */
LOCAL double multiply_adds(int64_t rounds, float *sink)
{
    enum { SUMS = 2 * RK_ROWS };
    vec sum[SUMS];
    const vec a = splat(0.999f), b = splat(1e-3f);
    RK_UNROLL
    for (int i = 0; i < SUMS; i++) sum[i] = splat((float)i);
    for (int64_t k = 0; k < rounds; k++) {
        RK_UNROLL
        for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * a + b;
    }
    vec total = zero();
    RK_UNROLL
    for (int i = 0; i < SUMS; i++) total += sum[i];
    *sink = sum_lanes(total);
    return 2.0 * SUMS * LANES * (double)rounds;
}

#endif
