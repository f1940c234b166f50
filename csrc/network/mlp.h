/* Dense layers with tanh between them and squared error: the sine network.

   A dense layer is a convolution of one pixel, so its products are core/gemm.h's.  One thread does all of it.  The gradient saves
   y and y_bar of every layer for Hessian products.  B = batch, out = stored outputs of a layer, in = those of the layer below.  */

#ifndef RK_MLP_H
#define RK_MLP_H

#include "conv/pack.h"

typedef struct {
    conv_t conv;
    ptrdiff_t offset;                      /* of the kernel in phi */
    float *bias;                           /* (out,) */
    float *y, *y_bar;                      /* (B, out) after tanh; the adjoint of what tanh is applied to */
    float *w_bar;                          /* (in, out) if storage is padded, else NULL: the gradient itself is written */
    float *bias_dot, *z_dot, *y_dot, *y_bar_dot, *packed_dot, *packed_back_dot; /* tangents; z: what tanh is applied to */
} dense_t;

typedef struct {
    rk_mlp shape;
    int32_t batch;
    ptrdiff_t parameters;
    dense_t layer[RK_MAX_DENSE];
    float *saved;                          /* the plan's own memory for mlp_layout_saved */
    double loss;
} mlp_t;

/* tanh x = -e / (2 + e) with e = exp(-2 |x|) - 1, and the sign of x.  exp by 2^k exp(r), |r| <= ln 2 / 2; e^r - 1 by its
   Taylor polynomial of degree 7 (truncation below 2^-25 relative).  At most 3 units in the last place from tanh. */
INLINE vec tanh_lanes(vec x)
{
    const ivec sign = (ivec)x & splat_i((int32_t)0x80000000);
    vec t = (vec)((ivec)x & splat_i(0x7fffffff)); /* |x|, NaN stays NaN */
    t = choose(t > splat(20.0f), splat(20.0f), t) * splat(-2.0f);
    const vec magic = splat(12582912.0f); /* 1.5 2^23: adding it rounds to an integer */
    const vec shifted = t * splat(1.44269504f) + magic;
    const vec k = shifted - magic;
    const vec r = (t - k * splat(0.693145752f)) - k * splat(1.42860677e-6f); /* t - k ln 2 in two parts */
    vec p = splat(1.98412698e-4f);
    p = p * r + splat(1.38888889e-3f);
    p = p * r + splat(8.33333333e-3f);
    p = p * r + splat(4.16666667e-2f);
    p = p * r + splat(1.66666667e-1f);
    p = p * r + splat(0.5f);
    p = p * r * r + r;                                                                 /* e^r - 1 */
    const vec power = (vec)(((ivec)shifted << 23) + splat_i(0x3f800000));             /* 2^k: k sits in shifted's low bits */
    const vec e = power * p + (power - splat(1.0f));
    return (vec)((ivec)(-e / (splat(2.0f) + e)) | sign);
}

/* Lay out in `arena` the residuals: what the gradient saves for Hessian products at the same phi and minibatch. */
LOCAL void mlp_layout_saved(mlp_t *m, arena_t *arena)
{
    for (int32_t l = 0; l < m->shape.layers; l++) {
        dense_t *k = &m->layer[l];
        k->y = take_floats(arena, (size_t)m->batch * k->conv.out);
        k->y_bar = take_floats(arena, (size_t)m->batch * k->conv.out);
    }
}

/* Keep residuals in the caller's memory `saved`, or in the plan's own if it is NULL. */
LOCAL void mlp_use_saved(mlp_t *m, float *saved)
{
    arena_t arena = {(char *)(saved ? saved : m->saved), 0};
    mlp_layout_saved(m, &arena);
}

/* A dense layer as a convolution of one pixel. */
INLINE rk_conv dense_shape(int32_t inputs, int32_t outputs)
{
    return (rk_conv){.height = 1, .width = 1, .channels = inputs, .kernel_height = 1, .kernel_width = 1, .filters = outputs,
                     .stride = 1, .out_height = 1, .out_width = 1};
}

/* Whether all offsets fit in int32 with `batch` examples. */
LOCAL int mlp_fits(const rk_mlp *shape, int32_t batch)
{
    for (int32_t l = 0; l < shape->layers; l++) {
        const rk_conv pixel = dense_shape(shape->units[l], shape->units[l + 1]);
        if (!conv_fits(&pixel, batch)) return 0;
    }
    return 1;
}

/* Lay out the memory of a batch, beginning with the mlp_t itself, which is returned. */
LOCAL mlp_t *mlp_build(arena_t *arena, mlp_t *m, const rk_mlp *shape, int32_t batch, int32_t hessian)
{
    mlp_t *stored = take(arena, 1, sizeof(mlp_t));
    memset(m, 0, sizeof *m);
    m->shape = *shape;
    m->batch = batch;
    int32_t in = shape->units[0];
    for (int32_t l = 0; l < shape->layers; l++) {
        dense_t *k = &m->layer[l];
        const int32_t units = shape->units[l + 1], out = padded(units);
        const rk_conv pixel = dense_shape(shape->units[l], units);
        k->offset = m->parameters;
        m->parameters += shape->units[l] * units + units;
        k->conv = conv_build(arena, pixel, batch, in, 0, out, l > 0);
        k->bias = take_floats(arena, out);
        k->w_bar = in == shape->units[l] && out == units ? NULL : take_floats(arena, (size_t)in * out);
        if (hessian) {
            k->bias_dot = take_floats(arena, out);
            k->z_dot = take_floats(arena, (size_t)batch * out);
            k->y_dot = take_floats(arena, (size_t)batch * out);
            k->y_bar_dot = take_floats(arena, (size_t)batch * out);
            k->packed_dot = take_floats(arena, (size_t)in * out);
            k->packed_back_dot = take_floats(arena, (size_t)out * padded(in));
        }
        in = out;
    }
    m->saved = take_floats(arena, 0);
    mlp_layout_saved(m, arena);
    return stored;
}

/* Pack one layer's weights and bias from phi, or from a direction v. */
LOCAL void dense_pack(const dense_t *k, const float *phi, float *packed, float *packed_back, float *bias)
{
    const float *w = phi + k->offset;
    for (int32_t i = 0; i < pack_items(&k->conv); i++) conv_pack(&k->conv, w, i, packed);
    for (int32_t i = 0; packed_back && i < pack_items(&k->conv); i++) conv_pack_back(&k->conv, w, i, packed_back);
    pad_vector(bias, w + kernel_size(&k->conv.shape), k->conv.shape.filters, k->conv.out);
}

LOCAL void dense_product(const dense_t *k, const float *x, const float *packed, from_t start, const float *bias, float *y)
{
    for (int32_t i = 0; i < conv_items(&k->conv); i++) conv_item(&k->conv, i, x, packed, start, bias, y);
}
LOCAL void dense_input(const dense_t *k, const float *y_bar, const float *packed_back, from_t start, float *x_bar)
{
    for (int32_t i = 0; i < conv_back_items(&k->conv); i++) conv_back_item(&k->conv, i, y_bar, packed_back, start, x_bar);
}
LOCAL void dense_weight(const dense_t *k, const float *x, const float *y_bar, int add, float *w_bar)
{
    for (int32_t i = 0; i < conv_weight_items(&k->conv, 1); i++) conv_weight_item(&k->conv, i, 1, x, y_bar, add, w_bar);
    for (int32_t i = 0; i < conv_finish_items(&k->conv); i++) conv_weight_finish(&k->conv, i, w_bar);
}

LOCAL void mlp_pack(mlp_t *m, const float *phi)
{
    for (int32_t l = 0; l < m->shape.layers; l++) {
        dense_t *k = &m->layer[l];
        dense_pack(k, phi, k->conv.packed, l ? k->conv.packed_back : NULL, k->bias);
    }
}

/* Outputs of every layer for x (B, units[0]). */
LOCAL void mlp_forward(mlp_t *m, const float *phi, const float *x)
{
    mlp_pack(m, phi);
    for (int32_t l = 0; l < m->shape.layers; l++) {
        dense_t *k = &m->layer[l];
        dense_product(k, x, k->conv.packed, FROM_BIAS, k->bias, k->y);
        for (int32_t i = 0; l < m->shape.layers - 1 && i < m->batch * k->conv.out; i += LANES)
            store(k->y + i, tanh_lanes(load(k->y + i)));
        x = k->y;
    }
}

/* The number of squared errors that the loss is averaged over. */
INLINE float mlp_averaged(const mlp_t *m)
{
    return (float)m->shape.units[m->shape.layers] * (m->shape.mean_loss ? (float)m->batch : 1.0f);
}
/* The loss against targets (B, outputs), in m->loss, and its gradient by the last layer's outputs. */
LOCAL void mlp_loss(mlp_t *m, const float *targets)
{
    dense_t *k = &m->layer[m->shape.layers - 1];
    const int32_t outputs = k->conv.shape.filters, stride = k->conv.out;
    const float averaged = mlp_averaged(m);
    double loss = 0.0;
    for (int32_t b = 0; b < m->batch; b++) {
        for (int32_t j = 0; j < stride; j++) {
            const float error = j < outputs ? k->y[(ptrdiff_t)b * stride + j] - targets[(ptrdiff_t)b * outputs + j] : 0.0f;
            loss += (double)error * error;
            k->y_bar[(ptrdiff_t)b * stride + j] = 2.0f * error / averaged;
        }
    }
    m->loss = loss / (double)averaged;
}

/* The loss of the minibatch (x, targets) at phi, in m->loss, and unless grad is NULL its gradient (n,). */
LOCAL void mlp_gradient(mlp_t *m, const float *phi, const float *x, const float *targets, float *grad)
{
    mlp_forward(m, phi, x);
    mlp_loss(m, targets);
    for (int32_t l = m->shape.layers - 1; l >= 0; l--) {
        dense_t *k = &m->layer[l];
        if (grad) {
            float *w_bar = k->w_bar ? k->w_bar : grad + k->offset;
            dense_weight(k, l ? m->layer[l - 1].y : x, k->y_bar, 0, w_bar);
            dense_gradient(&k->conv, w_bar, k->y_bar, m->batch, grad + k->offset);
        }
        if (l == 0) break;
        dense_t *below = &m->layer[l - 1];
        dense_input(k, k->y_bar, k->conv.packed_back, FROM_ZERO, below->y_bar);
        for (int32_t i = 0; i < m->batch * below->conv.out; i += LANES) { /* y_bar (1 - y^2) */
            const vec y = load(below->y + i);
            store(below->y_bar + i, load(below->y_bar + i) * (splat(1.0f) - y * y));
        }
    }
}

/* hv = H(phi) v: the tangents, along v, of both passes; phi is packed, y and y_bar are saved.  The terms marked * are second
   order. */
LOCAL void mlp_hessian_product(mlp_t *m, const float *x, const float *v, float *hv)
{
    const int32_t last = m->shape.layers - 1;
    for (int32_t l = 0; l <= last; l++) { /* z_dot = x v + x_dot w + bias_dot, y_dot = z_dot (1 - y^2) */
        dense_t *k = &m->layer[l], *below = l ? &m->layer[l - 1] : NULL;
        dense_pack(k, v, k->packed_dot, l ? k->packed_back_dot : NULL, k->bias_dot);
        dense_product(k, l ? below->y : x, k->packed_dot, FROM_BIAS, k->bias_dot, k->z_dot);
        if (l) dense_product(k, below->y_dot, k->conv.packed, FROM_OUT, NULL, k->z_dot);
        for (int32_t i = 0; l < last && i < m->batch * k->conv.out; i += LANES) {
            const vec y = load(k->y + i);
            store(k->y_dot + i, load(k->z_dot + i) * (splat(1.0f) - y * y));
        }
    }
    const vec scale = splat(2.0f / mlp_averaged(m));
    for (int32_t i = 0; i < m->batch * m->layer[last].conv.out; i += LANES)
        store(m->layer[last].y_bar_dot + i, load(m->layer[last].z_dot + i) * scale);
    for (int32_t l = last; l >= 0; l--) {
        dense_t *k = &m->layer[l], *below = l ? &m->layer[l - 1] : NULL;
        float *w_bar = k->w_bar ? k->w_bar : hv + k->offset;
        dense_weight(k, l ? below->y : x, k->y_bar_dot, 0, w_bar);
        if (l) dense_weight(k, below->y_dot, k->y_bar, 1, w_bar); /* * */
        dense_gradient(&k->conv, w_bar, k->y_bar_dot, m->batch, hv + k->offset);
        if (l == 0) break;
        dense_input(k, k->y_bar_dot, k->conv.packed_back, FROM_ZERO, below->y_bar_dot);
        dense_input(k, k->y_bar, k->packed_back_dot, FROM_OUT, below->y_bar_dot); /* * */
        for (int32_t i = 0; i < m->batch * below->conv.out; i += LANES) {
            const vec y = load(below->y + i), slope = splat(1.0f) - y * y;
            const vec bend = splat(-2.0f) * y * load(below->z_dot + i) * load(below->y_bar + i); /* * */
            store(below->y_bar_dot + i, load(below->y_bar_dot + i) * slope + bend);
        }
    }
}

#endif
