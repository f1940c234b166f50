/* The gradient of a whole network in one call: blocks, a dense layer, softmax cross-entropy.

   Each function below is run by all members of a team (core/team.h): EACH hands out the items of a phase, and a barrier
   separates the phases.  B = batch; stored ways are padded to whole panels.  */

#ifndef RK_GRADIENT_H
#define RK_GRADIENT_H

#include "core/team.h"
#include "network/block.h"

typedef struct {
    rk_network shape;
    int32_t batch;
    ptrdiff_t parameters;
    block_t block[RK_MAX_BLOCKS];
    conv_t dense;
    ptrdiff_t dense_offset;  /* of the dense kernel in phi */
    float *dense_bias;       /* (ways,) */
    float *logits, *delta;   /* (B, ways); delta: the loss's gradient by the logits */
    float *dense_w_bar;      /* (inputs, ways) */
    float *saved;            /* the plan's own memory for network_layout_saved */
    float *dense_bias_dot, *logits_dot, *delta_dot, *dense_packed_dot, *dense_packed_back_dot; /* tangents, shaped alike */
    double loss;
} network_t;

/* The convolution or dense layer that reads block l's output. */
INLINE const conv_t *conv_above(const network_t *n, int32_t l)
{
    return l + 1 < n->shape.blocks ? &n->block[l + 1].conv : &n->dense;
}

/* Lay out one block's memory; `in`: stored channels of its input; return its number of parameters. */
LOCAL ptrdiff_t block_build(arena_t *arena, block_t *k, const rk_block *shape, int32_t batch, int32_t in, int first, int hessian)
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
        k->argmax = take(arena, small, sizeof(int32_t));
    }
    k->a = take_floats(arena, small + (size_t)batch * GAP);
    float **const vectors[] = {&k->bias, &k->gamma, &k->beta};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) *vectors[i] = take_floats(arena, c);
    const size_t depth = (size_t)s->kernel_height * s->kernel_width * in;
    k->w_bar = in == s->channels && c == s->filters ? NULL : take_floats(arena, depth * c);
    k->z_bar_over_z = !hessian;
    if (hessian) {
        k->z_bar = take_floats(arena, full);
        k->z_dot = take_floats(arena, full);
        k->u_dot = shape->pool ? take_floats(arena, small) : k->z_dot;
        k->a_dot = take_floats(arena, small + (size_t)batch * GAP);
        k->a_bar_dot = take_floats(arena, small);
        float **const dots[] = {&k->bias_dot, &k->gamma_dot, &k->beta_dot, &k->zm_dot,
                                &k->slope,    &k->r_dot,     &k->m1_dot,   &k->m2_dot};
        for (size_t i = 0; i < sizeof dots / sizeof *dots; i++) *dots[i] = take_floats(arena, c);
        k->packed_dot = take_floats(arena, conv_packed(&k->conv));
        k->packed_back_dot = first ? NULL : take_floats(arena, conv_packed_back(&k->conv));
    }
    return kernel_size(s) + 3 * s->filters;
}

/* Lay out in `arena` the residuals: what the gradient saves for Hessian products at the same phi and minibatch. */
LOCAL void network_layout_saved(network_t *n, arena_t *arena)
{
    for (int32_t l = 0; l < n->shape.blocks; l++) {
        block_t *k = &n->block[l];
        k->z = take_floats(arena, (size_t)k->rows * k->channels);
        k->a_bar = take_floats(arena, (size_t)k->pooled * k->channels);
        float **const vectors[] = {&k->mean, &k->r, &k->sign, &k->m1, &k->m2};
        for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) *vectors[i] = take_floats(arena, k->channels);
        if (k->z_bar_over_z) k->z_bar = k->z;
        if (!pools(k)) k->u = k->z;
    }
    n->delta = take_floats(arena, (size_t)n->batch * n->dense.out);
}

/* Keep residuals in the caller's memory `saved`, or in the plan's own if it is NULL. */
LOCAL void network_use_saved(network_t *n, float *saved)
{
    arena_t arena = {(char *)(saved ? saved : n->saved), 0};
    network_layout_saved(n, &arena);
}

/* Whether all offsets fit in int32 with `batch` images. */
LOCAL int network_fits(const rk_network *shape, int32_t batch)
{
    for (int32_t l = 0; l < shape->blocks; l++)
        if (!conv_fits(&shape->block[l].conv, batch)) return 0;
    return conv_fits(&shape->dense, batch);
}

/* Lay out a network's memory, beginning with the network_t itself, which is returned. */
LOCAL network_t *network_build(arena_t *arena, network_t *n, const rk_network *shape, int32_t batch, int32_t hessian)
{
    network_t *stored = take(arena, 1, sizeof(network_t));
    memset(n, 0, sizeof *n);
    n->shape = *shape;
    n->batch = batch;
    int32_t in = shape->block[0].conv.channels;
    for (int32_t i = 0; i < shape->blocks; i++) {
        n->block[i].offset = n->parameters;
        n->parameters += block_build(arena, &n->block[i], &shape->block[i], batch, in, i == 0, hessian);
        in = n->block[i].channels;
    }
    const int32_t ways = padded(shape->dense.filters);
    n->dense_offset = n->parameters;
    n->parameters += kernel_size(&shape->dense) + shape->dense.filters;
    n->dense = conv_build(arena, shape->dense, batch, in, GAP, ways, 1);
    n->dense_bias = take_floats(arena, ways);
    n->logits = take_floats(arena, (size_t)batch * ways);
    const size_t inputs = (size_t)shape->dense.height * shape->dense.width * in;
    n->dense_w_bar = take_floats(arena, inputs * ways);
    for (int32_t l = 0; l < shape->blocks; l++) { /* two sums per forward chunk, or per chunk that writes a_bar */
        block_t *k = &n->block[l];
        const int32_t forward = max_i(k->conv.forward.chunks, row_chunks(k->rows)), back = conv_above(n, l)->back.chunks;
        k->partials = take_floats(arena, (size_t)max_i(forward, back) * 2 * k->channels);
    }
    if (hessian) {
        n->dense_bias_dot = take_floats(arena, ways);
        n->logits_dot = take_floats(arena, (size_t)batch * ways);
        n->delta_dot = take_floats(arena, (size_t)batch * ways);
        n->dense_packed_dot = take_floats(arena, conv_packed(&n->dense));
        n->dense_packed_back_dot = take_floats(arena, conv_packed_back(&n->dense));
    }
    n->saved = take_floats(arena, 0);
    network_layout_saved(n, arena);
    return stored;
}

/* Pack every layer's weights, forward and (where the layer has an input adjoint) backward; copy the vectors. */
LOCAL void network_pack(network_t *n, const float *phi, int back, team_t *team)
{
    int32_t all = 0, items[RK_MAX_BLOCKS + 1];
    for (int32_t l = 0; l <= n->shape.blocks; l++) {
        const conv_t *c = l < n->shape.blocks ? &n->block[l].conv : &n->dense;
        all += items[l] = conv_panels(c) + (back && c->packed_back ? conv_back_panels(c) : 0);
    }
    EACH(i, all) {
        int32_t l = 0, j = i;
        while (j >= items[l]) j -= items[l++];
        const conv_t *c = l < n->shape.blocks ? &n->block[l].conv : &n->dense;
        const float *w = phi + (l < n->shape.blocks ? n->block[l].offset : n->dense_offset);
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

/* logits of x (B, height, width, channels); every block keeps what its backward pass reads. */
LOCAL void network_forward(network_t *n, const float *x, team_t *team)
{
    for (int32_t l = 0; l < n->shape.blocks; l++) {
        const block_t *k = &n->block[l];
        EACH(i, conv_items(&k->conv)) block_conv(k, i, x);
        barrier(team);
        if (pools(k) && k->shape.pool_first) {
            EACH(i, row_chunks(k->pooled)) {
                const int32_t from = i * CHUNK_ROWS, rows = min_i(CHUNK_ROWS, k->pooled - from);
                block_pool(k, from, from + rows);
                for (int32_t c = 0; c < k->channels; c += PANEL) {
                    float *of_chunk = k->partials + (ptrdiff_t)i * 2 * k->channels + c; /* partials[i, :, c] */
                    moments(k->u + (ptrdiff_t)from * k->channels + c, NULL, rows, k->channels, of_chunk, of_chunk + k->channels);
                }
            }
            barrier(team);
        }
        EACH(i, k->channels / LANES) block_statistics(k, i * LANES);
        barrier(team);
        EACH(i, row_chunks(k->pooled)) {
            const int32_t from = i * CHUNK_ROWS, to = min_i(from + CHUNK_ROWS, k->pooled);
            if (pools(k) && !k->shape.pool_first) block_pool(k, from, to);
            block_activate(k, from, to);
        }
        barrier(team);
        x = k->a;
    }
    EACH(i, conv_items(&n->dense)) conv_item(&n->dense, i, x, n->dense.packed, FROM_BIAS, n->dense_bias, n->logits);
    barrier(team);
}

/* The loss, and delta = softmax - one-hot, its gradient by the logits; by one member, because the sum has an order. */
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

/* Item i of the input adjoint of `above`: its chunk and panels of block k's a_bar, and their partial sums. */
LOCAL void block_below_item(const block_t *k, const conv_t *above, int32_t i, const float *y_bar)
{
    const item_t item = conv_back_item_at(above, i);
    conv_back_item(above, i, y_bar, above->packed_back, FROM_ZERO, k->a_bar);
    const chunk_t *chunk = above->back.chunk + item.chunk;
    for (int32_t c = item.panel * PANEL; c < (item.panel + item.panels) * PANEL; c += PANEL)
        block_sums(k, above->back.to + chunk->position, chunk->positions, c, k->partials + (ptrdiff_t)item.chunk * 2 * k->channels);
}

/* The dense layer backward: the last block's a_bar and, unless grad is NULL, kernel and bias gradients. */
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
    EACH(i, 1) dense_gradient(&n->dense, n->dense_w_bar, n->delta, n->batch, grad + n->dense_offset);
    barrier(team);
}

/* Finish a block's kernel gradient after all its weight items: add partial sums, drop padding. */
LOCAL void block_finish_kernel(const block_t *k, float *w_bar, team_t *team)
{
    if (!k->conv.splits && !k->w_bar) return;
    EACH(i, 1) {
        conv_weight_finish(&k->conv, k->w_bar ? k->w_bar : w_bar);
        if (k->w_bar) unpad_kernel(&k->conv, k->w_bar, w_bar);
    }
    barrier(team);
}

/* Block l backward from its a_bar and the partial sums made with it: its part of grad, unless that is NULL, and the a_bar of the
   block below.  The convolution's bias has a gradient of exactly zero, because batch norm removes it. */
LOCAL void block_backward(network_t *n, int32_t l, const float *x, float *grad, team_t *team)
{
    const block_t *k = &n->block[l];
    const int32_t f = k->shape.conv.filters, chunks = row_chunks(k->pooled);
    float *const sums[2] = {k->m1, k->m2};
    EACH(i, k->channels / LANES) block_merge(k, conv_above(n, l)->back.chunks, i * LANES, sums);
    barrier(team);
    if (!grad && !l) return;
    float *w_bar = grad ? grad + k->offset : NULL, *bias_bar = grad ? w_bar + kernel_size(&k->shape.conv) : NULL;
    EACH(i, chunks) {
        block_back(k, i * CHUNK_ROWS, min_i((i + 1) * CHUNK_ROWS, k->pooled));
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
    if (grad) block_finish_kernel(k, w_bar, team);
}

/* The loss of the minibatch (x, labels) at phi, in n->loss, and unless grad is NULL its gradient (n,). */
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
