/* The first block band by band: a band is one line of the pool's windows in one image.

   The first layer has few input channels and the largest feature maps, so memory traffic limits its speed: its z alone exceeds the
   cache.  Forward, a band's z is pooled and its moments are taken while it is in L1; backward, a band's z_bar is made in L1, meets its
   inputs there, and is not stored.  A band's inputs are copied with their padding, so all positions share the same runs.

   Hessian products use the plans of conv.h for this layer as for all others.  */

#ifndef RK_BAND_H
#define RK_BAND_H

#include "network/pool.h"

enum {
    BAND_POSITIONS = 512, /* positions of z in a band at most, */
    BAND_Z = 1 << 13,     /* floats of its z, */
    BAND_X = 1 << 12,     /* and of its inputs with their padding */
    BAND_RUNS = 8         /* rows of the kernel at most */
};

INLINE int64_t band_width(const conv_t *c) { return (int64_t)(c->x.n - 1) * c->x.stride + c->x.taps; } /* in pixels, with padding */

/* Whether a first block is computed band by band: its bands are small and not padding alone, its windows begin in the corner of the
   image, and every line is in a window. */
LOCAL int banded(const block_t *k)
{
    const conv_t *c = &k->conv;
    const int64_t lines = (int64_t)(k->shape.pool - 1) * c->y.stride + c->y.taps;
    return pools(k) && !c->winograd && c->splits && !k->shape.pool_top && !k->shape.pool_left && c->y.taps <= BAND_RUNS &&
           k->shape.pool_height * k->shape.pool >= k->shape.conv.out_height &&
           (int64_t)k->shape.pool * c->x.n <= BAND_POSITIONS && (int64_t)k->shape.pool * c->x.n * k->channels <= BAND_Z &&
           c->x.pad <= band_width(c) && band_width(c) <= BAND_X && lines <= BAND_X && lines * band_width(c) * c->in <= BAND_X;
}

/* The inputs of a band: in (lines, band_width, channels), zeros in the padding; base: the first input of each position; and the
   runs of all positions.  Only `in` differs from band to band. */
typedef struct { float in[BAND_X]; int32_t base[BAND_POSITIONS], to[BAND_POSITIONS]; run_t run[BAND_RUNS]; } band_inputs_t;

/* Fill in all but the inputs. */
LOCAL void band_layout(const block_t *k, band_inputs_t *to)
{
    const conv_t *c = &k->conv;
    const int32_t in = c->in, pitch = (int32_t)band_width(c) * in, width = c->x.n;
    for (int32_t i = 0; i < k->shape.pool * width; i++) {
        to->base[i] = i / width * c->y.stride * pitch + i % width * c->x.stride * in;
        to->to[i] = i * k->channels;
    }
    for (int32_t i = 0; i < c->y.taps; i++) to->run[i] = (run_t){i * pitch, i * c->x.taps * in, c->x.taps * in};
}

/* Copy the inputs of band b. */
LOCAL void band_inputs(const block_t *k, band_t b, const float *x, band_inputs_t *to)
{
    const conv_t *c = &k->conv;
    const int32_t in = c->in, pitch = (int32_t)band_width(c) * in, lines = b.positions / c->x.n;
    const int32_t left = c->x.pad * in, copied = min_i(c->x.sources * in, pitch - left);
    x += (ptrdiff_t)b.image * c->y.sources * c->x.sources * in;
    for (int32_t i = 0; i < (lines - 1) * c->y.stride + c->y.taps; i++) {
        const int32_t y = b.line * c->y.stride - c->y.pad + i, n = y >= 0 && y < c->y.sources ? copied : 0;
        const float *from = x + (ptrdiff_t)y * c->x.sources * in;
        float *line = to->in + i * pitch;
        for (int32_t j = 0; j < left; j++) line[j] = 0.0f;
        for (int32_t j = 0; j + LANES <= n; j += LANES) store(line + left + j, load(from + j));
        for (int32_t j = n / LANES * LANES; j < n; j++) line[left + j] = from[j];
        for (int32_t j = left + n; j < pitch; j++) line[j] = 0.0f;
    }
}

/* Item i of the forward pass, which is the bands from BANDS_OF_ITEM i on: their z, u, argmax and partial moments.  The next band's
   z is fetched before it is written. */
enum { BANDS_OF_ITEM = 7 };
INLINE int32_t band_items(const block_t *k) { return ceil_div(bands(k), BANDS_OF_ITEM); }
LOCAL void band_forward(const block_t *k, int32_t i, const float *x)
{
    band_inputs_t from;
    band_layout(k, &from);
    for (int32_t band = i * BANDS_OF_ITEM; band < min_i((i + 1) * BANDS_OF_ITEM, bands(k)); band++) {
        const band_t b = band_at(k, band), next = band_at(k, min_i(band + 1, bands(k) - 1));
        const int32_t pieces = ceil_div(b.positions, ROWS);
        band_inputs(k, b, x, &from);
        for (int32_t c = 0; c < k->channels; c += PANEL) {
            for (int32_t piece = 0, row = 0, end; piece < pieces; piece++, row = end) {
                end = piece_start(b.positions, piece + 1, pieces);
                for (int32_t q = row; q < min_i(end, next.positions); q++)
                    __builtin_prefetch(k->z + next.z + (ptrdiff_t)q * k->channels + c, 1, 2);
                gemm(end - row, from.in, from.base + row, from.run, k->conv.y.taps, k->conv.packed + (ptrdiff_t)c * k->conv.depth,
                     FROM_BIAS, k->bias + c, k->z + b.z + c, from.to + row);
            }
        }
        block_pool(k, b.row, b.row + k->shape.pool_width);
        for (int32_t c = 0; c < k->channels; c += PANEL) {
            float *part = k->partials + (ptrdiff_t)band * 2 * k->channels + c; /* partials[band, :, c] */
            const float *u = k->u + (ptrdiff_t)b.row * k->channels + c;
            if (k->shape.pool_first)
                moments(u, NULL, k->shape.pool_width, k->channels, part, part + k->channels);
            else
                moments(k->z + b.z + c, NULL, b.positions, k->channels, part, part + k->channels);
        }
    }
}

/* Bring part `part` of `parts` of n floats into the cache: the next band's are fetched while this one is multiplied. */
INLINE void prefetch(const float *from, ptrdiff_t n, int32_t part, int32_t parts)
{
    for (ptrdiff_t i = n * part / parts; i < n * (part + 1) / parts; i += 16) __builtin_prefetch(from + i, 0, 2);
}

/* The weight adjoint over split i of the bands, into the convolution's partial sum i. */
LOCAL void band_weight(const block_t *k, int32_t i, const float *x)
{
    const conv_t *c = &k->conv;
    float *w_bar = c->partials + i * partial_size(c), z_bar[BAND_Z];
    band_inputs_t from;
    memset(w_bar, 0, sizeof(float) * partial_size(c));
    band_layout(k, &from);
    for (int32_t j = piece_start(bands(k), i, c->splits); j < piece_start(bands(k), i + 1, c->splits); j++) {
        const band_t b = band_at(k, j), next = band_at(k, min_i(j + 1, bands(k) - 1));
        band_inputs(k, b, x, &from);
        block_back_pooled(k, b.row, b.row + k->shape.pool_width, b.z, z_bar);
        for (int32_t r = 0; r < c->y.taps; r++) {
            const ptrdiff_t at = (ptrdiff_t)next.row * k->channels, n = (ptrdiff_t)k->shape.pool_width * k->channels;
            prefetch(k->z + next.z, (ptrdiff_t)next.positions * k->channels, r, c->y.taps);
            prefetch(k->a_bar + at, n, r, c->y.taps);
            prefetch((const float *)k->argmax + at, n, r, c->y.taps);
            gemm_transpose(from.run[r].len, from.in + from.run[r].in, from.base, z_bar, c->out, from.to, b.positions, FROM_OUT,
                           w_bar + (ptrdiff_t)from.run[r].k * c->out, c->out);
        }
    }
}

#endif
