/* The gradient of a whole network in one call: forward pass, softmax cross-entropy, backward pass.

   Each function below is run by all members of a team (core/team.h): EACH hands out the items of a phase, and a barrier
   separates the phases.  Small serial work is done by the last member to arrive (barrier_then).  B = batch.  */

#ifndef RK_GRADIENT_H
#define RK_GRADIENT_H

#include "network/finish.h"

/* For barrier_then: all statistics of a block. */
LOCAL void finish_statistics(void *block)
{
    const block_t *k = block;
    for (int32_t c = 0; c < k->channels; c += LANES) block_statistics(k, c);
}

/* logits of x (B, height, width, channels); every block keeps what its backward pass reads.  The last barrier runs finish. */
LOCAL void network_forward(network_t *n, const float *x, team_t *team, void (*finish)(void *argument), void *argument)
{
    for (int32_t l = 0; l < n->shape.blocks; l++) {
        block_t *k = &n->block[l];
        const int pool_first = pools(k) && k->shape.pool_first;
        if (k->banded)
            EACH(i, band_items(k)) band_forward(k, i, x);
        else
            EACH(i, conv_items(&k->conv)) block_conv(k, i, x);
        barrier_then(team, pool_first && !k->banded ? NULL : finish_statistics, k);
        if (pool_first && !k->banded) {
            EACH(i, row_chunks(k->pooled)) {
                const int32_t from = i * CHUNK_ROWS, rows = min_i(CHUNK_ROWS, k->pooled - from);
                block_pool(k, from, from + rows);
                for (int32_t c = 0; c < k->channels; c += PANEL) {
                    float *of_chunk = k->partials + (ptrdiff_t)i * 2 * k->channels + c; /* partials[i, :, c] */
                    moments(k->u + (ptrdiff_t)from * k->channels + c, NULL, rows, k->channels, of_chunk, of_chunk + k->channels);
                }
            }
            barrier_then(team, finish_statistics, k);
        }
        EACH(i, row_chunks(k->pooled)) {
            const int32_t from = i * CHUNK_ROWS, to = min_i(from + CHUNK_ROWS, k->pooled);
            if (pools(k) && !k->shape.pool_first && !k->banded) block_pool(k, from, to);
            block_activate(k, from, to);
        }
        barrier(team);
        x = k->a;
    }
    EACH(i, conv_items(&n->dense)) conv_item(&n->dense, i, x, n->dense.packed, FROM_BIAS, n->dense_bias, n->logits);
    barrier_then(team, finish, argument);
}

typedef struct { network_t *network; const int32_t *labels; } loss_task_t;

/* For barrier_then: the loss, and delta = softmax - one-hot, its gradient by the logits. */
LOCAL void network_loss(void *task)
{
    network_t *n = ((loss_task_t *)task)->network;
    const int32_t *labels = ((loss_task_t *)task)->labels;
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

typedef struct { const block_t *block; int32_t chunks; float *to[2]; } merge_task_t;

/* For barrier_then: merge block k's partial sums, `chunks` of them, into `to`. */
LOCAL void finish_merge(void *task)
{
    const merge_task_t *t = task;
    for (int32_t c = 0; c < t->block->channels; c += LANES) block_merge(t->block, t->chunks, c, t->to);
}

/* The dense layer backward: the last block's a_bar and m1, m2 and, unless grad is NULL, w_bar. */
LOCAL void dense_backward(network_t *n, const float *grad, team_t *team)
{
    const block_t *last = &n->block[n->shape.blocks - 1];
    const int32_t pieces = weight_pieces(&n->dense, team->shared->members);
    merge_task_t merge = {last, n->dense.back.chunks, {last->m1, last->m2}};
    EACH(i, grad ? conv_weight_items(&n->dense, pieces) : 0)
        conv_weight_item(&n->dense, i, pieces, last->a, n->delta, 0, n->dense_w_bar);
    EACH_ALSO(i, conv_back_items(&n->dense)) block_below_item(last, &n->dense, i, n->delta);
    barrier_then(team, finish_merge, &merge);
}

/* The gradients of the vectors of block k.  The convolution's bias has a gradient of exactly zero: batch norm removes it. */
LOCAL void vector_gradients(const block_t *k, const float *beta_bar, const float *gamma_bar, float *grad)
{
    const int32_t f = k->shape.conv.filters;
    float *bias_bar = grad + k->offset + kernel_size(&k->shape.conv);
    memset(bias_bar, 0, sizeof(float) * f);
    if (k->shape.scale) memcpy(bias_bar + f, gamma_bar, sizeof(float) * f);
    memcpy(bias_bar + (block_vectors(&k->shape) - 1) * f, beta_bar, sizeof(float) * f);
}

/* Block l backward from its a_bar, m1 and m2: its part of grad, unless that is NULL, and a_bar, m1 and m2 of the block below.
   Meanwhile the gradient of the layer above is finished. */
LOCAL void block_backward(network_t *n, int32_t l, const float *x, float *grad, const step_t *step, team_t *team)
{
    const block_t *k = &n->block[l], *below = l ? &n->block[l - 1] : NULL;
    EACH(i, grad ? finish_items(n, l + 1, step) : 0) finish_item(n, l + 1, i, n->delta, grad, step);
    if (k->banded) { /* the first block, with grad */
        EACH_ALSO(i, k->conv.splits) {
            band_weight(k, i, x);
            if (i == 0) vector_gradients(k, k->m1, k->m2, grad);
        }
        barrier(team);
        return;
    }
    EACH_ALSO(i, row_chunks(k->pooled)) {
        block_back(k, i * CHUNK_ROWS, min_i((i + 1) * CHUNK_ROWS, k->pooled));
        if (i == 0 && grad) vector_gradients(k, k->m1, k->m2, grad);
    }
    barrier(team);
    const int32_t pieces = weight_pieces(&k->conv, team->shared->members);
    merge_task_t merge = {below, k->conv.back.chunks, {below ? below->m1 : NULL, below ? below->m2 : NULL}};
    EACH(i, grad ? conv_weight_items(&k->conv, pieces) : 0) block_weight_item(k, i, pieces, x, grad, step);
    EACH_ALSO(i, below ? conv_back_items(&k->conv) : 0) block_below_item(below, &k->conv, i, k->z_bar);
    barrier_then(team, below ? finish_merge : NULL, &merge);
}

/* The loss of the minibatch (x, labels), in n->loss, and unless grad is NULL its gradient (n,), at the phi that is packed.
   With a step, phi is also updated, and packed unless the step is the last; grad is then scratch unless the step keeps it. */
LOCAL void network_gradient(network_t *n, const float *x, const int32_t *labels, float *grad, const step_t *step, team_t *team)
{
    loss_task_t loss = {n, labels};
    network_forward(n, x, team, network_loss, &loss);
    dense_backward(n, grad, team);
    for (int32_t l = n->shape.blocks - 1; l >= (grad ? 0 : 1); l--)
        block_backward(n, l, l ? n->block[l - 1].a : x, grad, step, team);
    if (!grad) return;
    EACH(i, finish_items(n, 0, step)) finish_item(n, 0, i, n->delta, grad, step);
    barrier(team);
}

#endif
