/* Inner loops: gradient and optimiser step, minibatch after minibatch, in one call. */

#ifndef RK_INNER_LOOP_H
#define RK_INNER_LOOP_H

#include "network/gradient.h"
#include "network/mlp.h"
#include "network/optimizer.h"

/* Update the parameters of a packing item; with a layer's first item its vectors too. */
LOCAL void update_item(const network_t *n, pack_item_t i, const step_t *step)
{
    const conv_t *c = layer_conv(n, i.layer);
    const rk_conv *s = &c->shape;
    const ptrdiff_t kernel = layer_offset(n, i.layer), tap = (ptrdiff_t)s->channels * s->filters;
    const ptrdiff_t from = (ptrdiff_t)i.item * LANES * s->filters, end = from + LANES * s->filters < tap ? from + LANES * s->filters : tap;
    for (int32_t t = 0; t < s->kernel_height * s->kernel_width && from < end; t++)
        update_range(step, kernel + t * tap + from, kernel + t * tap + end); /* kernel[t, LANES channels, :] */
    const ptrdiff_t vectors = kernel + kernel_size(s);
    if (i.item == 0) update_range(step, vectors, vectors + (i.layer == n->shape.blocks ? 1 : 3) * (ptrdiff_t)s->filters);
}

/* Run by all members of a team.  Parameters are packed for the next step as soon as they are updated, while they are in the cache. */
LOCAL void network_inner_loop(network_t *n, const rk_optimizer *optimizer, const rk_loop *loop, team_t *team)
{
    network_pack(n, loop->phi_in, 1, team);
    for (int32_t i = 0; i < loop->steps; i++) {
        const int last = i == loop->steps - 1;
        const step_t step = step_of(optimizer, optimizer->t + i + 1, i == 0, i == 0 ? loop->phi_in : loop->phi, loop->phi, loop->grad,
                                    last ? loop->before_last : NULL);
        network_gradient(n, loop->x[i], loop->y[i], loop->grad, team);
        EACH(j, network_pack_items(n)) {
            const pack_item_t item = pack_item_at(n, j);
            if (j == 0) loop->losses[i] = n->loss;
            update_item(n, item, &step);
            if (!last) network_pack_item(n, item, loop->phi, 1);
        }
        barrier(team);
    }
}

LOCAL void mlp_inner_loop(mlp_t *m, const rk_optimizer *optimizer, const rk_loop *loop)
{
    for (int32_t i = 0; i < loop->steps; i++) {
        const float *phi = i == 0 ? loop->phi_in : loop->phi;
        const step_t step = step_of(optimizer, optimizer->t + i + 1, i == 0, phi, loop->phi, loop->grad,
                                    i == loop->steps - 1 ? loop->before_last : NULL);
        mlp_pack(m, phi);
        mlp_gradient(m, loop->x[i], loop->y[i], loop->grad);
        loop->losses[i] = m->loss;
        update_range(&step, 0, m->parameters);
    }
}

#endif
