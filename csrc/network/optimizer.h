/* One optimiser step in one pass over phi, the gradient and the moments, all (n,). */

#ifndef RK_OPTIMIZER_H
#define RK_OPTIMIZER_H

#include "core/vec.h"
#include "interface.h"

/* A step of an optimiser: its coefficients, and where phi and the moments come from and go to.  last: no step follows;
   keep_grad: the gradient is wanted too. */
typedef struct {
    int adam, last, keep_grad;
    float rate, b1, g1, b2, g2, epsilon;
    const float *rates; /* of Sgd; NULL: rate for all */
    const float *phi_in, *m_in, *v_in;
    float *phi, *m, *v;
} step_t;

/* The step with number t: 1, 2, ..., with the optimiser's own moments. */
LOCAL step_t step_of(const rk_optimizer *o, int32_t t, const float *phi_in, float *phi)
{
    step_t s = {.adam = o->adam, .phi_in = phi_in, .phi = phi};
    s.rate = (float)o->learning_rate;
    s.rates = o->rates;
    if (!o->adam) return s;
    s.rate = (float)(o->learning_rate * sqrt(1.0 - pow(o->beta2, t)) / (1.0 - pow(o->beta1, t)));
    s.b1 = (float)o->beta1;
    s.g1 = (float)(1.0 - o->beta1);
    s.b2 = (float)o->beta2;
    s.g2 = (float)(1.0 - o->beta2);
    s.epsilon = (float)o->epsilon;
    s.m = o->m;
    s.v = o->v;
    s.m_in = o->m_in;
    s.v_in = o->v_in;
    return s;
}

/* Compute phi[from .. end - 1] from their gradient grad[0 .. end - from - 1].
   Adam in TensorFlow's form: m, v are running means of g and g^2;
   phi -= learning_rate sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + epsilon). */
LOCAL void update_range(const step_t *s, ptrdiff_t from, ptrdiff_t end, const float *grad)
{
    const float *phi_in = s->phi_in, *m_in = s->m_in, *v_in = s->v_in;
    const float *rates = s->rates;
    float *phi = s->phi, *m = s->m, *v = s->v;
    const float rate = s->rate, b1 = s->b1, g1 = s->g1, b2 = s->b2, g2 = s->g2, epsilon = s->epsilon;
    if (!s->adam && rates) {
        RK_INDEPENDENT
        for (ptrdiff_t i = from; i < end; i++) phi[i] = phi_in[i] - rates[i] * grad[i - from];
    } else if (!s->adam) {
        RK_INDEPENDENT
        for (ptrdiff_t i = from; i < end; i++) phi[i] = phi_in[i] - rate * grad[i - from];
    } else if (m) {
        RK_INDEPENDENT
        for (ptrdiff_t i = from; i < end; i++) {
            v[i] = b2 * v_in[i] + g2 * (grad[i - from] * grad[i - from]);
            m[i] = b1 * m_in[i] + g1 * grad[i - from];
            phi[i] = phi_in[i] - rate * m[i] / (sqrtf(v[i]) + epsilon);
        }
    } else {
        RK_INDEPENDENT
        for (ptrdiff_t i = from; i < end; i++) {
            v[i] = b2 * v_in[i] + g2 * (grad[i - from] * grad[i - from]);
            phi[i] = phi_in[i] - rate * grad[i - from] / (sqrtf(v[i]) + epsilon);
        }
    }
}

#endif
