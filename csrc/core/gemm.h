/* The contraction that serves everything heavy, and its transpose.

     contract          out[p, :] = start + sum_runs sum_j  in[base_p + run.in + j] * w[run.k + j, :]
     contract_weight   w_bar[run.k + j, :] += sum_p        in[base_p + run.in + j] * y_bar[p, :]

   Rows p are positions gathered through an index list; a run is a stretch of inputs that is contiguous in memory and
   meets a contiguous stretch of packed weights (the taps of one kernel row are one run).  Convolution forward, its
   input gradient and the dense layer differ only in the plan (plan.h).  A block of up to ROWS positions x PANEL output
   channels stays in registers: per input element one broadcast and two multiply-adds for every row.  */

#ifndef RK_CONTRACT_H
#define RK_CONTRACT_H

#include "core/vec.h"

typedef struct { int32_t in, k, len; } run_t;            /* in: floats from the row's base; k: first weight row; len: how many */
typedef enum { FROM_BIAS, FROM_ZERO, FROM_OUT } start_t; /* what a sum starts from */

/* One block: rows positions (a constant, 1..ROWS) x one panel, for all runs.
   w is the panel (k, PANEL); out rows are at out + to[i]; cols < PANEL only in the last panel of an unpadded out. */
INLINE void contract_rows(const int rows, const float *in, const int32_t *base, const run_t *run, int runs, const float *w,
                          start_t start, const float *bias, float *out, const int32_t *to)
{
    vec sum[ROWS][2];
    RK_UNROLL
    for (int i = 0; i < rows; i++) {
        const float *from = start == FROM_BIAS ? bias : out + to[i];
        sum[i][0] = start == FROM_ZERO ? zero() : load(from);
        sum[i][1] = start == FROM_ZERO ? zero() : load(from + LANES);
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

#define RK_CASE(n) case n: contract_rows(n, in, base, run, runs, w, start, bias, out, to); break;
LOCAL void contract_block(int rows, const float *in, const int32_t *base, const run_t *run, int runs, const float *w,
                          start_t start, const float *bias, float *out, const int32_t *to)
{
    switch (rows) {
        RK_CASE(1) RK_CASE(2) RK_CASE(3) RK_CASE(4) RK_CASE(5) RK_CASE(6)
#if RK_ROWS > 6
        RK_CASE(7) RK_CASE(8) RK_CASE(9) RK_CASE(10) RK_CASE(11) RK_CASE(12)
#endif
    }
}
#undef RK_CASE

/* The transpose for one block: rows weight rows (a constant) x one panel, summed over n positions.
   x is at the inputs of the first of these weight rows, position p's at x + base[p]; y_bar's rows are at to[p];
   row i of the sums is at sums + i stride. */
INLINE void contract_weight_rows(const int rows, const float *x, const int32_t *base, const float *y_bar, const int32_t *to, int n,
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

#define RK_CASE(r) \
    case r: \
        for (int32_t j = 0; j < columns; j += PANEL) contract_weight_rows(r, x, base, y_bar + j, to, n, sums + j, stride); \
        break;
LOCAL void contract_weight_block(int rows, const float *x, const int32_t *base, const float *y_bar, int32_t columns,
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

/* w_bar[0..width) += the products of n positions, in even blocks of weight rows: x at the first row's inputs, position
   p's at x + base[p], y_bar's rows at to[p]; rows of w_bar are `stride` apart. */
LOCAL void weight_rows(int32_t width, const float *x, const int32_t *base, const float *y_bar, int32_t columns, const int32_t *to,
                       int32_t n, float *w_bar, ptrdiff_t stride)
{
    const int32_t blocks = ceil_div(width, ROWS);
    for (int32_t b = 0, from = 0, end; b < blocks; b++, from = end) {
        end = width * (b + 1) / blocks;
        contract_weight_block(end - from, x + from, base, y_bar, columns, to, n, w_bar + from * stride, stride);
    }
}

#endif
