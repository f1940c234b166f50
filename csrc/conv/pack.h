/* Weights into the order in which a convolution reads them, and gradients back into the order of phi.

   w (taps, channels, filters) as in phi; packed as conv_t describes, channels and filters padded with zeros here.  */

#ifndef RK_PACK_H
#define RK_PACK_H

#include "conv/conv.h"

/* Panel `panel` of w, tap by tap: of each tap the channels from_channel .. end - 1. */
LOCAL void pack_taps(const conv_t *c, const float *w, int32_t panel, int32_t from_channel, int32_t end, float *to)
{
    const int32_t channels = c->shape.channels, filters = c->shape.filters, taps = c->y.taps * c->x.taps;
    const int32_t columns = max_i(0, min_i(PANEL, filters - panel * PANEL));
    for (int32_t t = 0; t < taps; t++) {
        for (int32_t i = from_channel; i < end; i++, to += PANEL) { /* packed[panel, t, i, :] */
            const float *from = w + ((ptrdiff_t)t * channels + i) * filters + panel * PANEL;
            if (i < channels && columns == PANEL) {
                store(to, load(from));
                store(to + LANES, load(from + LANES));
            } else {
                store(to, zero());
                store(to + LANES, zero());
                for (int32_t j = 0; j < columns && i < channels; j++) to[j] = from[j];
            }
        }
    }
}

/* Panel `panel` of w as the input adjoint reads it: taps in the adjoint's order, channels and filters exchanged; of each tap the
   filters from_filter .. end - 1.  Whole LANES x LANES squares are transposed in registers. */
LOCAL void pack_taps_back(const conv_t *c, const float *w, int32_t panel, int32_t from_filter, int32_t end, float *to)
{
    const int32_t channels = c->shape.channels, filters = c->shape.filters;
    for (int32_t ty = 0; ty < c->y.taps; ty++) {
        for (int32_t tx = 0; tx < c->x.taps; tx++) {
            const int32_t tap = tap_of(&c->back_y, ty) * c->x.taps + tap_of(&c->back_x, tx);
            for (int32_t o = from_filter; o < end; o += LANES, to += LANES * PANEL) { /* packed[panel, ty, tx, o:, :] */
                for (int32_t half = 0; half < PANEL; half += LANES) {
                    const int32_t i = panel * PANEL + half;
                    const float *from = w + ((ptrdiff_t)tap * channels + i) * filters + o; /* w[tap, i:, o:] */
                    if (i + LANES <= channels && o + LANES <= filters) {
                        vec square[LANES];
                        RK_UNROLL
                        for (int k = 0; k < LANES; k++) square[k] = load(from + (ptrdiff_t)k * filters);
                        transpose(square);
                        RK_UNROLL
                        for (int k = 0; k < LANES; k++) store(to + k * PANEL + half, square[k]);
                    } else {
                        for (int32_t k = 0; k < LANES; k++) {
                            store(to + k * PANEL + half, zero());
                            for (int32_t j = 0; j < min_i(LANES, channels - i) && o + k < filters; j++)
                                to[k * PANEL + half + j] = from[(ptrdiff_t)j * filters + k];
                        }
                    }
                }
            }
        }
    }
}

/* Pack one panel for the forward map, or for the input adjoint; for Winograd tiles the filter's transform, LANES input channels of
   all taps at a time. */
LOCAL void conv_pack(const conv_t *c, const float *w, float *packed, int32_t panel)
{
    float *to = packed + (ptrdiff_t)panel * packed_rows(c, c->in) * PANEL, taps[9 * LANES * PANEL];
    if (!c->winograd) pack_taps(c, w, panel, 0, c->in, to);
    for (int32_t i = 0; c->winograd && i < c->in; i += LANES) {
        pack_taps(c, w, panel, i, i + LANES, taps);
        winograd_filter(c->forward.scheme, taps, LANES * PANEL, to + (ptrdiff_t)i * PANEL, (ptrdiff_t)c->in * PANEL);
    }
}
LOCAL void conv_pack_back(const conv_t *c, const float *w, float *packed, int32_t panel)
{
    float *to = packed + (ptrdiff_t)panel * packed_rows(c, c->out) * PANEL, taps[9 * LANES * PANEL];
    if (!c->winograd) pack_taps_back(c, w, panel, 0, c->out, to);
    for (int32_t o = 0; c->winograd && o < c->out; o += LANES) {
        pack_taps_back(c, w, panel, o, o + LANES, taps);
        winograd_filter(c->back.scheme, taps, LANES * PANEL, to + (ptrdiff_t)o * PANEL, (ptrdiff_t)c->out * PANEL);
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
