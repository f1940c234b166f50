/* Minimal filtering of three taps along one axis (Winograd 1980), and of 3 x 3 taps along both.

   An input tile d makes an output tile y with fewer products than one per tap:

     v = B' d     transformed input
     u = G w      transformed filter: four or six numbers made from the three taps
     m            sums of products v u: products that are always added together share one sum
     y = A' m     output transform

   STRIDE_1, F(2, 3) of Lavin & Gray (2016): 4 products for 2 outputs of 3 taps, in two dimensions 16 instead of 36.

     v0 = d0 - d2   v1 = d1 + d2   v2 = d2 - d1   v3 = d1 - d3        y0 = v0 u0 + v1 u1 + v2 u2
     u0 = w0   u1, u2 = (w0 +- w1 + w2) / 2   u3 = w2                 y1 = v1 u1 - v2 u2 - v3 u3

   STRIDE_2: neighbouring outputs share the input d2; 5 products instead of 6, in two dimensions 25 instead of 36.

     v0 = d0 - d2   v1 = d2   v2 = d4 - d2   v3 = d1   v4 = d3        y0 = (v0 u0 + v3 u3) + v1 u1
     u0 = w0   u1 = w0 + w2   u2 = w2   u3 = w1                       y1 = (v2 u2 + v4 u3) + v1 u1

   STRIDE_2_ADJOINT, its input adjoint: among 4 destinations the first and the third share a source, d1.  The taps come in
   the adjoint's order (axis.h), which is w2, w0, w1; so u0 and u2 are exchanged.

     v0 = d0 - d1   v1 = d1   v2 = d2 - d1   v3 = d2                  y0 = v0 w2 + v1 (w0 + w2)   y1 = v1 w1
                                                                     y2 = v2 w0 + v1 (w0 + w2)   y3 = v3 w1

   STRIDE_1_LARGE, F(4, 3): 6 products for 4 outputs of 3 taps, in two dimensions 36 instead of 144.  Its interpolation points
   are 0, +-a, +-b and infinity, with a = 3/4, b = 3/2 instead of the usual 1 and 2: the largest rounding error is then a quarter,
   the rms error half.

     v0 = d4 - (a2 + b2) d2 + a2 b2 d0     v1, v2 = (d4 - b2 d2) +- a (d3 - b2 d1)      with a2 = a a, b2 = b b
     v5 = d5 - (a2 + b2) d3 + a2 b2 d1     v3, v4 = (d4 - a2 d2) +- b (d3 - a2 d1)
     u0 = w0 / (a2 b2)   u5 = w2           u1, u2 = (w0 +- a w1 + a2 w2) / (2 a2 (a2 - b2))      u3, u4: a and b exchanged
     yk = v0 u0 [k = 0] + a^k (v1 u1 + (-1)^k v2 u2) + b^k (v3 u3 + (-1)^k v4 u4) + v5 u5 [k = 3]

   The coefficients of the first three are 0, 1/2 or 1 but for their sign: small integers stay exact.  Those of STRIDE_1_LARGE are
   not, so only networks use it.  tests/nn/native/test_winograd.py derives the rounding of all.  */

#ifndef RK_WINOGRAD_TRANSFORMS_H
#define RK_WINOGRAD_TRANSFORMS_H

#include "core/vec.h"

typedef enum { STRIDE_1, STRIDE_1_LARGE, STRIDE_2, STRIDE_2_ADJOINT } scheme_t;
enum { MOST = 6 }; /* products along one axis at most; length of d, v, u, m and y at most */

/* A scheme along one axis: the lengths of d, v, u, m and y, and its products.
   Product i is v[input[i]] u[filter[i]], added into m[sum[i]].
   feeds[i]: the outputs that product i reaches; reads[j]: the inputs that v[j] is made from.  Both are sets, one bit for
   each member: 5 is the first and the third. */
typedef struct {
    int32_t inputs, transformed, points, products, sums, outputs;
    int32_t input[MOST], filter[MOST], sum[MOST], feeds[MOST], reads[MOST];
} transforms_t;

static const transforms_t TRANSFORMS[] = {
    [STRIDE_1] = {.inputs = 4, .transformed = 4, .points = 4, .products = 4, .sums = 4, .outputs = 2,
                  .input = {0, 1, 2, 3}, .filter = {0, 1, 2, 3}, .sum = {0, 1, 2, 3},
                  .feeds = {1, 3, 3, 2}, .reads = {5, 6, 6, 10}},
    [STRIDE_1_LARGE] = {.inputs = 6, .transformed = 6, .points = 6, .products = 6, .sums = 6, .outputs = 4,
                        .input = {0, 1, 2, 3, 4, 5}, .filter = {0, 1, 2, 3, 4, 5}, .sum = {0, 1, 2, 3, 4, 5},
                        .feeds = {1, 15, 15, 15, 15, 8}, .reads = {21, 30, 30, 30, 30, 42}},
    [STRIDE_2] = {.inputs = 5, .transformed = 5, .points = 4, .products = 5, .sums = 3, .outputs = 2,
                  .input = {0, 1, 2, 3, 4}, .filter = {0, 1, 2, 3, 3}, .sum = {0, 1, 2, 0, 2},
                  .feeds = {1, 3, 2, 1, 2}, .reads = {5, 4, 20, 2, 8}},
    [STRIDE_2_ADJOINT] = {.inputs = 3, .transformed = 4, .points = 4, .products = 5, .sums = 5, .outputs = 4,
                          .input = {0, 1, 2, 1, 3}, .filter = {0, 1, 2, 3, 3}, .sum = {0, 1, 2, 3, 4},
                          .feeds = {1, 5, 4, 2, 8}, .reads = {3, 2, 6, 4}},
};

/* Whether v[j] is one input unchanged, and which: the product then reads the input itself, and v[j] is not stored. */
INLINE int is_copy(const transforms_t *f, int32_t j) { return (f->reads[j] & (f->reads[j] - 1)) == 0; }
INLINE int32_t copied_input(const transforms_t *f, int32_t j) { return __builtin_ctz((unsigned)f->reads[j]); }

/* STRIDE_1_LARGE: its points, their squares, and the factors of G. */
#define POINT_A 0.75f
#define POINT_B 1.5f
#define SQUARE_A (POINT_A * POINT_A)
#define SQUARE_B (POINT_B * POINT_B)
#define G_0 (float)(1.0 / (SQUARE_A * SQUARE_B))
#define G_A (float)(1.0 / (2.0 * SQUARE_A * (SQUARE_A - SQUARE_B)))
#define G_B (float)(1.0 / (2.0 * SQUARE_B * (SQUARE_B - SQUARE_A)))

INLINE void input_transform_1d(const scheme_t f, const vec *d, vec *v) /* v = B' d */
{
    if (f == STRIDE_1) {
        v[0] = d[0] - d[2];
        v[1] = d[1] + d[2];
        v[2] = d[2] - d[1];
        v[3] = d[1] - d[3];
    } else if (f == STRIDE_1_LARGE) {
        const vec even_a = d[4] - splat(SQUARE_B) * d[2], odd_a = d[3] - splat(SQUARE_B) * d[1];
        const vec even_b = d[4] - splat(SQUARE_A) * d[2], odd_b = d[3] - splat(SQUARE_A) * d[1];
        v[0] = d[4] - splat(SQUARE_A + SQUARE_B) * d[2] + splat(SQUARE_A * SQUARE_B) * d[0];
        v[1] = even_a + splat(POINT_A) * odd_a;
        v[2] = even_a - splat(POINT_A) * odd_a;
        v[3] = even_b + splat(POINT_B) * odd_b;
        v[4] = even_b - splat(POINT_B) * odd_b;
        v[5] = d[5] - splat(SQUARE_A + SQUARE_B) * d[3] + splat(SQUARE_A * SQUARE_B) * d[1];
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
INLINE void filter_transform_1d(const scheme_t f, const vec *w, vec *u) /* u = G w */
{
    const vec half = splat(0.5f);
    if (f == STRIDE_1) {
        const vec ends = half * (w[0] + w[2]), middle = half * w[1];
        u[0] = w[0];
        u[1] = ends + middle;
        u[2] = ends - middle;
        u[3] = w[2];
    } else if (f == STRIDE_1_LARGE) {
        const vec ends_a = splat(G_A) * w[0] + splat(G_A * SQUARE_A) * w[2], middle_a = splat(G_A * POINT_A) * w[1];
        const vec ends_b = splat(G_B) * w[0] + splat(G_B * SQUARE_B) * w[2], middle_b = splat(G_B * POINT_B) * w[1];
        u[0] = splat(G_0) * w[0];
        u[1] = ends_a + middle_a;
        u[2] = ends_a - middle_a;
        u[3] = ends_b + middle_b;
        u[4] = ends_b - middle_b;
        u[5] = w[2];
    } else {
        const int last = f == STRIDE_2 ? 2 : 1; /* in the adjoint's order of taps */
        u[0] = w[0];
        u[1] = w[0] + w[last];
        u[2] = w[last];
        u[3] = w[3 - last];
    }
}
INLINE void filter_transform_transpose_1d(const scheme_t f, const vec *u, vec *w) /* w = G' u; forward schemes only */
{
    if (f == STRIDE_1_LARGE) {
        const vec even_a = u[1] + u[2], odd_a = u[1] - u[2], even_b = u[3] + u[4], odd_b = u[3] - u[4];
        w[0] = splat(G_0) * u[0] + splat(G_A) * even_a + splat(G_B) * even_b;
        w[1] = splat(G_A * POINT_A) * odd_a + splat(G_B * POINT_B) * odd_b;
        w[2] = splat(G_A * SQUARE_A) * even_a + splat(G_B * SQUARE_B) * even_b + u[5];
        return;
    }
    const vec half = splat(0.5f), shared = f == STRIDE_1 ? half * (u[1] + u[2]) : u[1];
    w[0] = u[0] + shared;
    w[1] = f == STRIDE_1 ? half * (u[1] - u[2]) : u[3];
    w[2] = (f == STRIDE_1 ? u[3] : u[2]) + shared;
}
INLINE void output_transform_1d(const scheme_t f, const vec *m, vec *y) /* y = A' m */
{
    if (f == STRIDE_1) {
        y[0] = m[0] + m[1] + m[2];
        y[1] = m[1] - m[2] - m[3];
    } else if (f == STRIDE_1_LARGE) {
        const vec even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
        y[0] = m[0] + even_a + even_b;
        y[1] = splat(POINT_A) * odd_a + splat(POINT_B) * odd_b;
        y[2] = splat(SQUARE_A) * even_a + splat(SQUARE_B) * even_b;
        y[3] = splat(POINT_A * SQUARE_A) * odd_a + splat(POINT_B * SQUARE_B) * odd_b + m[5];
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
INLINE void output_transform_transpose_1d(const scheme_t f, const vec *y, vec *m) /* m = A y; forward schemes only */
{
    if (f == STRIDE_1_LARGE) {
        const vec even_a = y[0] + splat(SQUARE_A) * y[2], odd_a = splat(POINT_A) * y[1] + splat(POINT_A * SQUARE_A) * y[3];
        const vec even_b = y[0] + splat(SQUARE_B) * y[2], odd_b = splat(POINT_B) * y[1] + splat(POINT_B * SQUARE_B) * y[3];
        m[0] = y[0];
        m[1] = even_a + odd_a;
        m[2] = even_a - odd_a;
        m[3] = even_b + odd_b;
        m[4] = even_b - odd_b;
        m[5] = y[3];
        return;
    }
    m[0] = y[0];
    m[1] = y[0] + y[1];
    m[2] = f == STRIDE_1 ? y[0] - y[1] : y[1];
    if (f == STRIDE_1) m[3] = zero() - y[1];
}

/* to (n, n) = T from T', where transform_1d() multiplies m numbers by T (n, m). */
#define RK_BOTH_AXES(transform_1d, f, m, n, from, to)                            \
    do {                                                                         \
        vec half_way[MOST][MOST];                                                \
        RK_UNROLL                                                                \
        for (int i = 0; i < m; i++) transform_1d(f, (from)[i], half_way[i]);     \
        RK_UNROLL                                                                \
        for (int j = 0; j < n; j++) {                                            \
            vec column[MOST], column_to[MOST];                                   \
            RK_UNROLL                                                            \
            for (int i = 0; i < m; i++) column[i] = half_way[i][j];              \
            transform_1d(f, column, column_to);                                  \
            RK_UNROLL                                                            \
            for (int i = 0; i < n; i++) (to)[i][j] = column_to[i];               \
        }                                                                        \
    } while (0)

/* u[point, :n] = G w G' of w[tap, :n]; w's taps are `taps` floats apart, u's points `size`. */
INLINE void filter_transform(const scheme_t f, const float *w, ptrdiff_t taps, int32_t n, float *u, ptrdiff_t size)
{
    const int points = TRANSFORMS[f].points;
    for (int32_t k = 0; k < n; k += LANES) {
        vec half_way[3][MOST];
        RK_UNROLL
        for (int i = 0; i < 3; i++) {
            const vec row[3] = {load(w + 3 * i * taps + k), load(w + (3 * i + 1) * taps + k), load(w + (3 * i + 2) * taps + k)};
            filter_transform_1d(f, row, half_way[i]);
        }
        RK_UNROLL
        for (int j = 0; j < points; j++) {
            const vec column[3] = {half_way[0][j], half_way[1][j], half_way[2][j]};
            vec to[MOST];
            filter_transform_1d(f, column, to);
            RK_UNROLL
            for (int i = 0; i < points; i++) store(u + (i * points + j) * size + k, to[i]);
        }
    }
}

/* LANES elements of w_bar (3, 3, size) = G' u_bar G. */
INLINE void filter_transform_transpose(const scheme_t f, vec u_bar[MOST][MOST], float *w_bar, ptrdiff_t size)
{
    vec to[MOST][MOST];
    RK_BOTH_AXES(filter_transform_transpose_1d, f, TRANSFORMS[f].points, 3, u_bar, to);
    for (int t = 0; t < 9; t++) store(w_bar + t * size, to[t / 3][t % 3]);
}

#endif
