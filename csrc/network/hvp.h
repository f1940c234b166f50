/* Hessian-vector products of a network: the tangent, along v, of its gradient (Pearlmutter 1994).

   The gradient ran before and saved z and a_bar of every block (network_layout_saved).  Tangents (_dot) follow it forward and
   backward: six products per layer, two forward, two for the weights, two for the input.  Shapes as in block.h.
   Terms marked * are second order: the adjoint is held fixed while weights and activations vary.  */

#ifndef RK_HVP_H
#define RK_HVP_H

#include "network/block_dot.h"
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
        for (int32_t panel = item.panel * PANEL; panel < (item.panel + item.panels) * PANEL; panel += PANEL)
            block_sums_back_dot(below, c->back.to + chunk->position, chunk->positions, panel,
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
