/* Inner loops: gradient and optimiser step, minibatch after minibatch, in one call. */

#ifndef RK_INNER_LOOP_H
#define RK_INNER_LOOP_H

#include "network/gradient.h"
#include "network/mlp.h"
#include "network/optimizer.h"

/* Run by all members of a team. */
LOCAL void network_inner_loop(network_t *n, rk_optimizer *optimizer, const rk_loop *loop, team_t *team)
{
    for (int32_t i = 0; i < loop->steps; i++) {
        const float *phi = i == 0 ? loop->phi_in : loop->phi;
        network_gradient(n, phi, loop->x[i], loop->y[i], loop->grad, team);
        EACH(once, 1) loop->losses[i] = n->loss;
        barrier(team);
        update_all(optimizer, optimizer->t + i + 1, i == 0, phi, loop->phi, loop->grad,
                   i == loop->steps - 1 ? loop->before_last : NULL, n->parameters, team);
    }
}

LOCAL void mlp_inner_loop(mlp_t *m, rk_optimizer *optimizer, const rk_loop *loop)
{
    for (int32_t i = 0; i < loop->steps; i++) {
        const float *phi = i == 0 ? loop->phi_in : loop->phi;
        mlp_gradient(m, phi, loop->x[i], loop->y[i], loop->grad);
        loop->losses[i] = m->loss;
        update_chunk(optimizer, optimizer->t + i + 1, i == 0, phi, loop->phi, loop->grad,
                     i == loop->steps - 1 ? loop->before_last : NULL, 0, m->parameters);
    }
}

#endif
