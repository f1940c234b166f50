/* Inner loops: gradient and optimiser step, minibatch after minibatch, in one call. */

#ifndef RK_INNER_LOOP_H
#define RK_INNER_LOOP_H

#include "network/gradient.h"
#include "network/mlp.h"
#include "network/optimizer.h"

/* Step i of a loop. */
LOCAL step_t loop_step(const rk_optimizer *optimizer, const rk_loop *loop, int32_t i)
{
    step_t step = step_of(optimizer, optimizer->t + i + 1, i == 0, i == 0 ? loop->phi_in : loop->phi, loop->phi);
    step.last = i == loop->steps - 1;
    step.before = step.last ? loop->before_last : NULL;
    return step;
}

/* Run by all members of a team. */
LOCAL void network_inner_loop(network_t *n, const rk_optimizer *optimizer, const rk_loop *loop, team_t *team)
{
    network_pack(n, loop->phi_in, 1, team);
    for (int32_t i = 0; i < loop->steps; i++) {
        const step_t step = loop_step(optimizer, loop, i);
        network_gradient(n, loop->x[i], loop->y[i], loop->grad, &step, team);
        if (team->member == 0) loop->losses[i] = n->loss;
    }
}

LOCAL void mlp_inner_loop(mlp_t *m, const rk_optimizer *optimizer, const rk_loop *loop)
{
    for (int32_t i = 0; i < loop->steps; i++) {
        const step_t step = loop_step(optimizer, loop, i);
        mlp_pack(m, step.phi_in);
        mlp_gradient(m, loop->x[i], loop->y[i], loop->grad);
        loop->losses[i] = m->loss;
        update_range(&step, 0, m->parameters, loop->grad);
    }
}

#endif
