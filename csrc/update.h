/* One optimiser step in one pass over phi, grad and the moments. */

#ifndef RK_UPDATE_H
#define RK_UPDATE_H

#include "team.h"
#include "vec.h"

enum { STRETCH = 4096 }; /* parameters in a unit of work */

/* Update phi[from..to); t is the number of this step, 1, 2, ...  before, where given, receives phi as it was.
   Adam, TensorFlow's form: m, v are running means of g, g^2; phi -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon). */
LOCAL void update_stretch(const rk_optimizer *o, int32_t t, float *restrict phi, const float *restrict grad,
                          float *restrict before, ptrdiff_t from, ptrdiff_t to)
{
    if (before) memcpy(before + from, phi + from, sizeof(float) * (to - from));
    if (!o->adam) {
        const float rate = (float)o->learning_rate;
        for (ptrdiff_t i = from; i < to; i++) phi[i] -= rate * grad[i];
        return;
    }
    const float b1 = (float)o->beta1, g1 = (float)(1.0 - o->beta1), b2 = (float)o->beta2, g2 = (float)(1.0 - o->beta2);
    const float rate = (float)(o->learning_rate * sqrt(1.0 - pow(o->beta2, t)) / (1.0 - pow(o->beta1, t)));
    const float epsilon = (float)o->epsilon;
    float *restrict m = o->m, *restrict v = o->v;
    if (m) {
        for (ptrdiff_t i = from; i < to; i++) {
            v[i] = b2 * v[i] + g2 * (grad[i] * grad[i]);
            m[i] = b1 * m[i] + g1 * grad[i];
            phi[i] -= rate * m[i] / (sqrtf(v[i]) + epsilon);
        }
    } else {
        for (ptrdiff_t i = from; i < to; i++) {
            v[i] = b2 * v[i] + g2 * (grad[i] * grad[i]);
            phi[i] -= rate * grad[i] / (sqrtf(v[i]) + epsilon);
        }
    }
}

/* All of phi (n,), in stretches. */
LOCAL void update_all(const rk_optimizer *o, int32_t t, float *phi, const float *grad, float *before, int32_t n, team_t *team)
{
    for (int32_t i; (i = claim(team)) < ceil_div(n, STRETCH);) {
        const ptrdiff_t from = (ptrdiff_t)i * STRETCH, to = from + STRETCH < n ? from + STRETCH : n;
        update_stretch(o, t, phi, grad, before, from, to);
    }
    barrier(team);
}

#endif
