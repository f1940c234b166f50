/* One optimiser step in one pass over phi, grad and the moments. */

#ifndef RK_UPDATE_H
#define RK_UPDATE_H

#include "core/team.h"
#include "core/vec.h"

enum { STRETCH = 4096 }; /* parameters in a unit of work */

/* Set phi[from..to) from phi_in, which may be the same array; t is the number of this step, 1, 2, ...
   first: the moments still stand in m_in, v_in.  before, where given, receives phi_in.
   Adam, TensorFlow's form: m, v are running means of g, g^2; phi -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon). */
LOCAL void update_stretch(const rk_optimizer *o, int32_t t, int first, const float *phi_in, float *phi, const float *grad,
                          float *before, ptrdiff_t from, ptrdiff_t to)
{
    if (before) memcpy(before + from, phi_in + from, sizeof(float) * (to - from));
    if (!o->adam) {
        const float rate = (float)o->learning_rate;
        RK_INDEPENDENT
        for (ptrdiff_t i = from; i < to; i++) phi[i] = phi_in[i] - rate * grad[i];
        return;
    }
    const float b1 = (float)o->beta1, g1 = (float)(1.0 - o->beta1), b2 = (float)o->beta2, g2 = (float)(1.0 - o->beta2);
    const float rate = (float)(o->learning_rate * sqrt(1.0 - pow(o->beta2, t)) / (1.0 - pow(o->beta1, t)));
    const float epsilon = (float)o->epsilon;
    const float *m_in = first ? o->m_in : o->m, *v_in = first ? o->v_in : o->v;
    float *m = o->m, *v = o->v;
    if (m) {
        RK_INDEPENDENT
        for (ptrdiff_t i = from; i < to; i++) {
            v[i] = b2 * v_in[i] + g2 * (grad[i] * grad[i]);
            m[i] = b1 * m_in[i] + g1 * grad[i];
            phi[i] = phi_in[i] - rate * m[i] / (sqrtf(v[i]) + epsilon);
        }
    } else {
        RK_INDEPENDENT
        for (ptrdiff_t i = from; i < to; i++) {
            v[i] = b2 * v_in[i] + g2 * (grad[i] * grad[i]);
            phi[i] = phi_in[i] - rate * grad[i] / (sqrtf(v[i]) + epsilon);
        }
    }
}

/* All of phi (n,), in stretches. */
LOCAL void update_all(const rk_optimizer *o, int32_t t, int first, const float *phi_in, float *phi, const float *grad,
                      float *before, int32_t n, team_t *team)
{
    EACH(i, ceil_div(n, STRETCH)) {
        const ptrdiff_t from = (ptrdiff_t)i * STRETCH, to = from + STRETCH < n ? from + STRETCH : n;
        update_stretch(o, t, first, phi_in, phi, grad, before, from, to);
    }
    barrier(team);
}

#endif
