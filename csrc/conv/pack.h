/* Weights into the order in which a convolution reads them, and gradients back into the order of phi.

   w (taps, channels, filters) as in phi; packed as conv_t describes, channels and filters padded with zeros here.  */

#ifndef RK_PACK_H
#define RK_PACK_H

#include "conv/conv.h"

/* Rows (n, filters) of one panel of w, of which `given` exist: to (n, PANEL), zeros elsewhere; w points to the first row. */
LOCAL void pack_rows(const float *w, int32_t filters, int32_t panel, int32_t n, int32_t given, float *to)
{
    const int32_t columns = min_i(PANEL, filters - panel * PANEL);
    w += panel * PANEL;
    for (int32_t i = 0; i < n; i++, w += filters, to += PANEL) {
        if (i < given && columns == PANEL) {
            store(to, load(w));
            store(to + LANES, load(w + LANES));
        } else {
            store(to, zero());
            store(to + LANES, zero());
            for (int32_t j = 0; j < columns && i < given; j++) to[j] = w[j];
        }
    }
}

/* LANES x LANES of w, rows `stride` floats apart, transposed; of which `rows` x `columns` exist, zeros elsewhere. */
INLINE void transposed(const float *w, ptrdiff_t stride, int32_t rows, int32_t columns, vec square[LANES])
{
    if (rows >= LANES && columns >= LANES) {
        RK_UNROLL
        for (int k = 0; k < LANES; k++) square[k] = load(w + k * stride);
        transpose(square);
        return;
    }
    float whole[LANES][LANES] = {{0}}; /* first written completely: a vector load soon after smaller stores to its bytes is slow */
    for (int32_t k = 0; k < min_i(LANES, rows); k++)
        for (int32_t j = 0; j < min_i(LANES, columns); j++) whole[j][k] = w[k * stride + j];
    for (int k = 0; k < LANES; k++) square[k] = load(whole[k]);
}

/* Pack an item of packing, LANES input channels of all taps and filters, for the forward map; for Winograd tiles the filter's
   transform. */
LOCAL void conv_pack(const conv_t *c, const float *w, int32_t item, float *packed)
{
    const int32_t from = item * LANES, rows = min_i(LANES, c->in - from), given = min_i(rows, c->shape.channels - from);
    const int32_t filters = c->shape.filters;
    const ptrdiff_t tap = (ptrdiff_t)c->shape.channels * filters;       /* floats of one tap of w, */
    const ptrdiff_t packed_tap = (ptrdiff_t)tap_rows(c, c->in) * PANEL; /* and of one tap, or point, of a packed panel */
    const int whole = given == rows && filters == c->out;
    float of_taps[9 * LANES * PANEL];
    w += (ptrdiff_t)from * filters; /* w[0, from, :] */
    for (int32_t panel = 0; panel < conv_panels(c); panel++) {
        float *to = packed + ((ptrdiff_t)panel * packed_rows(c, c->in) + from) * PANEL; /* packed[panel, 0, from, :] */
        for (int32_t i = 0; c->winograd && whole && i < rows; i++)
            winograd_filter(c->forward.scheme, w + (ptrdiff_t)i * filters + panel * PANEL, tap, PANEL, to + i * PANEL, packed_tap);
        if (c->winograd && whole) continue;
        for (int32_t t = 0; t < c->y.taps * c->x.taps; t++)
            pack_rows(w + t * tap, filters, panel, rows, given, c->winograd ? of_taps + t * LANES * PANEL : to + t * packed_tap);
        if (c->winograd) winograd_filter(c->forward.scheme, of_taps, LANES * PANEL, LANES * PANEL, to, packed_tap);
    }
}

/* Pack an item for the input adjoint, channels and filters exchanged, taps in the adjoint's order: LANES columns of one panel. */
LOCAL void conv_pack_back(const conv_t *c, const float *w, int32_t item, float *packed)
{
    const int32_t i = item * LANES, channels = c->shape.channels, filters = c->shape.filters;
    const ptrdiff_t packed_tap = (ptrdiff_t)tap_rows(c, c->out) * PANEL; /* floats of one tap, or point, of a packed panel */
    float *const panel = packed + (ptrdiff_t)(i / PANEL) * packed_rows(c, c->out) * PANEL + i % PANEL; /* packed[panel, 0, 0, i:] */
    const float *of_tap[9];
    float of_taps[9 * LANES * LANES];
    for (int32_t t = 0; t < c->y.taps * c->x.taps; t++) {
        const int32_t tap = tap_of(&c->back_y, t / c->x.taps) * c->x.taps + tap_of(&c->back_x, t % c->x.taps);
        const float *from = w + ((ptrdiff_t)tap * channels + i) * filters; /* w[tap, i, 0] */
        if (c->winograd) {
            of_tap[t] = from;
            continue;
        }
        for (int32_t o = 0; o < c->out; o += LANES) {
            float *to = panel + t * packed_tap + (ptrdiff_t)o * PANEL; /* packed[panel, t, o:, i:] */
            vec square[LANES];
            transposed(from + o, filters, channels - i, filters - o, square);
            RK_UNROLL
            for (int k = 0; k < LANES; k++) store(to + k * PANEL, square[k]);
        }
    }
    for (int32_t o = 0; c->winograd && o < c->out; o += LANES) {
        for (int32_t t = 0; t < 9; t++) {
            vec square[LANES];
            transposed(of_tap[t] + o, filters, channels - i, filters - o, square);
            RK_UNROLL
            for (int k = 0; k < LANES; k++) store(of_taps + (t * LANES + k) * LANES, square[k]);
        }
        for (int k = 0; k < LANES; k++)
            winograd_filter(c->back.scheme, of_taps + k * LANES, LANES * LANES, LANES, panel + (ptrdiff_t)(o + k) * PANEL,
                            packed_tap);
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
