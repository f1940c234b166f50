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

/* The micro-kernel: `rows` positions (1..ROWS) x `vecs` registers of columns (1 or 2), both constants, over all runs.
   in: base[i] + run.in + j are offsets into it.  w: its rows are `stride` floats apart.  bias: PANEL floats if FROM_BIAS.
   out: row i is at out + to[i]. */
INLINE void gemm_kernel(const int rows, const int vecs, const float *in, const int32_t *base, const run_t *run, int runs,
                        const float *w, ptrdiff_t stride, from_t from, const float *bias, float *out, const int32_t *to)
{
    vec sum[ROWS][2];
    RK_UNROLL
    for (int i = 0; i < rows; i++) {
        const float *initial = from == FROM_BIAS ? bias : out + to[i];
        RK_UNROLL
        for (int h = 0; h < vecs; h++) sum[i][h] = from == FROM_ZERO ? zero() : load(initial + h * LANES);
    }
    const float *x[ROWS];
    RK_UNROLL
    for (int i = 0; i < rows; i++) x[i] = in + base[i];
    for (int r = 0; r < runs; r++) {
        const float *wk = w + run[r].k * stride; /* w[run.k, :] */
        const ptrdiff_t end = (ptrdiff_t)run[r].in + run[r].len;
#pragma GCC unroll 2
        for (ptrdiff_t j = run[r].in; j < end; j++, wk += stride) {
            vec row[2];
            RK_UNROLL
            for (int h = 0; h < vecs; h++) row[h] = load(wk + h * LANES);
            RK_UNROLL
            for (int i = 0; i < rows; i++) {
                const vec xi = splat(x[i][j]); /* in[base_i + j] */
                RK_UNROLL
                for (int h = 0; h < vecs; h++) sum[i][h] += xi * row[h];
            }
        }
    }
    RK_UNROLL
    for (int i = 0; i < rows; i++) {
        RK_UNROLL
        for (int h = 0; h < vecs; h++) store(out + to[i] + h * LANES, sum[i][h]);
    }
}

_Static_assert(RK_ROWS == 6 || RK_ROWS == 12, "RK_CASES has one case for each number of rows");
#if RK_ROWS > 6
#define RK_CASES(C) C(1) C(2) C(3) C(4) C(5) C(6) C(7) C(8) C(9) C(10) C(11) C(12)
#else
#define RK_CASES(C) C(1) C(2) C(3) C(4) C(5) C(6)
#endif

/* One panel of packed weights w (k, PANEL); `rows` known at run time only. */
LOCAL void gemm(int rows, const float *in, const int32_t *base, const run_t *run, int runs, const float *w, from_t from,
                const float *bias, float *out, const int32_t *to)
{
#define RK_CASE(n) case n: gemm_kernel(n, 2, in, base, run, runs, w, PANEL, from, bias, out, to); break;
    switch (rows) { RK_CASES(RK_CASE) }
#undef RK_CASE
}

/* One run of `depth` inputs, weight rows `stride` floats apart: for dense layers.  wide: a whole panel, else LANES columns. */
LOCAL void gemm_dense(int rows, int wide, const float *in, const int32_t *base, int32_t depth, const float *w, ptrdiff_t stride,
                      from_t from, const float *bias, float *out, const int32_t *to)
{
    const run_t run = {0, 0, depth};
#define RK_CASE(n)                                                                                 \
    case n:                                                                                        \
        if (wide)                                                                                  \
            gemm_kernel(n, 2, in, base, &run, 1, w, stride, from, bias, out, to);                  \
        else                                                                                       \
            gemm_kernel(n, 1, in, base, &run, 1, w, stride, from, bias, out, to);                  \
        break;
    switch (rows) { RK_CASES(RK_CASE) }
#undef RK_CASE
}

/* The transpose's micro-kernel: `rows` weight rows (1..ROWS) x `vecs` registers of columns, summed over n positions.
   x: the input that meets weight row i at position p is x[base[p] + i].  y_bar: position p's row is at y_bar + to[p].
   sums: row i is at sums + i stride; the sums start from it, or from zero. */
INLINE void gemm_transpose_kernel(const int rows, const int vecs, const float *x, const int32_t *base, const float *y_bar,
                                  const int32_t *to, int n, from_t from, float *sums, ptrdiff_t stride)
{
    vec sum[ROWS][2];
    RK_UNROLL
    for (int i = 0; i < rows; i++) {
        RK_UNROLL
        for (int h = 0; h < vecs; h++) sum[i][h] = from == FROM_ZERO ? zero() : load(sums + i * stride + h * LANES);
    }
#pragma GCC unroll 2
    for (int p = 0; p < n; p++) {
        const float *xp = x + base[p], *y = y_bar + to[p]; /* x[p, :], y_bar[p, :] */
        vec row[2];
        RK_UNROLL
        for (int h = 0; h < vecs; h++) row[h] = load(y + h * LANES);
        RK_UNROLL
        for (int i = 0; i < rows; i++) {
            const vec xi = splat(xp[i]);
            RK_UNROLL
            for (int h = 0; h < vecs; h++) sum[i][h] += xi * row[h];
        }
    }
    RK_UNROLL
    for (int i = 0; i < rows; i++) {
        RK_UNROLL
        for (int h = 0; h < vecs; h++) store(sums + i * stride + h * LANES, sum[i][h]);
    }
}

/* The same for `columns` columns (a multiple of LANES), `rows` known at run time only. */
LOCAL void gemm_transpose_panels(int rows, const float *x, const int32_t *base, const float *y_bar, int32_t columns,
                                 const int32_t *to, int n, from_t from, float *sums, ptrdiff_t stride)
{
    const int32_t whole = columns / PANEL * PANEL;
#define RK_CASE(r)                                                                                                       \
    case r:                                                                                                              \
        for (int32_t j = 0; j < whole; j += PANEL)                                                                       \
            gemm_transpose_kernel(r, 2, x, base, y_bar + j, to, n, from, sums + j, stride);                              \
        if (whole < columns) gemm_transpose_kernel(r, 1, x, base, y_bar + whole, to, n, from, sums + whole, stride);     \
        break;
    switch (rows) { RK_CASES(RK_CASE) }
#undef RK_CASE
}

/* The products of n positions for `width` weight rows, cut evenly into at most ROWS at a time; arguments as above, w_bar's rows
   `stride` floats apart. */
LOCAL void gemm_transpose(int32_t width, const float *x, const int32_t *base, const float *y_bar, int32_t columns,
                          const int32_t *to, int32_t n, from_t from, float *w_bar, ptrdiff_t stride)
{
    const int32_t pieces = ceil_div(width, ROWS);
    for (int32_t b = 0, row = 0, end; b < pieces; b++, row = end) {
        end = piece_start(width, b + 1, pieces);
        gemm_transpose_panels(end - row, x + row, base, y_bar, columns, to, n, from, w_bar + row * stride, stride);
    }
}

#endif
