/* 3 x 3 convolutions by Winograd tiles, with fewer products than nine taps need (Winograd 1980; Lavin & Gray 2016).

     y     = A' (sum_c (B' d_c B) . (G w_c G')) A         forward, and the input adjoint
     w_bar = G' (sum_tiles (B' d B) . (A y_bar A')) G     the weight adjoint

   with the matrices of winograd_transforms.h; ' transposes, and . multiplies each transformed input by the transformed filter
   that it meets.  For each of these products the channels form a matrix product: core/gemm.h again.

   A tile has transformed^2 numbers in V, sums^2 in M and points^2 in U, for each channel (transforms_t).  For the tiles of a chunk
   V is (transformed^2, panels, CHUNK_TILES, PANEL) and M (sums^2, panels, CHUNK_TILES, PANEL), on the stack.  U is (panels of
   outputs, points^2, input channels + 1, PANEL) when packed; its adjoint u_bar is (points^2, input channels, out), its points
   CACHE_LINE floats further apart.  Nothing reads the additional row, or floats.  */

#ifndef RK_WINOGRAD_H
#define RK_WINOGRAD_H

#include "conv/winograd_large.h"

enum {
    CHANNELS = 64,  /* channels transformed at a time */
    CACHE_LINE = 16 /* floats between two points: without them all points of a tile, or a filter, fall into the same sets of L1 */
};

/* V or M, for up to CHANNELS channels.  One point of it fits in L1 while it is multiplied. */
typedef float transformed_t[MOST * MOST * (CHUNK_TILES * CHANNELS + CACHE_LINE)];
INLINE ptrdiff_t point_stride(int32_t channels) { return (ptrdiff_t)channels * CHUNK_TILES + CACHE_LINE; }

/* f(scheme, ...) with a constant scheme: RK_FORWARD for forward plans, RK_ANY for all */
#define RK_FORWARD(f, scheme, ...)                          \
    ((scheme) == STRIDE_1         ? f(STRIDE_1, __VA_ARGS__) \
     : (scheme) == STRIDE_1_LARGE ? f(STRIDE_1_LARGE, __VA_ARGS__) : f(STRIDE_2, __VA_ARGS__))
#define RK_ANY(f, scheme, ...) \
    ((scheme) == STRIDE_2_ADJOINT ? f(STRIDE_2_ADJOINT, __VA_ARGS__) : RK_FORWARD(f, scheme, __VA_ARGS__))

/* Points of a transformed filter: points^2. */
INLINE int32_t plan_points(const plan_t *p) { return TRANSFORMS[p->scheme].points * TRANSFORMS[p->scheme].points; }

/* From one point of a filter to the next: rows of a packed panel, and floats of the adjoint. */
INLINE int32_t packed_point(int32_t channels) { return channels + 1; }
INLINE ptrdiff_t adjoint_point(int32_t channels, int32_t out) { return (ptrdiff_t)channels * out + CACHE_LINE; }

LOCAL void winograd_filter(scheme_t f, const float *w, ptrdiff_t taps, int32_t n, float *u, ptrdiff_t points)
{
    RK_ANY(filter_transform, f, w, taps, n, u, points);
}

/* The inputs d of a tile at LANES channels, zeros outside the image; whole (a constant): all of it is inside. */
INLINE void load_tile(const int whole, const int inputs, const plan_t *p, const tile_t *tile, const float *in, vec d[MOST][MOST])
{
    RK_UNROLL
    for (int i = 0; i < inputs; i++) {
        RK_UNROLL
        for (int j = 0; j < inputs; j++) {
            const int inside = i >= tile->y.in_low && i < tile->y.in_high && j >= tile->x.in_low && j < tile->x.in_high;
            d[i][j] = whole || inside ? load(in + ((ptrdiff_t)tile->base + i * p->line + j * p->pixel)) : zero();
        }
    }
}

/* v = B' d B of the first `channels` channels of in, for `tiles` tiles; points that are copies are left out. */
INLINE void input_transform(const scheme_t f, const plan_t *p, const tile_t *tile, int32_t tiles, const float *in,
                            int32_t channels, float *v)
{
    const int inputs = TRANSFORMS[f].inputs, transformed = TRANSFORMS[f].transformed;
    const ptrdiff_t size = point_stride(channels);
    for (int32_t k = 0; k < tiles; k++, tile++) {
        const int whole = tile->y.in_low == 0 && tile->x.in_low == 0 && tile->y.in_high == inputs && tile->x.in_high == inputs;
        for (int32_t c = 0; c < channels; c += LANES) {
            vec d[MOST][MOST], to[MOST][MOST];
            float *vk = v + (c / PANEL * CHUNK_TILES + k) * PANEL + c % PANEL; /* v[0, panel, k, c] */
            if (f == STRIDE_1_LARGE) {
                if (whole)
                    input_transform_large(1, p, tile, in + c, vk, size);
                else
                    input_transform_large(0, p, tile, in + c, vk, size);
                continue;
            }
            if (whole)
                load_tile(1, inputs, p, tile, in + c, d);
            else
                load_tile(0, inputs, p, tile, in + c, d);
            RK_BOTH_AXES(input_transform_1d, f, inputs, transformed, d, to);
            RK_UNROLL
            for (int t = 0; t < transformed * transformed; t++)
                if (!is_copy(TRANSFORMS + f, t / transformed) || !is_copy(TRANSFORMS + f, t % transformed))
                    store(vk + t * size, to[t / transformed][t % transformed]);
        }
    }
}
LOCAL void winograd_input(const plan_t *p, const tile_t *tile, int32_t tiles, const float *in, int32_t channels, float *v)
{
    RK_ANY(input_transform, p->scheme, p, tile, tiles, in, channels, v);
}

/* Store the outputs y of a tile at LANES channels; whole (a constant): all of them are inside the image. */
INLINE void store_tile(const int whole, const int outputs, const plan_t *p, const tile_t *tile, vec y[MOST][MOST], from_t from,
                        const float *bias, float *out)
{
    const int32_t *to = p->to + tile->position, width = whole ? outputs : tile->x.out_high - tile->x.out_low;
    const int32_t top = whole ? 0 : tile->y.out_low, left = whole ? 0 : tile->x.out_low;
    RK_UNROLL
    for (int i = 0; i < outputs; i++) {
        RK_UNROLL
        for (int j = 0; j < outputs; j++) {
            if (!whole && (i < top || i >= tile->y.out_high || j < left || j >= tile->x.out_high)) continue;
            float *here = out + to[(i - top) * width + j - left];
            store(here, y[i][j] + (from == FROM_ZERO ? zero() : load(from == FROM_BIAS ? bias : here)));
        }
    }
}

/* out = initial value + A' m A at `columns` columns of the tiles' positions. */
INLINE void output_transform(const scheme_t f, const plan_t *p, const tile_t *tile, int32_t tiles, const float *m, int32_t columns,
                             from_t from, const float *bias, float *out)
{
    const int sums = TRANSFORMS[f].sums, outputs = TRANSFORMS[f].outputs;
    const ptrdiff_t size = point_stride(columns);
    for (int32_t k = 0; k < tiles; k++, tile++) {
        const int whole = tile->y.out_low == 0 && tile->x.out_low == 0 && tile->y.out_high == outputs &&
                          tile->x.out_high == outputs;
        for (int32_t c = 0; c < columns; c += LANES) {
            const float *mk = m + (c / PANEL * CHUNK_TILES + k) * PANEL + c % PANEL; /* m[0, panel, k, c] */
            vec m_of[MOST][MOST], y[MOST][MOST];
            if (f == STRIDE_1_LARGE) {
                const vec start = from == FROM_BIAS ? load(bias + c) : zero();
                if (whole)
                    output_transform_large(1, p, tile, mk, size, from == FROM_OUT, start, out + c);
                else
                    output_transform_large(0, p, tile, mk, size, from == FROM_OUT, start, out + c);
                continue;
            }
            RK_UNROLL
            for (int t = 0; t < sums * sums; t++) m_of[t / sums][t % sums] = load(mk + t * size);
            RK_BOTH_AXES(output_transform_1d, f, sums, outputs, m_of, y);
            if (whole)
                store_tile(1, outputs, p, tile, y, from, from == FROM_BIAS ? bias + c : NULL, out + c);
            else
                store_tile(0, outputs, p, tile, y, from, from == FROM_BIAS ? bias + c : NULL, out + c);
        }
    }
}
LOCAL void winograd_output(const plan_t *p, const tile_t *tile, int32_t tiles, const float *m, int32_t columns, from_t from,
                           const float *bias, float *out)
{
    RK_ANY(output_transform, p->scheme, p, tile, tiles, m, columns, from, bias, out);
}

/* m = A y_bar A' of the first `columns` columns of y_bar. */
INLINE void output_transform_transpose(const scheme_t f, const plan_t *p, const tile_t *tile, int32_t tiles, const float *y_bar,
                                       int32_t columns, float *m)
{
    const int sums = TRANSFORMS[f].sums, outputs = TRANSFORMS[f].outputs;
    const ptrdiff_t size = point_stride(columns);
    for (int32_t k = 0; k < tiles; k++, tile++) {
        const int32_t *to = p->to + tile->position, width = tile->x.out_high - tile->x.out_low;
        for (int32_t c = 0; c < columns; c += LANES) {
            vec y[MOST][MOST], m_of[MOST][MOST];
            if (f == STRIDE_1_LARGE) {
                output_transform_transpose_large(tile, to, width, y_bar + c,
                                                 m + (c / PANEL * CHUNK_TILES + k) * PANEL + c % PANEL, size);
                continue;
            }
            RK_UNROLL
            for (int t = 0; t < outputs * outputs; t++) {
                const int32_t i = t / outputs - tile->y.out_low, j = t % outputs - tile->x.out_low;
                const int inside = i >= 0 && t / outputs < tile->y.out_high && j >= 0 && t % outputs < tile->x.out_high;
                y[t / outputs][t % outputs] = inside ? load(y_bar + to[i * width + j] + c) : zero();
            }
            RK_BOTH_AXES(output_transform_transpose_1d, f, outputs, sums, y, m_of);
            float *mk = m + (c / PANEL * CHUNK_TILES + k) * PANEL + c % PANEL; /* m[0, panel, k, c] */
            RK_UNROLL
            for (int t = 0; t < sums * sums; t++) store(mk + t * size, m_of[t / sums][t % sums]);
        }
    }
}
LOCAL void winograd_output_transpose(const plan_t *p, const tile_t *tile, int32_t tiles, const float *y_bar, int32_t columns,
                                     float *m)
{
    RK_FORWARD(output_transform_transpose, p->scheme, p, tile, tiles, y_bar, columns, m);
}

/* A chunk of out, up to CHANNELS columns; u (panels, points, channels + 1, PANEL): their transformed filters. */
LOCAL void winograd_chunk(const plan_t *p, const chunk_t *chunk, const float *in, const float *u, int32_t columns, from_t from,
                          const float *bias, float *out)
{
    transformed_t v, m;
    int32_t to[CHUNK_TILES], base[CHUNK_TILES];
    const int32_t channels = p->pixel, tiles = chunk->count, blocks = ceil_div(tiles, ROWS), sums = TRANSFORMS[p->scheme].sums;
    const tile_t *tile = p->tile + chunk->first;
    const class_t *class = p->class + tile->class;
    for (int32_t k = 0; k < tiles; k++) {
        to[k] = k * PANEL;
        base[k] = tile[k].base;
    }
    for (int32_t channel = 0; channel < channels; channel += CHANNELS) {
        const int32_t depth = min_i(CHANNELS, channels - channel);
        winograd_input(p, tile, tiles, in + channel, depth, v);
        for (int32_t s = 0, i = 0; s < sums * sums; s++) {
            run_t run[4 * CHANNELS / PANEL], copy[4]; /* at most two products of each axis add to a sum */
            int runs = 0, copies = 0;
            for (; i < class->products && class->by_sum[i].sum == s; i++) {
                const product_t *product = class->by_sum + i;
                const int32_t k = product->filter * packed_point(channels) + channel;
                if (product->copy >= 0)
                    copy[copies++] = (run_t){product->copy + channel, k, depth};
                else
                    for (int32_t c = 0; c < depth; c += PANEL)
                        run[runs++] = (run_t){(int32_t)(product->input * point_stride(depth)) + c * CHUNK_TILES, k + c, PANEL};
            }
            for (int32_t j = 0; j < columns; j += PANEL) {
                float *mj = m + s * point_stride(columns) + j * CHUNK_TILES; /* m[s, j] */
                const float *uj = u + (ptrdiff_t)j * plan_points(p) * packed_point(channels);
                for (int32_t b = 0, row = 0, end; b < blocks; b++, row = end) {
                    end = piece_start(tiles, b + 1, blocks);
                    if (runs || !copies)
                        gemm(end - row, v, to + row, run, runs, uj, channel ? FROM_OUT : FROM_ZERO, NULL, mj, to + row);
                    if (copies)
                        gemm(end - row, in, base + row, copy, copies, uj, channel || runs ? FROM_OUT : FROM_ZERO, NULL, mj,
                             to + row);
                }
            }
        }
    }
    winograd_output(p, tile, tiles, m, columns, from, bias, out);
}

/* u_bar = the products of tiles from .. last - 1, for the input channels low .. high - 1; add: they are added to u_bar. */
LOCAL void winograd_weight(const plan_t *p, int32_t from, int32_t last, int32_t low, int32_t high, const float *x,
                           const float *y_bar, int32_t out, int add, float *u_bar)
{
    transformed_t v, m;
    uint64_t begun = add ? UINT64_MAX : 0; /* the set of points, of at most 36, that already hold sums */
    /* at most two products of each axis use one filter point */
    int32_t base[CHUNK_TILES], input[4 * CHUNK_TILES], sum[4 * CHUNK_TILES];
    const int32_t channels = p->pixel;
    for (int32_t first = from, end; first < last; first = end) {
        const tile_t *tile = p->tile + first;
        for (end = first; end < last && end - first < CHUNK_TILES; end++) /* of one class */
            if (p->tile[end].class != tile->class) break;
        const int32_t tiles = end - first;
        const class_t *class = p->class + tile->class;
        const uint64_t begun_before = begun;
        for (int32_t k = 0; k < tiles; k++) base[k] = tile[k].base;
        for (int32_t column = 0; column < out; column += CHANNELS) {
            const int32_t columns = min_i(CHANNELS, out - column);
            winograd_output_transpose(p, tile, tiles, y_bar + column, columns, m);
            for (int32_t channel = low; channel < high; channel += CHANNELS) {
                const int32_t depth = min_i(CHANNELS, high - channel);
                winograd_input(p, tile, tiles, x + channel, depth, v);
                for (int32_t next = 0; next < class->products;) { /* all products of a filter point */
                    const product_t *product = class->by_filter + next;
                    const int copies = product->copy >= 0; /* all of them, or none */
                    int n = 0;
                    for (; next < class->products && class->by_filter[next].filter == product->filter; next++) {
                        const product_t *now = class->by_filter + next;
                        const int32_t v_now = (int32_t)(now->input * point_stride(depth));
                        const int32_t m_now = (int32_t)(now->sum * point_stride(columns));
                        RK_INDEPENDENT
                        for (int32_t k = 0; k < tiles; k++) {
                            input[n + k] = copies ? base[k] + now->copy : v_now + k * PANEL;
                            sum[n + k] = m_now + k * PANEL;
                        }
                        n += tiles;
                    }
                    float *sums = u_bar + product->filter * adjoint_point(channels, out) + (ptrdiff_t)channel * out + column;
                    const from_t start = begun_before >> product->filter & 1 ? FROM_OUT : FROM_ZERO;
                    begun |= (uint64_t)1 << product->filter;
                    for (int32_t i = 0; i < depth; i += PANEL) {
                        const float *in = copies ? x + channel + i : v + i * CHUNK_TILES;
                        for (int32_t j = 0; j < columns; j += PANEL)
                            gemm_transpose(PANEL, in, input, m + j * CHUNK_TILES, PANEL, sum, n, start,
                                           sums + (ptrdiff_t)i * out + j, out);
                    }
                }
            }
        }
    }
    for (int32_t point = 0; point < plan_points(p); point++)
        if (!(begun >> point & 1)) /* u_bar[point, low:high, :] */
            memset(u_bar + point * adjoint_point(channels, out) + (ptrdiff_t)low * out, 0, sizeof(float) * (high - low) * out);
}

#endif
