/* A whole network in one call: blocks, a dense layer, softmax cross-entropy; phases separated by barriers.

   Every function below is run by all members of a team; EACH hands out the items of a phase.  */

#ifndef RK_NETWORK_H
#define RK_NETWORK_H

#include "network/block.h"
#include "core/team.h"

typedef struct {
    rk_network shape;
    int32_t batch, parameters;
    block_t block[8];
    conv_t dense;
    ptrdiff_t dense_at;                    /* of the dense kernel in phi */
    float *dense_bias, *logits, *delta;    /* (ways,), (batch, ways), (batch, ways), stored ways */
    float *point;                          /* where the plan itself keeps what network_place lays out */
    float *dense_w_bar;                    /* (inputs, ways) as stored */
    float *dense_bias_dot, *logits_dot, *delta_dot, *dense_packed_dot, *dense_packed_back_dot;
    double loss;
} network_t;

/* The convolution or dense layer that reads block l's output. */
LOCAL const conv_t *conv_above(const network_t *n, int32_t l) { return l + 1 < n->shape.blocks ? &n->block[l + 1].conv : &n->dense; }

/* Lay out one block's memory; `in` stored channels of its input; returns its size in phi. */
LOCAL int32_t block_build(arena_t *arena, block_t *k, const rk_block *shape, int32_t batch, int32_t in, int first, int hessian)
{
    const rk_conv *s = &shape->conv;
    const int32_t c = padded(s->filters);
    k->shape = *shape;
    k->channels = c;
    k->conv = conv_build(arena, *s, batch, in, first ? 0 : GAP, c, !first);
    k->rows = batch * s->out_height * s->out_width;
    k->image = shape->pool ? shape->pool_height * shape->pool_width : s->out_height * s->out_width;
    k->pooled = shape->pool ? batch * shape->pool_height * shape->pool_width : k->rows;
    k->counted = shape->pool && shape->pool_first ? k->pooled : k->rows;
    const size_t full = (size_t)k->rows * c, small = (size_t)k->pooled * c;
    if (shape->pool) {
        k->u = take_floats(arena, small);
        k->winner = take(arena, small, sizeof(int32_t));
    }
    k->a = take_floats(arena, small + (size_t)batch * GAP);
    float **const vectors[] = {&k->bias, &k->gamma, &k->beta};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) *vectors[i] = take_floats(arena, c);
    const size_t depth = (size_t)s->kernel_height * s->kernel_width * in;
    k->w_bar = in == s->channels && c == s->filters ? NULL : take_floats(arena, depth * c);
    if (hessian) {
        k->z_bar = take_floats(arena, full);
        k->z_dot = take_floats(arena, full);
        k->u_dot = shape->pool ? take_floats(arena, small) : k->z_dot;
        k->a_dot = take_floats(arena, small + (size_t)batch * GAP);
        k->a_bar_dot = take_floats(arena, small);
        float **const dots[] = {&k->bias_dot, &k->gamma_dot, &k->beta_dot, &k->zm_dot, &k->slope, &k->r_dot, &k->m1_dot, &k->m2_dot};
        for (size_t i = 0; i < sizeof dots / sizeof *dots; i++) *dots[i] = take_floats(arena, c);
        k->packed_dot = take_floats(arena, conv_packed(&k->conv));
        k->packed_back_dot = first ? NULL : take_floats(arena, conv_packed_back(&k->conv));
    }
    return kernel_size(s) + 3 * s->filters;
}

/* Lay out in `arena` what the gradient leaves behind and a Hessian product at the same point reads. */
LOCAL void network_place(network_t *n, arena_t *arena)
{
    for (int32_t l = 0; l < n->shape.blocks; l++) {
        block_t *k = &n->block[l];
        const int in_place = k->z_bar == k->z; /* in a plan without hessian both are NULL at first */
        k->z = take_floats(arena, (size_t)k->rows * k->channels);
        k->a_bar = take_floats(arena, (size_t)k->pooled * k->channels);
        float **const vectors[] = {&k->mean, &k->r, &k->sign, &k->m1, &k->m2};
        for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) *vectors[i] = take_floats(arena, k->channels);
        if (in_place) k->z_bar = k->z;
        if (!pools(k)) k->u = k->z;
    }
    n->delta = take_floats(arena, (size_t)n->batch * n->dense.out);
}

/* Go to a point of the caller's, or (NULL) back to the plan's own. */
LOCAL void network_move(network_t *n, float *point)
{
    arena_t arena = {(char *)(point ? point : n->point), 0};
    network_place(n, &arena);
}

/* Lay out a network's memory: the network_t itself first. */
LOCAL network_t *network_build(arena_t *arena, network_t *n, const rk_network *shape, int32_t batch, int32_t hessian)
{
    network_t *place = take(arena, 1, sizeof(network_t));
    memset(n, 0, sizeof *n);
    n->shape = *shape;
    n->batch = batch;
    int32_t in = shape->block[0].conv.channels;
    for (int32_t i = 0; i < shape->blocks; i++) {
        n->block[i].at = n->parameters;
        n->parameters += block_build(arena, &n->block[i], &shape->block[i], batch, in, i == 0, hessian);
        in = n->block[i].channels;
    }
    const int32_t ways = padded(shape->dense.filters);
    n->dense_at = n->parameters;
    n->parameters += kernel_size(&shape->dense) + shape->dense.filters;
    n->dense = conv_build(arena, shape->dense, batch, in, GAP, ways, 1);
    n->dense_bias = take_floats(arena, ways);
    n->logits = take_floats(arena, (size_t)batch * ways);
    const size_t inputs = (size_t)shape->dense.height * shape->dense.width * in;
    n->dense_w_bar = take_floats(arena, inputs * ways);
    for (int32_t l = 0; l < shape->blocks; l++) { /* two partial sums by forward tile or chunk, or by the tile that writes a_bar */
        block_t *k = &n->block[l];
        const int32_t forward = max_i(k->conv.forward.tiles, chunks_of(k->rows)), back = conv_above(n, l)->back.tiles;
        k->part = take_floats(arena, (size_t)max_i(forward, back) * 2 * k->channels);
    }
    if (hessian) {
        n->dense_bias_dot = take_floats(arena, ways);
        n->logits_dot = take_floats(arena, (size_t)batch * ways);
        n->delta_dot = take_floats(arena, (size_t)batch * ways);
        n->dense_packed_dot = take_floats(arena, conv_packed(&n->dense));
        n->dense_packed_back_dot = take_floats(arena, conv_packed_back(&n->dense));
    }
    n->point = take_floats(arena, 0);
    network_place(n, arena);
    return place;
}

/* Pack every layer's weights, forward and (where the layer has an input adjoint) backward; copy the vectors. */
LOCAL void network_pack(network_t *n, const float *phi, int back, team_t *team)
{
    int32_t start = 0, items[9];
    for (int32_t l = 0; l <= n->shape.blocks; l++) {
        const conv_t *c = l < n->shape.blocks ? &n->block[l].conv : &n->dense;
        start += items[l] = conv_panels(c) + (back && c->packed_back ? conv_back_panels(c) : 0);
    }
    EACH(i, start) {
        int32_t l = 0, j = i;
        while (j >= items[l]) j -= items[l++];
        const conv_t *c = l < n->shape.blocks ? &n->block[l].conv : &n->dense;
        const float *w = phi + (l < n->shape.blocks ? n->block[l].at : n->dense_at);
        if (j >= conv_panels(c)) {
            conv_pack_back(c, w, c->packed_back, j - conv_panels(c));
            continue;
        }
        conv_pack(c, w, c->packed, j);
        const float *vectors = w + kernel_size(&c->shape);
        const int32_t f = c->shape.filters;
        if (j == 0 && l < n->shape.blocks) {
            const block_t *k = &n->block[l];
            pad_vector(k->bias, vectors, f, k->channels);
            pad_vector(k->gamma, vectors + f, f, k->channels);
            pad_vector(k->beta, vectors + 2 * f, f, k->channels);
        } else if (j == 0) {
            pad_vector(n->dense_bias, vectors, f, n->dense.out);
        }
    }
    barrier(team);
}

/* logits of x; leaves in every block what the backward pass reads. */
LOCAL void network_forward(network_t *n, const float *x, team_t *team)
{
    for (int32_t l = 0; l < n->shape.blocks; l++) {
        const block_t *k = &n->block[l];
        EACH(i, conv_items(&k->conv)) block_conv(k, i, x);
        barrier(team);
        if (pools(k) && k->shape.pool_first) {
            EACH(i, chunks_of(k->pooled)) {
                const int32_t from = i * CHUNK, rows = min_i(CHUNK, k->pooled - from);
                block_pool(k, from, from + rows);
                for (int32_t c = 0; c < k->channels; c += PANEL) {
                    float *part = k->part + (ptrdiff_t)i * 2 * k->channels + c; /* part[i, :, c] */
                    moments(k->u + (ptrdiff_t)from * k->channels + c, NULL, rows, k->channels, part, part + k->channels);
                }
            }
            barrier(team);
        }
        EACH(i, k->channels / LANES) block_statistics(k, i * LANES);
        barrier(team);
        EACH(i, chunks_of(k->pooled)) {
            const int32_t from = i * CHUNK, to = min_i(from + CHUNK, k->pooled);
            if (pools(k) && !k->shape.pool_first) block_pool(k, from, to);
            block_activate(k, from, to);
        }
        barrier(team);
        x = k->a;
    }
    EACH(i, conv_items(&n->dense)) conv_item(&n->dense, i, x, n->dense.packed, FROM_BIAS, n->dense_bias, n->logits);
    barrier(team);
}

/* The loss, and delta = its gradient by the logits: softmax - one-hot; row by row, so done by one member. */
LOCAL void network_loss(network_t *n, const int32_t *labels)
{
    const int32_t ways = n->shape.dense.filters, stride = n->dense.out;
    const float scale = n->shape.mean_loss ? 1.0f / (float)n->batch : 1.0f;
    double loss = 0.0;
    for (int32_t b = 0; b < n->batch; b++) {
        const float *z = n->logits + (ptrdiff_t)b * stride; /* logits[b, :] */
        float *delta = n->delta + (ptrdiff_t)b * stride, largest = z[0], sum = 0.0f;
        for (int32_t j = 1; j < ways; j++) largest = z[j] > largest ? z[j] : largest;
        for (int32_t j = 0; j < ways; j++) sum += delta[j] = expf(z[j] - largest);
        loss += (double)(logf(sum) - (z[labels[b]] - largest));
        for (int32_t j = 0; j < ways; j++) delta[j] = (delta[j] / sum - (float)(j == labels[b])) * scale;
        memset(delta + ways, 0, sizeof(float) * (stride - ways));
    }
    n->loss = loss * (double)scale;
}

/* Item i of the input adjoint of `above`: its tile and panel of a_bar in block k, and their partial sums. */
LOCAL void block_below_item(const block_t *k, const conv_t *above, int32_t i, const float *y_bar)
{
    const area_t area = conv_back_area(above, i);
    conv_back_item(above, i, y_bar, above->packed_back, FROM_ZERO, k->a_bar);
    const tile_t *t = above->back.tile + area.tile;
    for (int32_t c = area.panel * PANEL; c < (area.panel + area.panels) * PANEL; c += PANEL)
        block_sums(k, above->back.to + t->row, t->rows, c, k->part + (ptrdiff_t)area.tile * 2 * k->channels);
}

/* The dense layer backward: kernel and bias gradients, where grad is given, and the last block's a_bar. */
LOCAL void dense_backward(network_t *n, float *grad, team_t *team)
{
    const block_t *last = &n->block[n->shape.blocks - 1];
    const int32_t weights = grad ? conv_weight_items(&n->dense) : 0;
    EACH(i, weights + conv_back_items(&n->dense)) {
        if (i < weights)
            conv_weight_item(&n->dense, i, last->a, n->delta, 0, n->dense_w_bar);
        else
            block_below_item(last, &n->dense, i - weights, n->delta);
    }
    barrier(team);
    if (!grad) return;
    EACH(i, 1) dense_emit(&n->dense, n->dense_w_bar, n->delta, n->batch, grad + n->dense_at);
    barrier(team);
}

/* What is left to do for a block's kernel gradient once all its weight items are done. */
LOCAL void block_emit(const block_t *k, float *w_bar, team_t *team)
{
    if (!k->conv.units && !k->w_bar) return;
    EACH(i, 1) {
        conv_weight_finish(&k->conv, k->w_bar ? k->w_bar : w_bar);
        if (k->w_bar) unpad_kernel(&k->conv, k->w_bar, w_bar);
    }
    barrier(team);
}

/* Block l backward from its a_bar and the partial sums made with it: its piece of grad, where that is given, and the a_bar
   below.  The conv bias gets its exact zero. */
LOCAL void block_backward(network_t *n, int32_t l, const float *x, float *grad, team_t *team)
{
    const block_t *k = &n->block[l];
    const int32_t f = k->shape.conv.filters, chunks = chunks_of(k->pooled);
    float *const sums[2] = {k->m1, k->m2};
    EACH(i, k->channels / LANES) block_merge(k, conv_above(n, l)->back.tiles, i * LANES, sums);
    barrier(team);
    if (!grad && !l) return;
    float *w_bar = grad ? grad + k->at : NULL, *bias_bar = grad ? w_bar + kernel_size(&k->shape.conv) : NULL;
    EACH(i, chunks) {
        block_back(k, i * CHUNK, min_i((i + 1) * CHUNK, k->pooled));
        if (i > 0 || !grad) continue;
        memset(bias_bar, 0, sizeof(float) * f);
        memcpy(bias_bar + f, k->m2, sizeof(float) * f);
        memcpy(bias_bar + 2 * f, k->m1, sizeof(float) * f);
    }
    barrier(team);
    const int32_t weights = grad ? conv_weight_items(&k->conv) : 0, back = l ? conv_back_items(&k->conv) : 0;
    EACH(i, weights + back) {
        if (i < weights)
            conv_weight_item(&k->conv, i, x, k->z_bar, 0, k->w_bar ? k->w_bar : w_bar);
        else
            block_below_item(&n->block[l - 1], &k->conv, i - weights, k->z_bar);
    }
    barrier(team);
    if (grad) block_emit(k, w_bar, team);
}

/* loss (left in n->loss) and, where grad is given, gradient of the minibatch (x, labels) at phi. */
LOCAL void network_gradient(network_t *n, const float *phi, const float *x, const int32_t *labels, float *grad, team_t *team)
{
    network_pack(n, phi, 1, team);
    network_forward(n, x, team);
    EACH(i, 1) network_loss(n, labels);
    barrier(team);
    dense_backward(n, grad, team);
    for (int32_t l = n->shape.blocks - 1; l >= 0; l--) block_backward(n, l, l ? n->block[l - 1].a : x, grad, team);
}

#endif
