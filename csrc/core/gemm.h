/* The product that serves every convolution and dense layer, and its transpose.

     gemm             out[p, :] = start + sum_runs sum_j  in[base_p + run.in + j] w[run.k + j, :]
     gemm_transpose   w_bar[run.k + j, :] += sum_p        in[base_p + run.in + j] y_bar[p, :]

   Rows p are output positions.  Their inputs are gathered: base_p comes from an index list, so no im2col buffer is written.
   A run is a range of inputs that is contiguous in memory and meets a contiguous range of packed weights (the taps of one
   kernel row are one run).  Forward convolution, input adjoint and dense layer differ only in their plan (conv/plan.h).

   The micro-kernel holds up to ROWS positions x one panel (PANEL output channels) of sums in registers: for each input
   element one broadcast, and two multiply-adds per row.  */

#ifndef RK_GEMM_H
#define RK_GEMM_H

#include "core/vec.h"

typedef struct { int32_t in, k, len; } run_t;           /* in: floats from base_p; k: first weight row; len: length */
typedef enum { FROM_BIAS, FROM_ZERO, FROM_OUT } from_t; /* the initial value of the sums */

/* The micro-kernel: `rows` positions (a constant, 1..ROWS) x one panel, over all runs.
   in: base[i] + run.in + j are offsets into it.  w (k, PANEL): one panel of packed weights.  bias (PANEL,) if FROM_BIAS.
   out: row i is at out + to[i], PANEL floats. */
INLINE void gemm_kernel(const int rows, const float *in, const int32_t *base, const run_t *run, int runs, const float *w,
                        from_t from, const float *bias, float *out, const int32_t *to)
{
    vec sum[ROWS][2];
    RK_UNROLL
    for (int i = 0; i < rows; i++) {
        const float *initial = from == FROM_BIAS ? bias : out + to[i];
        sum[i][0] = from == FROM_ZERO ? zero() : load(initial);
        sum[i][1] = from == FROM_ZERO ? zero() : load(initial + LANES);
    }
    const float *x[ROWS];
    RK_UNROLL
    for (int i = 0; i < rows; i++) x[i] = in + base[i];
    for (int r = 0; r < runs; r++) {
        const float *wk = w + (ptrdiff_t)run[r].k * PANEL; /* w[run.k, :] */
        const ptrdiff_t end = (ptrdiff_t)run[r].in + run[r].len;
#pragma GCC unroll 2
        for (ptrdiff_t j = run[r].in; j < end; j++, wk += PANEL) {
            const vec w0 = load(wk), w1 = load(wk + LANES);
            RK_UNROLL
            for (int i = 0; i < rows; i++) {
                const vec xi = splat(x[i][j]); /* in[base_i + j] */
                sum[i][0] += xi * w0;
                sum[i][1] += xi * w1;
            }
        }
    }
    RK_UNROLL
    for (int i = 0; i < rows; i++) {
        store(out + to[i], sum[i][0]);
        store(out + to[i] + LANES, sum[i][1]);
    }
}

/* The same with `rows` known at run time only. */
#define RK_CASE(n) case n: gemm_kernel(n, in, base, run, runs, w, from, bias, out, to); break;
LOCAL void gemm(int rows, const float *in, const int32_t *base, const run_t *run, int runs, const float *w,
                from_t from, const float *bias, float *out, const int32_t *to)
{
    switch (rows) {
        RK_CASE(1) RK_CASE(2) RK_CASE(3) RK_CASE(4) RK_CASE(5) RK_CASE(6)
#if RK_ROWS > 6
        RK_CASE(7) RK_CASE(8) RK_CASE(9) RK_CASE(10) RK_CASE(11) RK_CASE(12)
#endif
    }
}
#undef RK_CASE

/* The transpose's micro-kernel: `rows` weight rows (a constant, 1..ROWS) x one panel, summed over n positions.
   x: the input that meets weight row i at position p is x[base[p] + i].  y_bar: position p's row is at y_bar + to[p].
   sums: row i is at sums + i stride, PANEL floats, added to. */
INLINE void gemm_transpose_kernel(const int rows, const float *x, const int32_t *base, const float *y_bar, const int32_t *to, int n,
                                 float *sums, ptrdiff_t stride)
{
    vec sum[ROWS][2];
    RK_UNROLL
    for (int i = 0; i < rows; i++) {
        sum[i][0] = load(sums + i * stride);
        sum[i][1] = load(sums + i * stride + LANES);
    }
#pragma GCC unroll 2
    for (int p = 0; p < n; p++) {
        const float *xp = x + base[p], *y = y_bar + to[p]; /* x[p, :], y_bar[p, :] */
        const vec y0 = load(y), y1 = load(y + LANES);
        RK_UNROLL
        for (int i = 0; i < rows; i++) {
            const vec xi = splat(xp[i]);
            sum[i][0] += xi * y0;
            sum[i][1] += xi * y1;
        }
    }
    RK_UNROLL
    for (int i = 0; i < rows; i++) {
        store(sums + i * stride, sum[i][0]);
        store(sums + i * stride + LANES, sum[i][1]);
    }
}

/* The same for `columns` columns of y_bar and of the sums, `rows` known at run time only. */
#define RK_CASE(r) \
    case r: \
        for (int32_t j = 0; j < columns; j += PANEL) gemm_transpose_kernel(r, x, base, y_bar + j, to, n, sums + j, stride); \
        break;
LOCAL void gemm_transpose_panels(int rows, const float *x, const int32_t *base, const float *y_bar, int32_t columns,
                                 const int32_t *to, int n, float *sums, ptrdiff_t stride)
{
    switch (rows) {
        RK_CASE(1) RK_CASE(2) RK_CASE(3) RK_CASE(4) RK_CASE(5) RK_CASE(6)
#if RK_ROWS > 6
        RK_CASE(7) RK_CASE(8) RK_CASE(9) RK_CASE(10) RK_CASE(11) RK_CASE(12)
#endif
    }
}
#undef RK_CASE

/* Add the products of n positions to `width` weight rows, cut evenly into at most ROWS at a time; arguments as above, w_bar's
   rows `stride` floats apart. */
LOCAL void gemm_transpose(int32_t width, const float *x, const int32_t *base, const float *y_bar, int32_t columns,
                          const int32_t *to, int32_t n, float *w_bar, ptrdiff_t stride)
{
    const int32_t blocks = ceil_div(width, ROWS);
    for (int32_t b = 0, row = 0, end; b < blocks; b++, row = end) {
        end = width * (b + 1) / blocks;
        gemm_transpose_panels(end - row, x + row, base, y_bar, columns, to, n, w_bar + row * stride, stride);
    }
}

#endif
