/* Weights into the order in which a convolution reads them, and gradients back into the order of phi.

   w (taps, channels, filters) as in phi; packed as conv_t describes, channels and filters padded with zeros here.  */

#ifndef RK_PACK_H
#define RK_PACK_H

#include "conv/conv.h"

/* An item of packing: LANES input channels of a kernel, all taps and filters. */
INLINE int32_t pack_items(const conv_t *c) { return ceil_div(c->in, LANES); }

/* Rows from .. end - 1 (input channels) of every tap of w, one panel of filters: to[t, row, :], taps `distance` floats apart. */
LOCAL void pack_rows(const conv_t *c, const float *w, int32_t panel, int32_t from, int32_t end, float *to, ptrdiff_t distance)
{
    const int32_t channels = c->shape.channels, filters = c->shape.filters, taps = c->y.taps * c->x.taps;
    const int32_t columns = max_i(0, min_i(PANEL, filters - panel * PANEL));
    for (int32_t t = 0; t < taps; t++, to += distance) {
        for (int32_t i = from; i < end; i++) {
            const float *row = w + ((ptrdiff_t)t * channels + i) * filters + panel * PANEL; /* w[t, i, panel] */
            float *packed = to + (ptrdiff_t)(i - from) * PANEL;
            if (i < channels && columns == PANEL) {
                store(packed, load(row));
                store(packed + LANES, load(row + LANES));
            } else {
                store(packed, zero());
                store(packed + LANES, zero());
                for (int32_t j = 0; j < columns && i < channels; j++) packed[j] = row[j];
            }
        }
    }
}

/* LANES x LANES of w as the input adjoint reads them, channels and filters exchanged: filters o .. as rows, channels i .. as
   columns, of the adjoint's tap (ty, tx). */
INLINE void transposed(const conv_t *c, const float *w, int32_t ty, int32_t tx, int32_t i, int32_t o, vec square[LANES])
{
    const int32_t channels = c->shape.channels, filters = c->shape.filters;
    const int32_t tap = tap_of(&c->back_y, ty) * c->x.taps + tap_of(&c->back_x, tx);
    const float *from = w + ((ptrdiff_t)tap * channels + i) * filters + o; /* w[tap, i:, o:] */
    if (i + LANES <= channels && o + LANES <= filters) {
        RK_UNROLL
        for (int k = 0; k < LANES; k++) square[k] = load(from + (ptrdiff_t)k * filters);
    } else {
        for (int32_t k = 0; k < LANES; k++) {
            float row[LANES] = {0};
            for (int32_t j = 0; j < min_i(LANES, filters - o) && i + k < channels; j++) row[j] = from[(ptrdiff_t)k * filters + j];
            square[k] = load(row);
        }
    }
    transpose(square);
}

/* Pack an item for the forward map; for Winograd tiles the filter's transform. */
LOCAL void conv_pack(const conv_t *c, const float *w, int32_t item, float *packed)
{
    const int32_t from = item * LANES, end = min_i(from + LANES, c->in);
    const ptrdiff_t distance = (ptrdiff_t)c->in * PANEL; /* of two taps, or points, in packed */
    float rows[9 * LANES * PANEL];
    for (int32_t panel = 0; panel < conv_panels(c); panel++) {
        float *to = packed + ((ptrdiff_t)panel * packed_rows(c, c->in) + from) * PANEL; /* packed[panel, 0, from, :] */
        if (!c->winograd) {
            pack_rows(c, w, panel, from, end, to, distance);
        } else {
            pack_rows(c, w, panel, from, end, rows, LANES * PANEL);
            winograd_filter(c->forward.scheme, rows, LANES * PANEL, LANES * PANEL, to, distance);
        }
    }
}

/* Pack an item for the input adjoint: LANES columns of one panel. */
LOCAL void conv_pack_back(const conv_t *c, const float *w, int32_t item, float *packed)
{
    const int32_t i = item * LANES, taps = c->y.taps * c->x.taps;
    float *const panel = packed + (ptrdiff_t)(i / PANEL) * packed_rows(c, c->out) * PANEL + i % PANEL; /* packed[panel, 0, 0, i:] */
    for (int32_t o = 0; o < c->out; o += LANES) {
        if (c->winograd) {
            float rows[9 * LANES * LANES];
            for (int32_t t = 0; t < 9; t++) {
                vec square[LANES];
                transposed(c, w, t / 3, t % 3, i, o, square);
                RK_UNROLL
                for (int k = 0; k < LANES; k++) store(rows + (t * LANES + k) * LANES, square[k]);
            }
            for (int k = 0; k < LANES; k++)
                winograd_filter(c->back.scheme, rows + k * LANES, LANES * LANES, LANES, panel + (ptrdiff_t)(o + k) * PANEL,
                                (ptrdiff_t)c->out * PANEL);
        } else {
            for (int32_t t = 0; t < taps; t++) {
                vec square[LANES];
                transposed(c, w, t / c->x.taps, t % c->x.taps, i, o, square);
                float *to = panel + ((ptrdiff_t)t * c->out + o) * PANEL; /* packed[panel, t, o:, i:] */
                RK_UNROLL
                for (int k = 0; k < LANES; k++) store(to + k * PANEL, square[k]);
            }
        }
    }
}

/* Elements of a kernel. */
INLINE ptrdiff_t kernel_size(const rk_conv *s)
{
    return (ptrdiff_t)s->kernel_height * s->kernel_width * s->channels * s->filters;
}

/* Copy n values and zeros up to the padded length. */
LOCAL void pad_vector(float *to, const float *from, int32_t n, int32_t length)
{
    memcpy(to, from, sizeof(float) * n);
    memset(to + n, 0, sizeof(float) * (length - n));
}

/* Drop the padding of w_bar (taps, in, out): to (taps, channels, filters). */
LOCAL void unpad_kernel(const conv_t *c, const float *from, float *to)
{
    const int32_t channels = c->shape.channels, filters = c->shape.filters;
    for (int32_t t = 0; t < c->y.taps * c->x.taps; t++)
        for (int32_t i = 0; i < channels; i++) /* w_bar[t, i, :] */
            memcpy(to + ((ptrdiff_t)t * channels + i) * filters, from + ((ptrdiff_t)t * c->in + i) * c->out,
                   sizeof(float) * filters);
}

/* Write a dense layer's kernel and bias gradient to `grad`, from w_bar (in, out) as stored, which may be `grad` itself, and the
   adjoint y_bar (B, out) of the layer's output. */
LOCAL void dense_gradient(const conv_t *c, const float *w_bar, const float *y_bar, int32_t batch, float *grad)
{
    const int32_t outputs = c->shape.filters;
    float *bias_bar = grad + kernel_size(&c->shape);
    if (w_bar != grad) unpad_kernel(c, w_bar, grad);
    memset(bias_bar, 0, sizeof(float) * outputs);
    for (int32_t b = 0; b < batch; b++)
        for (int32_t j = 0; j < outputs; j++) bias_bar[j] += y_bar[(ptrdiff_t)b * c->out + j]; /* y_bar[b, j] */
}

/* Copy rows of `from` floats into rows of `to` floats: the rest is filled with zeros, or dropped. */
LOCAL void restride(const float *in, int32_t from, float *out, int32_t to, ptrdiff_t rows)
{
    const int32_t n = min_i(from, to);
    for (ptrdiff_t i = 0; i < rows; i++) {
        memcpy(out + i * to, in + i * from, sizeof(float) * n);
        memset(out + i * to + n, 0, sizeof(float) * (to - n));
    }
}

#endif
