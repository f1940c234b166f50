/* Dense layers with tanh between them and squared error: the sine network.

   One thread does all of it.  The gradient saves y and y_bar of every layer for Hessian products.
   B = batch; in, out: inputs and outputs of a layer; stored rows are padded to whole registers; their padding
   never reaches a result.  */

#ifndef RK_MLP_H
#define RK_MLP_H

#include "conv/pack.h"

/* The weights of a layer as the products read them.  w (in, out), bias (out,): whole registers may be read beyond their ends.
   back: the transpose, for the input adjoint: panels of PANEL inputs, `back_panel` floats apart, each (out, PANEL). */
typedef struct { const float *w, *bias, *back; ptrdiff_t back_panel; } weights_t;

typedef struct {
    int32_t in, out, in_stored, out_stored;
    ptrdiff_t offset;         /* of the kernel in phi */
    int32_t *base, *to;       /* (B,) first float of each example's row in x and in y */
    float *copy, *copy_dot;   /* kernel and bias if their rows are no whole registers, else NULL */
    int in_a_row;             /* one output, and rows of x are whole registers: the kernel's gradient is summed as one row */
    float *packed_back, *packed_back_dot; /* NULL for the first layer and for one output */
    weights_t weights;
    float *y, *y_bar;         /* (B, out) y: after tanh, but in the last layer; y_bar: its adjoint, then z_bar, the adjoint of z */
    float *w_bar;             /* (in, out_stored), or (in_stored,) in a row, like copy; else NULL: the gradient itself is written */
    float *z_dot, *y_dot, *y_bar_dot; /* tangents; z is what tanh is applied to */
} dense_t;

typedef struct {
    rk_mlp shape;
    int32_t batch;
    ptrdiff_t parameters;
    dense_t layer[RK_MAX_DENSE];
    float *saved;             /* the plan's own memory for mlp_layout_saved */
    double loss;
} mlp_t;

/* tanh x = -e / (2 + e) with e = exp(-2 |x|) - 1, and the sign of x (0 gives -0).  exp by 2^k exp(r), |r| <= ln 2 / 2; e^r - 1 by
   its Taylor polynomial of degree 7 (truncation below 2^-25 relative).  Within 4 units in the last place of tanh
   (tests/nn/native/test_networks.py). */
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
    const vec power = (vec)(((uvec)shifted << 23) + (uvec)splat_i(0x3f800000)); /* 2^k: k sits in shifted's low bits (NaN: any) */
    const vec e = power * p + (power - splat(1.0f));
    return (vec)((ivec)(-e / (splat(2.0f) + e)) | sign);
}

/* Lay out in `arena` the residuals: what the gradient saves for Hessian products at the same phi and minibatch. */
LOCAL void mlp_layout_saved(mlp_t *m, arena_t *arena)
{
    for (int32_t l = 0; l < m->shape.layers; l++) {
        dense_t *k = &m->layer[l];
        k->y = take_floats(arena, (size_t)m->batch * k->out_stored);
        k->y_bar = take_floats(arena, (size_t)m->batch * k->out_stored);
    }
}

/* Keep residuals in the caller's memory `saved`, or in the plan's own if it is NULL. */
LOCAL void mlp_use_saved(mlp_t *m, float *saved)
{
    arena_t arena = {(char *)(saved ? saved : m->saved), 0};
    mlp_layout_saved(m, &arena);
}

/* Whether all offsets fit in int32 with `batch` examples. */
LOCAL int mlp_fits(const rk_mlp *shape, int32_t batch)
{
    double widest = 0.0;
    for (int32_t l = 0; l <= shape->layers; l++) {
        const double units = padded(min_i(shape->units[l], INT32_MAX - PANEL));
        widest = units > widest ? units : widest;
        if (l > 0 && units * (1.0 * shape->units[l - 1] + PANEL) > INT32_MAX) return 0;
    }
    return widest * batch <= INT32_MAX;
}

INLINE int32_t whole_registers(int32_t n) { return ceil_div(n, LANES) * LANES; }

/* Floats of a copy of a layer's kernel and bias, with room to read whole registers beyond the end. */
INLINE size_t copy_size(const dense_t *k) { return (size_t)k->in * k->out + k->out_stored + PANEL; }

/* Lay out the memory of a batch, beginning with the mlp_t itself, which is returned. */
LOCAL mlp_t *mlp_build(arena_t *arena, mlp_t *m, const rk_mlp *shape, int32_t batch, int32_t hessian)
{
    mlp_t *stored = take(arena, 1, sizeof(mlp_t));
    memset(m, 0, sizeof *m);
    m->shape = *shape;
    m->batch = batch;
    for (int32_t l = 0; l < shape->layers; l++) {
        dense_t *k = &m->layer[l];
        k->in = shape->units[l];
        k->out = shape->units[l + 1];
        k->in_stored = l ? m->layer[l - 1].out_stored : k->in;
        k->out_stored = whole_registers(k->out);
        k->in_a_row = l > 0 && k->out == 1;
        k->offset = m->parameters;
        m->parameters += (ptrdiff_t)k->in * k->out + k->out;
        k->base = take(arena, batch, sizeof *k->base);
        k->to = take(arena, batch, sizeof *k->to);
        for (int32_t b = 0; arena->base && b < batch; b++) {
            k->base[b] = b * k->in_stored; /* x[b, 0] */
            k->to[b] = b * k->out_stored;  /* y[b, 0] */
        }
        if (k->out < k->out_stored) {
            k->copy = take_floats(arena, copy_size(k));
            k->w_bar = take_floats(arena, k->in_a_row ? (size_t)k->in_stored : (size_t)k->in * k->out_stored);
        }
        if (l > 0 && k->out > 1) k->packed_back = take_floats(arena, (size_t)padded(k->in) * k->out_stored);
        if (!hessian) continue;
        k->z_dot = take_floats(arena, (size_t)batch * k->out_stored);
        k->y_dot = take_floats(arena, (size_t)batch * k->out_stored);
        k->y_bar_dot = take_floats(arena, (size_t)batch * k->out_stored);
        if (k->out < k->out_stored) k->copy_dot = take_floats(arena, copy_size(k));
        if (l > 0 && k->out > 1) k->packed_back_dot = take_floats(arena, (size_t)padded(k->in) * k->out_stored);
    }
    m->saved = take_floats(arena, 0);
    mlp_layout_saved(m, arena);
    return stored;
}

/* One layer's weights and bias from phi, or from a direction v: where they are, or copied if `copy` is given; and transposed for
   the input adjoint unless packed_back is NULL.  One output: the kernel is its own transpose. */
LOCAL weights_t dense_weights(const dense_t *k, const float *phi, float *copy, float *packed_back)
{
    const float *w = phi + k->offset;
    const ptrdiff_t size = (ptrdiff_t)k->in * k->out, back_panel = k->out == 1 ? PANEL : (ptrdiff_t)k->out_stored * PANEL;
    if (copy) {
        memcpy(copy, w, sizeof(float) * (size + k->out));
        w = copy;
    }
    for (int32_t i = 0; packed_back && i < k->in; i += LANES) {
        float *panel = packed_back + i / PANEL * back_panel + i % PANEL; /* back[panel, 0, i] */
        for (int32_t o = 0; o < k->out; o += LANES) {
            vec square[LANES];
            transposed(w + (ptrdiff_t)i * k->out + o, k->out, k->in - i, k->out - o, square);
            RK_UNROLL
            for (int j = 0; j < LANES; j++) store(panel + (ptrdiff_t)(o + j) * PANEL, square[j]);
        }
    }
    return (weights_t){w, w + size, k->out == 1 ? w : packed_back, back_panel};
}
/* The weights of all layers. */
LOCAL void mlp_pack(mlp_t *m, const float *phi)
{
    for (int32_t l = 0; l < m->shape.layers; l++) {
        dense_t *k = &m->layer[l];
        k->weights = dense_weights(k, phi, k->copy, k->packed_back);
    }
}

/* y (B, columns) = initial value + x (B, depth) w, where base and to are the rows of x and y; w's panels `panel` floats apart. */
LOCAL void dense_rows(int32_t batch, const float *x, const int32_t *base, int32_t depth, const float *w, ptrdiff_t row,
                      ptrdiff_t panel, from_t from, const float *bias, float *y, const int32_t *to, int32_t columns)
{
    const int32_t pieces = ceil_div(batch, ROWS);
    for (int32_t j = 0; j < columns; j += PANEL, w += panel, y += PANEL)
        for (int32_t i = 0, b = 0, end; i < pieces; i++, b = end) {
            end = piece_start(batch, i + 1, pieces);
            gemm_dense(end - b, columns - j > LANES, x, base + b, depth, w, row, from, bias ? bias + j : NULL, y, to + b);
        }
}
/* y (B, out) = initial value + x w, and x_bar (B, in) = initial value + y_bar w'. */
LOCAL void dense_product(const dense_t *k, int32_t batch, const float *x, const weights_t *w, from_t from, float *y)
{
    dense_rows(batch, x, k->base, k->in, w->w, k->out, PANEL, from, w->bias, y, k->to, k->out);
}
LOCAL void dense_input(const dense_t *k, int32_t batch, const float *y_bar, const weights_t *w, from_t from, float *x_bar)
{
    dense_rows(batch, y_bar, k->to, k->out, w->back, PANEL, w->back_panel, from, NULL, x_bar, k->base, k->in);
}

/* sums (in, out_stored) = initial value + x' y_bar; in a row: (in_stored,), with the factors exchanged. */
LOCAL void dense_sums(const dense_t *k, int32_t batch, const float *x, const float *y_bar, from_t from, float *sums)
{
    if (k->in_a_row)
        gemm_transpose(1, y_bar, k->to, x, k->in_stored, k->base, batch, from, sums, 0);
    else
        gemm_transpose(k->in, x, k->base, y_bar, k->out_stored, k->to, batch, from, sums, k->out_stored);
}

/* A layer's gradient at `grad`, kernel then bias; with x2 the kernel's is the sum of two products. */
LOCAL void dense_gradients(const dense_t *k, int32_t batch, const float *x, const float *y_bar, const float *x2,
                           const float *y_bar2, float *grad)
{
    float *sums = k->w_bar ? k->w_bar : grad;
    const ptrdiff_t size = (ptrdiff_t)k->in * k->out;
    dense_sums(k, batch, x, y_bar, FROM_ZERO, sums);
    if (x2) dense_sums(k, batch, x2, y_bar2, FROM_OUT, sums);
    if (k->in_a_row)
        memcpy(grad, sums, sizeof(float) * size);
    else if (k->w_bar)
        restride(sums, k->out_stored, grad, k->out, k->in);
    for (int32_t j = 0; j < k->out; j += LANES) {
        vec sum = zero();
        for (int32_t b = 0; b < batch; b++) sum += load(y_bar + k->to[b] + j); /* y_bar[b, j] */
        float bias_bar[LANES];
        store(bias_bar, sum);
        memcpy(grad + size + j, bias_bar, sizeof(float) * min_i(LANES, k->out - j));
    }
}

/* Outputs of every layer for x (B, units[0]); phi is packed. */
LOCAL void mlp_forward(mlp_t *m, const float *x)
{
    for (int32_t l = 0; l < m->shape.layers; l++) {
        dense_t *k = &m->layer[l];
        dense_product(k, m->batch, x, &k->weights, FROM_BIAS, k->y);
        for (int32_t i = 0; l < m->shape.layers - 1 && i < m->batch * k->out_stored; i += LANES)
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
    const dense_t *k = &m->layer[m->shape.layers - 1];
    const float averaged = mlp_averaged(m);
    double loss = 0.0;
    for (int32_t b = 0; b < m->batch; b++) {
        for (int32_t j = 0; j < k->out; j++) {
            const float error = k->y[k->to[b] + j] - targets[(ptrdiff_t)b * k->out + j];
            loss += (double)error * error;
            k->y_bar[k->to[b] + j] = 2.0f * error / averaged;
        }
        for (int32_t j = k->out; j < k->out_stored; j++) k->y_bar[k->to[b] + j] = 0.0f;
    }
    m->loss = loss / (double)averaged;
}

/* The loss of the minibatch (x, targets), in m->loss, and unless grad is NULL its gradient (n,), at the phi that is packed. */
LOCAL void mlp_gradient(mlp_t *m, const float *x, const float *targets, float *grad)
{
    mlp_forward(m, x);
    mlp_loss(m, targets);
    for (int32_t l = m->shape.layers - 1; l >= 0; l--) {
        dense_t *k = &m->layer[l], *below = l ? &m->layer[l - 1] : NULL;
        if (grad) dense_gradients(k, m->batch, l ? below->y : x, k->y_bar, NULL, NULL, grad + k->offset);
        if (l == 0) break;
        dense_input(k, m->batch, k->y_bar, &k->weights, FROM_ZERO, below->y_bar);
        for (int32_t i = 0; i < m->batch * below->out_stored; i += LANES) { /* y_bar (1 - y^2) */
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
    weights_t dot[RK_MAX_DENSE];
    for (int32_t l = 0; l <= last; l++) { /* z_dot = x v + x_dot w + bias_dot, y_dot = z_dot (1 - y^2) */
        dense_t *k = &m->layer[l], *below = l ? &m->layer[l - 1] : NULL;
        dot[l] = dense_weights(k, v, k->copy_dot, k->packed_back_dot);
        dense_product(k, m->batch, l ? below->y : x, &dot[l], FROM_BIAS, k->z_dot);
        if (l) dense_product(k, m->batch, below->y_dot, &k->weights, FROM_OUT, k->z_dot);
        for (int32_t i = 0; l < last && i < m->batch * k->out_stored; i += LANES) {
            const vec y = load(k->y + i);
            store(k->y_dot + i, load(k->z_dot + i) * (splat(1.0f) - y * y));
        }
    }
    const vec scale = splat(2.0f / mlp_averaged(m));
    for (int32_t i = 0; i < m->batch * m->layer[last].out_stored; i += LANES)
        store(m->layer[last].y_bar_dot + i, load(m->layer[last].z_dot + i) * scale);
    for (int32_t l = last; l >= 0; l--) {
        dense_t *k = &m->layer[l], *below = l ? &m->layer[l - 1] : NULL;
        const float *x_dot = l ? below->y_dot : NULL;
        dense_gradients(k, m->batch, l ? below->y : x, k->y_bar_dot, x_dot, k->y_bar, hv + k->offset); /* second product: * */
        if (l == 0) break;
        dense_input(k, m->batch, k->y_bar_dot, &k->weights, FROM_ZERO, below->y_bar_dot);
        dense_input(k, m->batch, k->y_bar, &dot[l], FROM_OUT, below->y_bar_dot); /* * */
        for (int32_t i = 0; i < m->batch * below->out_stored; i += LANES) {
            const vec y = load(below->y + i), slope = splat(1.0f) - y * y;
            const vec bend = splat(-2.0f) * y * load(below->z_dot + i) * load(below->y_bar + i); /* *: y_bar holds z_bar */
            store(below->y_bar_dot + i, load(below->y_bar_dot + i) * slope + bend);
        }
    }
}

#endif
