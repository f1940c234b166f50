/* One optimiser step in one pass over phi, the gradient and the moments, all (n,). */

#ifndef RK_OPTIMIZER_H
#define RK_OPTIMIZER_H

#include "core/team.h"
#include "core/vec.h"
#include "interface.h"

enum { CHUNK_PARAMETERS = 4096 }; /* parameters in a chunk */

/* Compute phi[from .. to - 1] from phi_in, which may be the same array; t is the number of this step: 1, 2, ...
   first: the moments are still in m_in, v_in.  before: unless NULL, receives phi_in.
   Adam in TensorFlow's form: m, v are running means of g and g^2;
   phi -= learning_rate sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + epsilon). */
LOCAL void update_chunk(const rk_optimizer *o, int32_t t, int first, const float *phi_in, float *phi, const float *grad,
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

/* All of phi (n,), chunk by chunk. */
LOCAL void update_all(const rk_optimizer *o, int32_t t, int first, const float *phi_in, float *phi, const float *grad,
                      float *before, ptrdiff_t n, team_t *team)
{
    EACH(i, (int32_t)((n + CHUNK_PARAMETERS - 1) / CHUNK_PARAMETERS)) {
        const ptrdiff_t from = (ptrdiff_t)i * CHUNK_PARAMETERS, to = from + CHUNK_PARAMETERS < n ? from + CHUNK_PARAMETERS : n;
        update_chunk(o, t, first, phi_in, phi, grad, before, from, to);
    }
    barrier(team);
}

#endif
