/* A whole network: blocks, a dense layer; how its memory is laid out and its weights are packed.

   B = batch; stored ways are padded to whole panels.  */

#ifndef RK_NETWORK_H
#define RK_NETWORK_H

#include "core/team.h"
#include "network/band.h"

typedef struct {
    rk_network shape;
    int32_t batch;
    ptrdiff_t parameters;
    block_t block[RK_MAX_BLOCKS];
    conv_t dense;
    ptrdiff_t dense_offset;  /* of the dense kernel in phi */
    float *spread;           /* (taps, channels, ways) the dense kernel of a spatial mean (layer_kernel); NULL: no mean */
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

/* Lengths in phi: a block's vectors, a block, and the dense kernel. */
INLINE int32_t block_vectors(const rk_block *s) { return s->scale ? 3 : 2; }
INLINE ptrdiff_t block_parameters(const rk_block *s) { return kernel_size(&s->conv) + block_vectors(s) * s->conv.filters; }
INLINE ptrdiff_t dense_kernel_size(const rk_network *s)
{
    return s->spatial_mean ? (ptrdiff_t)s->dense.channels * s->dense.filters : kernel_size(&s->dense);
}

/* Lay out one block's memory; `in`: stored channels of its input; return its number of parameters. */
LOCAL ptrdiff_t block_build(arena_t *arena, block_t *k, const rk_block *shape, int32_t batch, int32_t in, int first, int hessian)
{
    const rk_conv *s = &shape->conv;
    const int32_t c = padded(s->filters);
    k->shape = *shape;
    k->channels = c;
    k->conv = conv_build(arena, *s, batch, in, first ? 0 : GAP, c, !first, 1);
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
    k->banded = first && banded(k);
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
    return block_parameters(shape);
}

/* Lay out in `arena` the residuals: what the gradient saves for Hessian products at the same phi and minibatch. */
LOCAL void network_layout_saved(network_t *n, arena_t *arena)
{
    for (int32_t l = 0; l < n->shape.blocks; l++) {
        block_t *k = &n->block[l];
        k->z = take_floats(arena, (size_t)k->rows * k->channels);
        k->a_bar = take_floats(arena, (size_t)k->pooled * k->channels);
        float **const vectors[] = {&k->mean, &k->r, &k->m1, &k->m2};
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
    n->parameters += dense_kernel_size(shape) + shape->dense.filters;
    n->spread = shape->spatial_mean ? take_floats(arena, kernel_size(&shape->dense)) : NULL;
    n->dense = conv_build(arena, shape->dense, batch, in, GAP, ways, 1, 1);
    n->dense_bias = take_floats(arena, ways);
    n->logits = take_floats(arena, (size_t)batch * ways);
    const size_t inputs = (size_t)shape->dense.height * shape->dense.width * in;
    n->dense_w_bar = take_floats(arena, inputs * ways);
    for (int32_t l = 0; l < shape->blocks; l++) {
        /* two sums per chunk: of the forward map, of rows, of moments, or of the input adjoint that writes a_bar */
        block_t *k = &n->block[l];
        const int32_t forward = max_i(k->conv.forward.chunks, row_chunks(k->rows)), back = conv_above(n, l)->back.chunks;
        k->partials = take_floats(arena, (size_t)max_i(max_i(forward, back), moment_chunks(k)) * 2 * k->channels);
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

/* Layer l, from 0; number `blocks` is the dense layer: its convolution, the place of its kernel in phi, and the kernel's length
   there. */
INLINE const conv_t *layer_conv(const network_t *n, int32_t l) { return l < n->shape.blocks ? &n->block[l].conv : &n->dense; }
INLINE ptrdiff_t layer_offset(const network_t *n, int32_t l) { return l < n->shape.blocks ? n->block[l].offset : n->dense_offset; }
INLINE ptrdiff_t layer_kernel_size(const network_t *n, int32_t l)
{
    return l < n->shape.blocks ? kernel_size(&n->block[l].conv.shape) : dense_kernel_size(&n->shape);
}

/* The kernel of layer l as its convolution reads it, of which item `item` of packing is valid.  A dense layer of a spatial mean is
   a convolution with the same weights, phi's divided by the number of taps, at all taps. */
LOCAL const float *layer_kernel(const network_t *n, int32_t l, int32_t item, const float *phi)
{
    const float *w = phi + layer_offset(n, l);
    if (l < n->shape.blocks || !n->spread) return w;
    const rk_conv *s = &n->shape.dense;
    const int32_t taps = s->kernel_height * s->kernel_width;
    const int32_t from = min_i(item * LANES, s->channels) * s->filters, end = min_i((item + 1) * LANES, s->channels) * s->filters;
    for (int32_t t = 0; t < taps; t++)
        for (int32_t j = from; j < end; j++) n->spread[(ptrdiff_t)t * s->channels * s->filters + j] = w[j] / (float)taps;
    return n->spread;
}

/* Items of packing, over all layers; an item's layer and its number in it. */
typedef struct { int32_t layer, item; } pack_item_t;
LOCAL int32_t network_pack_items(const network_t *n)
{
    int32_t items = 0;
    for (int32_t l = 0; l <= n->shape.blocks; l++) items += pack_items(layer_conv(n, l));
    return items;
}
LOCAL pack_item_t pack_item_at(const network_t *n, int32_t i)
{
    int32_t l = 0;
    for (int32_t items; i >= (items = pack_items(layer_conv(n, l))); l++) i -= items;
    return (pack_item_t){l, i};
}

/* Copy the vectors of layer l from phi, padded; with dot, their tangents from v.  A gamma that is not in phi is 1, its tangent
   0. */
LOCAL void pad_layer(const network_t *n, int32_t l, const float *phi, int dot)
{
    const conv_t *c = layer_conv(n, l);
    const float *vectors = phi + layer_offset(n, l) + layer_kernel_size(n, l);
    const int32_t f = c->shape.filters;
    if (l == n->shape.blocks) {
        pad_vector(dot ? n->dense_bias_dot : n->dense_bias, vectors, f, c->out);
        return;
    }
    const block_t *k = &n->block[l];
    float *gamma = dot ? k->gamma_dot : k->gamma;
    pad_vector(dot ? k->bias_dot : k->bias, vectors, f, c->out);
    pad_vector(gamma, vectors + f, k->shape.scale ? f : 0, c->out);
    for (int32_t i = 0; !k->shape.scale && !dot && i < f; i++) gamma[i] = 1.0f;
    pad_vector(dot ? k->beta_dot : k->beta, vectors + (block_vectors(&k->shape) - 1) * f, f, c->out);
}

/* Pack phi, forward and, if back, for the input adjoints. */
LOCAL void network_pack(network_t *n, const float *phi, int back, team_t *team)
{
    EACH(i, network_pack_items(n)) {
        const pack_item_t p = pack_item_at(n, i);
        const conv_t *c = layer_conv(n, p.layer);
        const float *w = layer_kernel(n, p.layer, p.item, phi);
        conv_pack(c, w, p.item, c->packed);
        if (back && c->packed_back) conv_pack_back(c, w, p.item, c->packed_back);
        if (p.item == 0) pad_layer(n, p.layer, phi, 0);
    }
    barrier(team);
}

#endif
