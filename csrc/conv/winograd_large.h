/* The transforms of one tile of 4 x 4 outputs (STRIDE_1_LARGE).

   Its 36 vectors do not fit the registers, so the loops over rows and columns stay loops: a row is transformed and stored half
   way, then each column is.  V and M as in winograd.h, their points `size` floats apart.  */

#ifndef RK_WINOGRAD_LARGE_H
#define RK_WINOGRAD_LARGE_H

#include "conv/winograd_plan.h"

/* v = B' d B of a tile at LANES channels by STRIDE_1_LARGE, to v[t], t `size` floats apart. */
INLINE void input_transform_large(const int whole, const plan_t *p, const tile_t *tile, const float *in, float *v, ptrdiff_t size)
{
    enum { N = 6 };
    vec half_way[N][N];
    RK_ROLLED
    for (int i = 0; i < N; i++) {
        const float *line = in + ((ptrdiff_t)tile->base + i * p->line);
        const int outside = !whole && (i < tile->y.in_low || i >= tile->y.in_high);
        vec d[N];
        RK_UNROLL
        for (int j = 0; j < N; j++) {
            const int inside = whole || (!outside && j >= tile->x.in_low && j < tile->x.in_high);
            d[j] = inside ? load(line + j * p->pixel) : zero();
        }
        input_transform_1d(STRIDE_1_LARGE, d, half_way[i]);
    }
    RK_ROLLED
    for (int j = 0; j < N; j++) {
        vec column[N], to[N];
        RK_UNROLL
        for (int i = 0; i < N; i++) column[i] = half_way[i][j];
        input_transform_1d(STRIDE_1_LARGE, column, to);
        RK_UNROLL
        for (int i = 0; i < N; i++) store(v + (i * N + j) * size, to[i]);
    }
}

/* out = start + A' m A of a tile at LANES columns by STRIDE_1_LARGE, from m[t], t `size` floats apart; with FROM_OUT out in place
   of start. */
INLINE void output_transform_large(const int whole, const plan_t *p, const tile_t *tile, const float *m, ptrdiff_t size,
                                   int from_out, vec start, float *out)
{
    enum { N = 6, OUT = 4 };
    const int32_t low = whole ? 0 : tile->x.out_low, high = whole ? OUT : tile->x.out_high;
    const int32_t *to = p->to + tile->position;
    vec half_way[OUT][N];
    RK_ROLLED
    for (int j = 0; j < N; j++) {
        vec column[N], sums[OUT];
        RK_UNROLL
        for (int i = 0; i < N; i++) column[i] = load(m + (i * N + j) * size);
        output_transform_1d(STRIDE_1_LARGE, column, sums);
        RK_UNROLL
        for (int i = 0; i < OUT; i++) half_way[i][j] = sums[i];
    }
    RK_ROLLED
    for (int i = tile->y.out_low; i < tile->y.out_high; i++, to += high - low) {
        vec y[OUT];
        output_transform_1d(STRIDE_1_LARGE, half_way[i], y);
        RK_UNROLL
        for (int j = 0; j < OUT; j++) {
            if (!whole && (j < low || j >= high)) continue;
            float *here = out + to[j - low];
            store(here, y[j] + (from_out ? load(here) : start));
        }
    }
}

/* m = A y_bar A' of a tile at LANES columns by STRIDE_1_LARGE, to m[t], t `size` floats apart. */
INLINE void output_transform_transpose_large(const tile_t *tile, const int32_t *to, int32_t width, const float *y_bar, float *m,
                                             ptrdiff_t size)
{
    vec half_way[4][6];
    RK_ROLLED
    for (int i = 0; i < 4; i++) {
        const int outside = i < tile->y.out_low || i >= tile->y.out_high;
        const int32_t *line = to + (i - tile->y.out_low) * width - tile->x.out_low;
        vec y[4];
        RK_UNROLL
        for (int j = 0; j < 4; j++)
            y[j] = !outside && j >= tile->x.out_low && j < tile->x.out_high ? load(y_bar + line[j]) : zero();
        output_transform_transpose_1d(STRIDE_1_LARGE, y, half_way[i]);
    }
    RK_ROLLED
    for (int j = 0; j < 6; j++) {
        vec column[4], column_to[6];
        RK_UNROLL
        for (int i = 0; i < 4; i++) column[i] = half_way[i][j];
        output_transform_transpose_1d(STRIDE_1_LARGE, column, column_to);
        RK_UNROLL
        for (int i = 0; i < 6; i++) store(m + (i * 6 + j) * size, column_to[i]);
    }
}

#endif
