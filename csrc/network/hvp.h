/* Hessian-vector products of a network: the tangent, along v, of its gradient (Pearlmutter 1994).

   The gradient ran before and saved z and a_bar of every block (network_layout_saved).  Tangents (_dot) follow it forward and
   backward: six products per layer, two forward, two for the weights, two for the input.  Shapes as in block.h.
   Batch norm, slope = mean(xhat z_dot): xhat_dot = r (z_dot - mean(z_dot) - xhat slope), r_dot = -r^2 slope.
   Terms marked * are second order: the adjoint is held fixed while weights, activations and statistics vary.  */

#ifndef RK_HVP_H
#define RK_HVP_H

#include "network/gradient.h"

/* The tangents of the weights, packed like the weights. */
LOCAL void network_pack_dot(network_t *n, const float *v, team_t *team)
{
    EACH(i, network_pack_items(n)) {
        const pack_item_t p = pack_item_at(n, i);
        const int dense = p.layer == n->shape.blocks;
        const block_t *k = &n->block[dense ? 0 : p.layer];
        const conv_t *c = layer_conv(n, p.layer);
        const float *w = layer_kernel(n, p.layer, p.item, v);
        float *back = dense ? n->dense_packed_back_dot : k->packed_back_dot;
        conv_pack(c, w, p.item, dense ? n->dense_packed_dot : k->packed_dot);
        if (back) conv_pack_back(c, w, p.item, back);
        if (p.item == 0) pad_layer(n, p.layer, v, 1);
    }
    barrier(team);
}

/* u_dot of pooled rows from .. to - 1: z_dot at the argmax. */
LOCAL void block_pool_dot(const block_t *k, int32_t from, int32_t to)
{
    for (int32_t row = from; row < to; row++) {
        const window_t w = window_of(k, row, 0);
        for (int32_t c = 0; c < k->channels; c += LANES) {
            const ivec argmax = load_i(k->argmax + (ptrdiff_t)row * k->channels + c);
            vec u_dot = zero();
            RK_EACH_IN(w, { u_dot = choose(argmax == index, load(k->z_dot + at), u_dot); })
            store(k->u_dot + (ptrdiff_t)row * k->channels + c, u_dot);
        }
    }
}

/* Partial sums of z_dot and (z - mean) z_dot over rows from .. to - 1 of those that the statistics are taken over. */
LOCAL void block_sums_dot(const block_t *k, int32_t from, int32_t to, float *part)
{
    const int by_z = k->counted == k->rows;
    const float *z = by_z ? k->z : k->u, *z_dot = by_z ? k->z_dot : k->u_dot;
    for (int32_t c = 0; c < k->channels; c += LANES) {
        const vec mean = load(k->mean + c);
        vec sum = zero(), product = zero();
        for (int32_t row = from; row < to; row++) {
            const ptrdiff_t at = (ptrdiff_t)row * k->channels + c; /* z[row, c] */
            sum += load(z_dot + at);
            product += (load(z + at) - mean) * load(z_dot + at);
        }
        store(part + c, sum);
        store(part + k->channels + c, product);
    }
}

/* Merge the partial sums for lanes c ..: mean(z_dot), slope = mean(xhat z_dot), r_dot. */
LOCAL void block_statistics_dot(const block_t *k, int32_t c)
{
    const vec share = splat(1.0f / (float)k->counted), r = load(k->r + c);
    vec sum = zero(), product = zero();
    for (int32_t i = 0; i < row_chunks(k->counted); i++) {
        sum += load(k->partials + (ptrdiff_t)i * 2 * k->channels + c); /* partials[i, 0, c] */
        product += load(k->partials + (ptrdiff_t)(i * 2 + 1) * k->channels + c);
    }
    const vec slope = product * share * r;
    store(k->zm_dot + c, sum * share);
    store(k->slope + c, slope);
    store(k->r_dot + c, -r * r * slope);
}

/* The batch norm and its tangent at LANES channels, loaded once. */
typedef struct { norm_t norm; vec gamma, gamma_dot, beta_dot, zm_dot, slope, r_dot; } norm_dot_t;
INLINE norm_dot_t norm_dot_at(const block_t *k, int32_t c)
{
    return (norm_dot_t){norm_at(k, c), load(k->gamma + c), load(k->gamma_dot + c), load(k->beta_dot + c),
                        load(k->zm_dot + c), load(k->slope + c), load(k->r_dot + c)};
}
INLINE vec xhat_of(const norm_dot_t *s, vec z) { return (z - s->norm.mean) * s->norm.r; }
INLINE vec xhat_dot_of(const norm_dot_t *s, vec xhat, vec z_dot) { return (z_dot - s->zm_dot - xhat * s->slope) * s->norm.r; }

/* a_dot of pooled rows from .. to - 1: gamma_dot xhat + gamma xhat_dot + beta_dot if y > 0, else 0. */
LOCAL void block_activate_dot(const block_t *k, int32_t from, int32_t to)
{
    for (int32_t row = from; row < to; row++) {
        float *a_dot = activation(k, k->a_dot, row);
        for (int32_t c = 0; c < k->channels; c += LANES) {
            const ptrdiff_t at = (ptrdiff_t)row * k->channels + c; /* u[row, c] */
            const norm_dot_t s = norm_dot_at(k, c);
            const vec u = load(k->u + at), xhat = xhat_of(&s, u);
            const vec xhat_dot = xhat_dot_of(&s, xhat, load(k->u_dot + at));
            const vec y_dot = s.gamma * xhat_dot + s.gamma_dot * xhat + s.beta_dot;
            store(a_dot + c, keep(norm_y(&s.norm, u) > zero(), y_dot));
        }
    }
}

/* For barrier_then: delta_dot = scale p (logits_dot - <p, logits_dot>); p: the softmax, scale: 1/B if the loss is averaged. */
LOCAL void network_loss_dot(void *task)
{
    network_t *n = ((loss_task_t *)task)->network;
    const int32_t *labels = ((loss_task_t *)task)->labels;
    const int32_t ways = n->shape.dense.filters, stride = n->dense.out;
    const float scale = n->shape.mean_loss ? 1.0f / (float)n->batch : 1.0f;
    for (int32_t b = 0; b < n->batch; b++) {
        const ptrdiff_t row = (ptrdiff_t)b * stride; /* logits[b, :] */
        float mean = 0.0f;
        for (int32_t j = 0; j < ways; j++) {
            const float p = n->delta[row + j] / scale + (float)(j == labels[b]);
            n->delta_dot[row + j] = p;
            mean += p * n->logits_dot[row + j];
        }
        for (int32_t j = 0; j < ways; j++) n->delta_dot[row + j] *= (n->logits_dot[row + j] - mean) * scale;
        memset(n->delta_dot + row + ways, 0, sizeof(float) * (stride - ways));
    }
}

/* For barrier_then: the tangents of all statistics of a block. */
LOCAL void finish_statistics_dot(void *block)
{
    const block_t *k = block;
    for (int32_t c = 0; c < k->channels; c += LANES) block_statistics_dot(k, c);
}

/* logits_dot along v; the weights' tangents are packed, and the forward pass has run.  The last barrier runs network_loss_dot. */
LOCAL void network_forward_dot(network_t *n, const float *x, const int32_t *labels, team_t *team)
{
    const float *x_dot = NULL;
    for (int32_t l = 0; l < n->shape.blocks; l++) {
        block_t *k = &n->block[l];
        EACH(i, conv_items(&k->conv)) {
            conv_item(&k->conv, i, x, k->packed_dot, FROM_BIAS, k->bias_dot, k->z_dot);
            if (x_dot) conv_item(&k->conv, i, x_dot, k->conv.packed, FROM_OUT, NULL, k->z_dot);
        }
        barrier(team);
        if (pools(k)) {
            EACH(i, row_chunks(k->pooled)) block_pool_dot(k, i * CHUNK_ROWS, min_i((i + 1) * CHUNK_ROWS, k->pooled));
            barrier(team);
        }
        EACH(i, row_chunks(k->counted))
            block_sums_dot(k, i * CHUNK_ROWS, min_i((i + 1) * CHUNK_ROWS, k->counted),
                           k->partials + (ptrdiff_t)i * 2 * k->channels);
        barrier_then(team, finish_statistics_dot, k);
        EACH(i, row_chunks(k->pooled)) block_activate_dot(k, i * CHUNK_ROWS, min_i((i + 1) * CHUNK_ROWS, k->pooled));
        barrier(team);
        x = k->a;
        x_dot = k->a_dot;
    }
    EACH(i, conv_items(&n->dense)) {
        conv_item(&n->dense, i, x, n->dense_packed_dot, FROM_BIAS, n->dense_bias_dot, n->logits_dot);
        conv_item(&n->dense, i, x_dot, n->dense.packed, FROM_OUT, NULL, n->logits_dot);
    }
    loss_task_t loss = {n, labels};
    barrier_then(team, network_loss_dot, &loss);
}

/* Partial sums over the pooled rows at to[0 .. rows - 1], lanes c .., of the tangents of y_bar and xhat y_bar: y_bar_dot and
   xhat y_bar_dot + xhat_dot y_bar *. */
LOCAL void block_sums_back_dot(const block_t *k, const int32_t *to, int32_t rows, int32_t c, float *part)
{
    const norm_dot_t s = norm_dot_at(k, c);
    vec sum_dot = zero(), product_dot = zero();
    for (int32_t i = 0; i < rows; i++) {
        const ptrdiff_t at = (ptrdiff_t)to[i] + c; /* a_bar[row_i, c] */
        const vec u = load(k->u + at), xhat = xhat_of(&s, u);
        const ivec on = norm_y(&s.norm, u) > zero();
        const vec y_bar = keep(on, load(k->a_bar + at)), y_bar_dot = keep(on, load(k->a_bar_dot + at));
        sum_dot += y_bar_dot;
        product_dot += xhat * y_bar_dot + xhat_dot_of(&s, xhat, load(k->u_dot + at)) * y_bar;
    }
    store(part + c, sum_dot);
    store(part + k->channels + c, product_dot);
}

/* z_bar and z_bar_dot of LANES floats, from y_bar, y_bar_dot, z and z_dot:
     q = y_bar - mean(y_bar) - xhat mean(xhat y_bar),  z_bar = gamma r q,
     z_bar_dot = gamma r q_dot + (gamma_dot r + gamma r_dot) q *.
   m1 ... m2_dot are means: block_t's sums divided by `counted`.  */
typedef struct { norm_dot_t norm; vec m1, m2, m1_dot, m2_dot; } back_dot_t;
INLINE void norm_back_dot(const back_dot_t *s, vec y_bar, vec y_bar_dot, vec z, vec z_dot, float *z_bar, float *z_bar_dot)
{
    const norm_dot_t *n = &s->norm;
    const vec xhat = xhat_of(n, z), xhat_dot = xhat_dot_of(n, xhat, z_dot);
    const vec q = y_bar - s->m1 - xhat * s->m2;
    const vec q_dot = y_bar_dot - s->m1_dot - xhat * s->m2_dot - xhat_dot * s->m2; /* last term * */
    store(z_bar, n->norm.scale * q);
    store(z_bar_dot, n->norm.scale * q_dot + (n->gamma_dot * n->norm.r + n->gamma * n->r_dot) * q);
}

/* z_bar, and z_bar_dot in place of z_dot, of the rows under pooled rows from .. to - 1, and of those in no window. */
LOCAL void block_back_dot(const block_t *k, int32_t from, int32_t to)
{
    const vec share = splat(1.0f / (float)k->counted);
    for (int32_t row = from; row < to; row++) {
        const window_t w = pools(k) ? window_of(k, row, 1) : (window_t){0};
        for (int32_t c = 0; c < k->channels; c += LANES) {
            const ptrdiff_t here = (ptrdiff_t)row * k->channels + c; /* u[row, c] */
            const back_dot_t s = {norm_dot_at(k, c), load(k->m1 + c) * share, load(k->m2 + c) * share,
                                  load(k->m1_dot + c) * share, load(k->m2_dot + c) * share};
            const vec u = load(k->u + here);
            const ivec on = norm_y(&s.norm.norm, u) > zero();
            const vec y_bar = keep(on, load(k->a_bar + here)), y_bar_dot = keep(on, load(k->a_bar_dot + here));
            if (!pools(k)) {
                norm_back_dot(&s, y_bar, y_bar_dot, u, load(k->z_dot + here), k->z_bar + here, k->z_dot + here);
                continue;
            }
            const ivec argmax = load_i(k->argmax + here);
            if (k->shape.pool_first) {
                float u_bar[LANES], u_bar_dot[LANES];
                norm_back_dot(&s, y_bar, y_bar_dot, u, load(k->u_dot + here), u_bar, u_bar_dot);
                RK_EACH_IN(w, {
                    store(k->z_bar + at, keep(argmax == index, load(u_bar)));
                    store(k->z_dot + at, keep(argmax == index, load(u_bar_dot)));
                })
            } else {
                RK_EACH_IN(w, {
                    norm_back_dot(&s, keep(argmax == index, y_bar), keep(argmax == index, y_bar_dot), load(k->z + at),
                                  load(k->z_dot + at), k->z_bar + at, k->z_dot + at);
                })
            }
        }
    }
}

/* The tangents of the weight and input adjoints of convolution c, with input x (tangent x_dot, NULL for the first layer) and output
   adjoint y_bar: w_bar_dot and, if there is a block below, its a_bar_dot, m1_dot and m2_dot. */
LOCAL void conv_adjoints_dot(const conv_t *c, const float *x, const float *x_dot, const float *y_bar, const float *y_bar_dot,
                             const float *packed_back_dot, float *w_bar_dot, const block_t *below, team_t *team)
{
    const int32_t pieces = weight_pieces(c, team->shared->members);
    EACH(i, conv_weight_items(c, pieces)) {
        conv_weight_item(c, i, pieces, x, y_bar_dot, 0, w_bar_dot);
        if (x_dot) conv_weight_item(c, i, pieces, x_dot, y_bar, 1, w_bar_dot); /* * */
    }
    if (!below) {
        barrier(team);
        return;
    }
    EACH_ALSO(i, conv_back_items(c)) {
        const item_t item = conv_back_item_at(c, i);
        const chunk_t *chunk = c->back.chunk + item.chunk;
        conv_back_item(c, i, y_bar_dot, c->packed_back, FROM_ZERO, below->a_bar_dot);
        conv_back_item(c, i, y_bar, packed_back_dot, FROM_OUT, below->a_bar_dot); /* * */
        for (int32_t lanes = item.panel * PANEL; lanes < (item.panel + item.panels) * PANEL; lanes += LANES)
            block_sums_back_dot(below, c->back.to + chunk->position, chunk->positions, lanes,
                                below->partials + (ptrdiff_t)item.chunk * 2 * below->channels);
    }
    merge_task_t merge = {below, c->back.chunks, {below->m1_dot, below->m2_dot}};
    barrier_then(team, finish_merge, &merge);
}

/* The tangent of block l backward: its part of hv, and a_bar_dot, m1_dot and m2_dot of the block below. */
LOCAL void block_backward_dot(network_t *n, int32_t l, const float *x, float *hv, team_t *team)
{
    const block_t *k = &n->block[l], *below = l ? &n->block[l - 1] : NULL;
    EACH(i, finish_items(n, l + 1, NULL)) finish_item(n, l + 1, i, n->delta_dot, hv, NULL);
    EACH_ALSO(i, row_chunks(k->pooled)) {
        block_back_dot(k, i * CHUNK_ROWS, min_i((i + 1) * CHUNK_ROWS, k->pooled));
        if (i == 0) vector_gradients(k, k->m1_dot, k->m2_dot, hv);
    }
    barrier(team);
    float *w_bar = k->w_bar ? k->w_bar : hv + k->offset;
    conv_adjoints_dot(&k->conv, x, l ? below->a_dot : NULL, k->z_bar, k->z_dot, k->packed_back_dot, w_bar, below, team);
}

/* Recompute the activations from saved z; phi is packed. */
LOCAL void network_recompute(network_t *n, team_t *team)
{
    for (int32_t l = 0; l < n->shape.blocks; l++) {
        const block_t *k = &n->block[l];
        EACH(i, row_chunks(k->pooled)) {
            if (pools(k)) block_pool(k, i * CHUNK_ROWS, min_i((i + 1) * CHUNK_ROWS, k->pooled));
            block_activate(k, i * CHUNK_ROWS, min_i((i + 1) * CHUNK_ROWS, k->pooled));
        }
        barrier(team);
    }
}

/* hv = H(phi) v on the minibatch (x, labels); phi is packed, residuals and activations are in the plan. */
LOCAL void network_hessian_product(network_t *n, const float *x, const int32_t *labels, const float *v, float *hv, team_t *team)
{
    const block_t *last = &n->block[n->shape.blocks - 1];
    network_pack_dot(n, v, team);
    network_forward_dot(n, x, labels, team);
    conv_adjoints_dot(&n->dense, last->a, last->a_dot, n->delta, n->delta_dot, n->dense_packed_back_dot, n->dense_w_bar, last,
                      team);
    for (int32_t l = n->shape.blocks - 1; l >= 0; l--) block_backward_dot(n, l, l ? n->block[l - 1].a : x, hv, team);
    EACH(i, finish_items(n, 0, NULL)) finish_item(n, 0, i, n->delta_dot, hv, NULL);
    barrier(team);
}

#endif
