/* Inner loops: gradient and optimiser step, minibatch after minibatch, in one call. */

#ifndef RK_INNER_LOOP_H
#define RK_INNER_LOOP_H

#include "network/gradient.h"
#include "network/mlp.h"
#include "network/optimizer.h"

/* Step i of a loop: it reads phi and the moments that step i - 1 wrote. */
LOCAL step_t loop_step(const rk_optimizer *optimizer, const rk_loop *loop, int32_t i)
{
    step_t step = step_of(optimizer, optimizer->t + i + 1, i ? loop->phi[i - 1] : loop->phi_in, loop->phi[i]);
    step.last = i == loop->steps - 1;
    step.keep_grad = loop->keep_grads;
    if (!step.adam) return step;
    step.v = loop->v[i];
    step.m = loop->m ? loop->m[i] : NULL;
    if (i) step.v_in = loop->v[i - 1];
    if (i && loop->m) step.m_in = loop->m[i - 1];
    return step;
}

INLINE float *loop_grad(const rk_loop *loop, int32_t i) { return loop->grad[loop->keep_grads ? i : 0]; }

/* For barrier_then: keep the residuals of the next gradient in `saved`. */
typedef struct { network_t *network; float *saved; } residuals_task_t;
LOCAL void keep_residuals(void *task)
{
    const residuals_task_t *t = task;
    network_use_saved(t->network, t->saved);
}

/* Run by all members of a team. */
LOCAL void network_inner_loop(network_t *n, const rk_optimizer *optimizer, const rk_loop *loop, team_t *team)
{
    network_pack(n, loop->phi_in, 1, team);
    for (int32_t i = 0; i < loop->steps; i++) {
        const step_t step = loop_step(optimizer, loop, i);
        residuals_task_t residuals = {n, loop->saved ? loop->saved[i] : NULL};
        if (loop->saved) barrier_then(team, keep_residuals, &residuals);
        network_gradient(n, loop->x[i], loop->y[i], loop_grad(loop, i), &step, team);
        if (team->member == 0) loop->losses[i] = n->loss;
    }
}

/* The same for dense layers, on one thread. */
LOCAL void mlp_inner_loop(mlp_t *m, const rk_optimizer *optimizer, const rk_loop *loop)
{
    mlp_use_saved(m, NULL);
    for (int32_t i = 0; i < loop->steps; i++) {
        const step_t step = loop_step(optimizer, loop, i);
        if (loop->saved) mlp_use_saved(m, loop->saved[i]);
        mlp_pack(m, step.phi_in);
        mlp_gradient(m, loop->x[i], loop->y[i], loop_grad(loop, i));
        loop->losses[i] = m->loss;
        update_range(&step, 0, m->parameters, loop_grad(loop, i));
    }
}

#endif
