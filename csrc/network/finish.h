/* The end of a layer's gradient: partial sums are added and padding is dropped.  In an inner loop the layer's parameters are then
   updated and packed for the next step, while they are in the cache.  Shapes as in conv_t; layers are numbered from 0, and number
   `blocks` is the dense layer.  */

#ifndef RK_FINISH_H
#define RK_FINISH_H

#include "network/network.h"
#include "network/optimizer.h"

/* Whether the weight items of block k update its kernel: if there is a step, and a strip's rows are rows of phi. */
INLINE int updates_strips(const block_t *k, const step_t *step) { return step && !k->w_bar && !k->conv.splits; }

/* A weight item of block k, into grad (n,); with updates_strips into phi and the packed weights instead, and also into grad if the
   step keeps it. */
LOCAL void block_weight_item(const block_t *k, int32_t i, int32_t pieces, const float *x, float *grad, const step_t *step)
{
    const conv_t *c = &k->conv;
    if (!updates_strips(k, step)) {
        conv_weight_item(c, i, pieces, x, k->z_bar, 0, k->w_bar ? k->w_bar : grad + k->offset);
        return;
    }
    float scratch[STRIP_ROWS * STRIP_PANELS * PANEL];
    const strip_item_t s = strip_item_at(&c->forward, i, c->out);
    const ptrdiff_t first = k->offset + (ptrdiff_t)s.row * c->out + s.column; /* of phi: kernel[row, column] */
    float *w_bar = step->keep_grad ? grad + first : scratch;                  /* (rows, columns), rows `stride` floats apart */
    const ptrdiff_t stride = step->keep_grad ? c->out : s.columns;
    direct_weight_strip(&c->forward, s, x, k->z_bar, 0, w_bar, stride);
    const int32_t rows_at_once = s.columns == c->out ? s.rows : 1; /* contiguous in phi */
    for (int32_t r = 0; r < s.rows; r += rows_at_once) {
        const ptrdiff_t from = first + (ptrdiff_t)r * c->out;
        update_range(step, from, from + rows_at_once * s.columns, w_bar + r * stride);
    }
    for (int32_t j = 0; !step->last && j < s.columns; j += PANEL) {
        const int32_t panel = (s.column + j) / PANEL;
        pack_rows(step->phi + first - s.column, c->out, panel, s.rows, s.rows,
                  c->packed + ((ptrdiff_t)panel * packed_rows(c, c->in) + s.row) * PANEL); /* packed[panel, row, :] */
    }
}

/* The gradients of the dense kernel and bias, from w_bar (taps, in, out) as stored and y_bar (B, out).  For a spatial mean the
   kernel's is the mean of w_bar over the taps, which is written over the first tap's. */
LOCAL void dense_gradient(const network_t *n, float *w_bar, const float *y_bar, float *grad)
{
    const conv_t *c = &n->dense;
    const int32_t outputs = c->shape.filters, taps = c->y.taps * c->x.taps;
    const ptrdiff_t tap = (ptrdiff_t)c->in * c->out;
    float *bias_bar = grad + dense_kernel_size(&n->shape);
    if (n->spread) {
        for (ptrdiff_t j = 0; j < tap; j += LANES) {
            vec sum = zero();
            for (int32_t t = 0; t < taps; t++) sum += load(w_bar + t * tap + j);
            store(w_bar + j, sum / splat((float)taps));
        }
        restride(w_bar, c->out, grad, outputs, c->shape.channels);
    } else
        unpad_kernel(c, w_bar, grad);
    memset(bias_bar, 0, sizeof(float) * outputs);
    for (int32_t b = 0; b < n->batch; b++)
        for (int32_t j = 0; j < outputs; j++) bias_bar[j] += y_bar[(ptrdiff_t)b * c->out + j]; /* y_bar[b, j] */
}

/* Whether a layer is finished as one item: the dense layer, and a block whose w_bar is padded. */
LOCAL int finished_whole(const network_t *n, int32_t l) { return l == n->shape.blocks || n->block[l].w_bar; }

/* Update the kernel of layer l: LANES input channels of every tap that phi has. */
LOCAL void update_channels(const network_t *n, int32_t l, int32_t item, const float *grad, const step_t *step)
{
    const rk_conv *s = &layer_conv(n, l)->shape;
    const int32_t from = min_i(item * LANES, s->channels), end = min_i(from + LANES, s->channels);
    const ptrdiff_t tap = (ptrdiff_t)s->channels * s->filters;
    for (ptrdiff_t t = 0; t < layer_kernel_size(n, l); t += tap) { /* kernel[t, from:end, :] */
        const ptrdiff_t row = layer_offset(n, l) + t + (ptrdiff_t)from * s->filters;
        update_range(step, row, row + (ptrdiff_t)(end - from) * s->filters, grad + row);
    }
}

/* Items of finishing layer l after all its weight items; delta: the adjoint of the logits, for the dense layer; step: NULL unless
   the parameters are updated. */
LOCAL int32_t finish_items(const network_t *n, int32_t l, const step_t *step)
{
    if (finished_whole(n, l)) return 1;
    return step || n->block[l].conv.splits ? pack_items(&n->block[l].conv) : 0;
}
LOCAL void finish_item(const network_t *n, int32_t l, int32_t i, const float *delta, float *grad, const step_t *step)
{
    const conv_t *c = layer_conv(n, l);
    const int dense = l == n->shape.blocks, whole = finished_whole(n, l);
    float *w_bar = dense ? n->dense_w_bar : whole ? n->block[l].w_bar : grad + layer_offset(n, l);
    const int32_t end = whole ? pack_items(c) : i + 1;
    for (int32_t j = i; c->splits && j < end; j++) conv_weight_finish(c, j, w_bar);
    if (dense)
        dense_gradient(n, w_bar, delta, grad + n->dense_offset);
    else if (whole)
        unpad_kernel(c, w_bar, grad + n->block[l].offset);
    if (!step) return;
    const int updated = !dense && updates_strips(&n->block[l], step);
    for (int32_t j = i; j < end; j++) {
        if (!updated) update_channels(n, l, j, grad, step);
        if (step->last) continue;
        const float *w = layer_kernel(n, l, j, step->phi);
        if (!updated) conv_pack(c, w, j, c->packed);
        if (c->packed_back) conv_pack_back(c, w, j, c->packed_back);
    }
    if (i > 0) return;
    const ptrdiff_t vectors = layer_offset(n, l) + layer_kernel_size(n, l);
    const int32_t count = dense ? 1 : block_vectors(&n->block[l].shape);
    update_range(step, vectors, vectors + count * (ptrdiff_t)c->shape.filters, grad + vectors);
    if (!step->last) pad_layer(n, l, step->phi, 0);
}

#endif
