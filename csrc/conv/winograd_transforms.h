/* Minimal filtering of three taps along one axis (Winograd 1980), and of 3 x 3 taps along both.

   A patch of a few sources d makes a few destinations y, with fewer products than one per tap:

     v = B' d     values: sums and differences of sources
     u = G w      four weights, made from the three taps
     m            sums of products v u: products that always go together are one sum
     y = A' m

   STRIDE_1, Lavin & Gray's F(2, 3) (2016): 4 products for 2 outputs of 3 taps, in two dimensions 16 instead of 36.

     v0 = d0 - d2   v1 = d1 + d2   v2 = d2 - d1   v3 = d1 - d3        y0 = v0 u0 + v1 u1 + v2 u2
     u0 = w0   u1, u2 = (w0 +- w1 + w2) / 2   u3 = w2                 y1 = v1 u1 - v2 u2 - v3 u3

   STRIDE_2: neighbours share a source, d2; 5 products instead of 6, in two dimensions 25 instead of 36.

     v0 = d0 - d2   v1 = d2   v2 = d4 - d2   v3 = d1   v4 = d3        y0 = (v0 u0 + v3 u3) + v1 u1
     u0 = w0   u1 = w0 + w2   u2 = w2   u3 = w1                       y1 = (v2 u2 + v4 u3) + v1 u1

   STRIDE_2_BACK, its input adjoint: of 4 inputs the first and the third share an output adjoint, d1.  The taps come in
   packed order (plan.h), which is w2, w0, w1; so u0 and u2 change places.

     v0 = d0 - d1   v1 = d1   v2 = d2 - d1   v3 = d2                  y0 = v0 w2 + v1 (w0 + w2)   y1 = v1 w1
                                                                     y2 = v2 w0 + v1 (w0 + w2)   y3 = v3 w1

   Every coefficient is 0, 1/2 or 1 but for its sign: small integers stay exact, and rounding grows by a small factor only,
   which the tests derive (tests/nn/native/test_winograd.py).  */

#ifndef RK_FILTER_H
#define RK_FILTER_H

#include "core/vec.h"

typedef enum { STRIDE_1, STRIDE_2, STRIDE_2_BACK } filtering_t;
enum { WEIGHTS = 4, MOST = 5, PLACES = WEIGHTS * WEIGHTS }; /* weights of an axis; products at most; weights of both axes */

/* Of product i: its value, its weight, the sum it belongs to, the destinations it goes to; of value i: the sources it reads.
   Destinations and sources are sets, a bit each: 5 is the first and the third. */
typedef struct {
    int32_t reads, values, products, sums, makes;
    int32_t value[MOST], weight[MOST], sum[MOST], made[MOST], read[MOST];
} filter_t;

static const filter_t FILTERS[] = {
    [STRIDE_1] = {.reads = 4, .values = 4, .products = 4, .sums = 4, .makes = 2,
                  .value = {0, 1, 2, 3}, .weight = {0, 1, 2, 3}, .sum = {0, 1, 2, 3},
                  .made = {1, 3, 3, 2}, .read = {5, 6, 6, 10}},
    [STRIDE_2] = {.reads = 5, .values = 5, .products = 5, .sums = 3, .makes = 2,
                  .value = {0, 1, 2, 3, 4}, .weight = {0, 1, 2, 3, 3}, .sum = {0, 1, 2, 0, 2},
                  .made = {1, 3, 2, 1, 2}, .read = {5, 4, 20, 2, 8}},
    [STRIDE_2_BACK] = {.reads = 3, .values = 4, .products = 5, .sums = 5, .makes = 4,
                       .value = {0, 1, 2, 1, 3}, .weight = {0, 1, 2, 3, 3}, .sum = {0, 1, 2, 3, 4},
                       .made = {1, 5, 4, 2, 8}, .read = {3, 2, 6, 4}},
};

/* Whether a value is one source as it stands: then nothing need be written down for it. */
INLINE int is_copy(const filter_t *f, int32_t value) { return (f->read[value] & (f->read[value] - 1)) == 0; }
INLINE int32_t copied_source(const filter_t *f, int32_t value) { return __builtin_ctz((unsigned)f->read[value]); }

INLINE void value_line(const filtering_t f, const vec *d, vec *v) /* v = B' d */
{
    if (f == STRIDE_1) {
        v[0] = d[0] - d[2];
        v[1] = d[1] + d[2];
        v[2] = d[2] - d[1];
        v[3] = d[1] - d[3];
    } else if (f == STRIDE_2) {
        v[0] = d[0] - d[2];
        v[1] = d[2];
        v[2] = d[4] - d[2];
        v[3] = d[1];
        v[4] = d[3];
    } else {
        v[0] = d[0] - d[1];
        v[1] = d[1];
        v[2] = d[2] - d[1];
        v[3] = d[2];
    }
}
INLINE void weight_line(const filtering_t f, const vec *w, vec *u) /* u = G w */
{
    const vec half = splat(0.5f);
    if (f == STRIDE_1) {
        const vec ends = half * (w[0] + w[2]), middle = half * w[1];
        u[0] = w[0];
        u[1] = ends + middle;
        u[2] = ends - middle;
        u[3] = w[2];
    } else {
        const int last = f == STRIDE_2 ? 2 : 1; /* in packed order */
        u[0] = w[0];
        u[1] = w[0] + w[last];
        u[2] = w[last];
        u[3] = w[3 - last];
    }
}
INLINE void weight_line_back(const filtering_t f, const vec *u, vec *w) /* w = G' u, forward only */
{
    const vec half = splat(0.5f), shared = f == STRIDE_1 ? half * (u[1] + u[2]) : u[1];
    w[0] = u[0] + shared;
    w[1] = f == STRIDE_1 ? half * (u[1] - u[2]) : u[3];
    w[2] = (f == STRIDE_1 ? u[3] : u[2]) + shared;
}
INLINE void made_line(const filtering_t f, const vec *m, vec *y) /* y = A' m */
{
    if (f == STRIDE_1) {
        y[0] = m[0] + m[1] + m[2];
        y[1] = m[1] - m[2] - m[3];
    } else if (f == STRIDE_2) {
        y[0] = m[0] + m[1];
        y[1] = m[2] + m[1];
    } else {
        y[0] = m[0] + m[1];
        y[1] = m[3];
        y[2] = m[2] + m[1];
        y[3] = m[4];
    }
}
INLINE void made_line_back(const filtering_t f, const vec *y, vec *m) /* m = A y, forward only */
{
    m[0] = y[0];
    m[1] = y[0] + y[1];
    m[2] = f == STRIDE_1 ? y[0] - y[1] : y[1];
    if (f == STRIDE_1) m[3] = zero() - y[1];
}

/* to (n, n) = T from T', where line() multiplies m numbers by T (n, m). */
#define RK_BOTH_AXES(line, f, m, n, from, to)                             \
    do {                                                                  \
        vec half_way[MOST][MOST];                                         \
        RK_UNROLL                                                         \
        for (int i = 0; i < m; i++) line(f, (from)[i], half_way[i]);      \
        RK_UNROLL                                                         \
        for (int j = 0; j < n; j++) {                                     \
            vec column[MOST], column_to[MOST];                            \
            RK_UNROLL                                                     \
            for (int i = 0; i < m; i++) column[i] = half_way[i][j];       \
            line(f, column, column_to);                                   \
            RK_UNROLL                                                     \
            for (int i = 0; i < n; i++) (to)[i][j] = column_to[i];        \
        }                                                                 \
    } while (0)

/* u[place, :size] = G w G' of w[tap, :size]; taps are `size` floats apart, places `distance`. */
INLINE void filter_weights(const filtering_t f, const float *w, ptrdiff_t size, float *u, ptrdiff_t distance)
{
    for (ptrdiff_t at = 0; at < size; at += LANES) {
        vec from[3][3], to[MOST][MOST];
        for (int t = 0; t < 9; t++) from[t / 3][t % 3] = load(w + t * size + at);
        RK_BOTH_AXES(weight_line, f, 3, WEIGHTS, from, to);
        for (int t = 0; t < PLACES; t++) store(u + t * distance + at, to[t / WEIGHTS][t % WEIGHTS]);
    }
}

/* LANES elements of w_bar (3, 3, size) = G' u_bar G. */
INLINE void filter_weights_back(const filtering_t f, vec u_bar[WEIGHTS][WEIGHTS], float *w_bar, ptrdiff_t size)
{
    vec to[MOST][MOST];
    RK_BOTH_AXES(weight_line_back, f, WEIGHTS, 3, u_bar, to);
    for (int t = 0; t < 9; t++) store(w_bar + t * size, to[t / 3][t % 3]);
}

#endif
