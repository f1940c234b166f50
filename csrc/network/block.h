/* A block without its convolution: batch norm, pooling and relu, in as few passes over memory as they need.

   z (rows, C) is the convolution's output, rows = B x height x width of it, C its stored channels; u (pooled, C) is z after
   pooling, z itself if there is none; a = relu(gamma (u - mean) r + beta) is the activation, r = 1 / sqrt(var + epsilon).
   In both orders of norm and pool a block is: statistics (of z, or of u if the pool comes first), pooling, then a.  Norm before
   pool picks the same position as pool before norm except in channels with gamma < 0, where the smallest z is picked.

   Rows are worked on in chunks, whose partial sums are merged in order.

   A Hessian product at the same phi reads z, a_bar and the vectors beside them (network_layout_saved); all else is computed from
   them.  In a plan for gradients alone z_bar overwrites z.  */

#ifndef RK_BLOCK_H
#define RK_BLOCK_H

#include "conv/pack.h"

enum {
    CHUNK_ROWS = 64, /* rows in a chunk */
    GAP = 16         /* floats between the images of a: without them the same pixel of all images falls into few sets of L1 */
};

typedef struct {
    rk_block shape;
    conv_t conv;
    int32_t channels;              /* C: stored channels of z */
    int32_t rows, pooled;          /* positions of z and of u, over the batch */
    int32_t image;                 /* positions of u in one image */
    int32_t counted;               /* rows that the statistics are taken over */
    int banded;                    /* the gradient goes band by band (band.h) */
    int z_bar_over_z;              /* z_bar is z: the plan serves no Hessian products */
    float *z, *z_bar;              /* (rows, C) */
    float *u, *a_bar;              /* (pooled, C) */
    float *a;                      /* (B, image, C), images GAP floats apart */
    int32_t *argmax;               /* (pooled, C) index in the window, row * pool + column */
    float *bias, *gamma, *beta;    /* (C,) padded with zeros */
    float *mean, *r;               /* (C,) */
    float *partials;               /* (chunks, 2, C) partial sums */
    float *m1, *m2;                /* (C,) sums of y_bar and of xhat y_bar, where y = gamma xhat + beta */
    float *w_bar;                  /* (depth, C) if storage is padded, else NULL: the gradient itself is written */
    float *z_dot, *u_dot, *a_dot, *a_bar_dot;              /* tangents, shaped as above, for Hessian products */
    float *bias_dot, *gamma_dot, *beta_dot, *r_dot, *m1_dot, *m2_dot; /* (C,) */
    float *zm_dot, *slope;                                 /* (C,) means of z_dot and of xhat z_dot */
    float *packed_dot, *packed_back_dot;
    ptrdiff_t offset;              /* of the block's kernel in phi */
} block_t;

INLINE int32_t row_chunks(int32_t rows) { return ceil_div(rows, CHUNK_ROWS); }
INLINE int pools(const block_t *k) { return k->shape.pool > 0; }

/* Mean and centred sum of squares of the rows z[to[0 .. rows - 1]] of one panel (to NULL: consecutive rows, `stride` floats apart).
   Even and odd rows have sums of their own, so that twice as many additions are under way. */
LOCAL void moments(const float *z, const int32_t *to, int32_t rows, int32_t stride, float *mean, float *squares)
{
    const int32_t pairs = rows / 2 * 2;
#define RK_ROW(i) (z + (to ? to[i] : (ptrdiff_t)(i) * stride)) /* z[row_i, :] */
    vec sum[2][2] = {{zero(), zero()}, {zero(), zero()}}, square[2][2] = {{zero(), zero()}, {zero(), zero()}};
    for (int32_t i = 0; i < pairs; i += 2)
        for (int e = 0; e < 2; e++)
            for (int h = 0; h < 2; h++) sum[e][h] += load(RK_ROW(i + e) + h * LANES);
    for (int h = 0; h < 2; h++) {
        if (pairs < rows) sum[0][h] += load(RK_ROW(pairs) + h * LANES);
        sum[0][h] = (sum[0][h] + sum[1][h]) / splat((float)rows);
        store(mean + h * LANES, sum[0][h]);
    }
    for (int32_t i = 0; i < pairs; i += 2)
        for (int e = 0; e < 2; e++)
            for (int h = 0; h < 2; h++) {
                const vec d = load(RK_ROW(i + e) + h * LANES) - sum[0][h];
                square[e][h] += d * d;
            }
    for (int h = 0; h < 2; h++) {
        if (pairs < rows) {
            const vec d = load(RK_ROW(pairs) + h * LANES) - sum[0][h];
            square[0][h] += d * d;
        }
        store(squares + h * LANES, square[0][h] + square[1][h]);
    }
#undef RK_ROW
}

/* Convolution item i: its chunk and panels of z, and their moments unless the pool comes first. */
LOCAL void block_conv(const block_t *k, int32_t i, const float *x)
{
    const item_t item = conv_item_at(&k->conv, i);
    conv_item(&k->conv, i, x, k->conv.packed, FROM_BIAS, k->bias, k->z);
    if (pools(k) && k->shape.pool_first) return;
    const chunk_t *chunk = k->conv.forward.chunk + item.chunk;
    for (int32_t c = item.panel * PANEL; c < (item.panel + item.panels) * PANEL; c += PANEL) {
        float *to = k->partials + (ptrdiff_t)item.chunk * 2 * k->channels + c; /* partials[chunk, :, c] */
        moments(k->z + c, k->conv.forward.to + chunk->position, chunk->positions, k->channels, to, to + k->channels);
    }
}

/* Merge the moments of all chunks for lanes c .. (Chan, Golub & LeVeque 1979), then mean and r. */
LOCAL void block_statistics(const block_t *k, int32_t c)
{
    const int by_plan = !k->banded && !(pools(k) && k->shape.pool_first);
    const int32_t size = k->banded ? k->shape.pool_width * (k->shape.pool_first ? 1 : k->shape.pool * k->shape.pool) : CHUNK_ROWS;
    const int32_t chunks = by_plan ? k->conv.forward.chunks : ceil_div(k->counted, size);
    vec mean = zero(), squares = zero();
    float n = 0.0f;
    for (int32_t i = 0; i < chunks; i++) {
        const float count = (float)(by_plan ? k->conv.forward.chunk[i].positions : min_i(size, k->counted - i * size));
        const float *of_chunk = k->partials + (ptrdiff_t)i * 2 * k->channels + c; /* partials[i, :, c] */
        const vec d = load(of_chunk) - mean;
        squares += load(of_chunk + k->channels) + d * d * splat(n * count / (n + count));
        n += count;
        mean += d * splat(count / n);
    }
    store(k->mean + c, mean);
    for (int32_t i = 0; i < LANES; i++) k->r[c + i] = 1.0f / sqrtf(squares[i] / n + k->shape.epsilon);
}

/* A window of the pool, clipped to the image: rows x cols pixels of z, the first at z[first], with index `index` in the unclipped
   window of size x size; pixels are `step` floats apart, lines `pitch`. */
typedef struct { ptrdiff_t first; int32_t rows, cols, index, size, step, pitch; } window_t;

INLINE window_t window_of(const block_t *k, int32_t row)
{
    const rk_block *s = &k->shape;
    const int32_t line = row / s->pool_width, image = line / s->pool_height;
    const int32_t y = (line - image * s->pool_height) * s->pool - s->pool_top;
    const int32_t x = (row - line * s->pool_width) * s->pool - s->pool_left;
    const int32_t top = max_i(y, 0), left = max_i(x, 0);
    return (window_t){(((ptrdiff_t)image * s->conv.out_height + top) * s->conv.out_width + left) * k->channels,
                      min_i(y + s->pool, s->conv.out_height) - top, min_i(x + s->pool, s->conv.out_width) - left,
                      (top - y) * s->pool + left - x, s->pool, k->channels, s->conv.out_width * k->channels};
}
/* body at every pixel of a window, with `at` (z[image, wy, wx, c]) and its `index`; a whole 2 x 2 window is unrolled */
#define RK_EACH_IN(w, body)                                      \
    if ((w).rows == 2 && (w).cols == 2) RK_EACH_INDEX(w, 2, 2, body) \
    else RK_EACH_INDEX(w, (w).rows, (w).cols, body)
#define RK_EACH_INDEX(w, height, width, body)                                      \
    for (int32_t wy = 0; wy < height; wy++)                                    \
        for (int32_t wx = 0; wx < width; wx++) {                               \
            const ptrdiff_t at = (w).first + wy * (w).pitch + wx * (w).step + c;  \
            const ivec index = splat_i((w).index + wy * (w).size + wx);        \
            body                                                               \
        }

/* The sign of gamma at LANES channels: 1: the pool takes the largest z, -1: the smallest.  Always 1 if the pool comes first. */
INLINE vec sign_at(const block_t *k, int32_t c)
{
    const vec gamma = load(k->gamma + c), one = splat(1.0f);
    return k->shape.pool_first ? one : keep(gamma > zero(), one) - keep(gamma < zero(), one);
}

/* The number of windows from pooled row `row` on, before row `to`, that are whole, 2 x 2 and side by side; 0 if the first is not. */
INLINE int32_t whole_windows(const block_t *k, int32_t row, int32_t to)
{
    const rk_block *s = &k->shape;
    const int32_t line = row / s->pool_width, column = row - line * s->pool_width, y = line % s->pool_height * 2 - s->pool_top;
    if (s->pool != 2 || y < 0 || y + 2 > s->conv.out_height || column * 2 < s->pool_left) return 0;
    return max_i(0, min_i(to - row, (s->conv.out_width + s->pool_left) / 2 - column));
}

/* visit(window, k, row, windows) for all windows of pooled rows from .. to - 1: whole 2 x 2 ones (a constant) side by side, the
   others one by one. */
#define RK_EACH_WINDOW(visit, k, from, to, ...)                                 \
    for (int32_t row = (from), whole; row < (to); row += max_i(whole, 1)) {     \
        window_t w = window_of(k, row);                                         \
        whole = whole_windows(k, row, to);                                      \
        if (whole) w.rows = w.cols = w.size = 2, w.index = 0;                   \
        if (whole)                                                              \
            visit(w, k, row, whole, __VA_ARGS__);                               \
        else                                                                    \
            visit(w, k, row, 1, __VA_ARGS__);                                   \
    }

/* u and argmax of windows side by side, the first of them w, of pooled row `row`: the largest sign z of each, of equal ones the
   first. */
INLINE void pool_windows(window_t w, const block_t *k, int32_t row, int32_t windows, int unused)
{
    (void)unused;
    const float *z = k->z;
    for (int32_t c = 0; c < w.step; c += LANES) {
        const vec sign = sign_at(k, c);
        float *u = k->u + (ptrdiff_t)row * w.step + c;
        int32_t *to = k->argmax + (ptrdiff_t)row * w.step + c;
        window_t v = w;
        for (int32_t i = 0; i < windows; i++, v.first += 2 * v.step, u += v.step, to += v.step) {
            vec best = load(z + v.first + c);
            ivec argmax = splat_i(v.index);
            RK_EACH_IN(v, {
                const vec next = load(z + at); /* z[image, wy, wx, c] */
                const ivec wins = sign * next > sign * best;
                best = choose(wins, next, best);
                argmax = (wins & index) | (~wins & argmax);
            })
            store(u, best);
            store_i(to, argmax);
        }
    }
}

/* u and argmax of pooled rows from .. to - 1. */
LOCAL void block_pool(const block_t *k, int32_t from, int32_t to) { RK_EACH_WINDOW(pool_windows, k, from, to, 0) }

/* The norm of LANES channels, loaded once.  y = gamma xhat + beta is computed by one function, so that every pass sees the same
   sign of y. */
typedef struct { vec mean, r, scale, beta; } norm_t;
INLINE norm_t norm_at(const block_t *k, int32_t c)
{
    return (norm_t){load(k->mean + c), load(k->r + c), load(k->r + c) * load(k->gamma + c), load(k->beta + c)};
}
INLINE vec norm_y(const norm_t *n, vec u) { return (u - n->mean) * n->scale + n->beta; }

/* a[row, 0] (or a_dot's), images GAP apart. */
INLINE float *activation(const block_t *k, float *a, int32_t row)
{
    return a + ((ptrdiff_t)row * k->channels + row / k->image * GAP);
}

/* a of pooled rows from .. to - 1; the rows of one image at a time, for the gaps in a. */
LOCAL void block_activate(const block_t *k, int32_t from, int32_t to)
{
    for (int32_t row = from, end; row < to; row = end) {
        end = min_i(to, (row / k->image + 1) * k->image);
        for (int32_t c = 0; c < k->channels; c += PANEL) {
            const norm_t n[2] = {norm_at(k, c), norm_at(k, c + LANES)};
            const float *u = k->u + (ptrdiff_t)row * k->channels + c; /* u[row, c] */
            float *a = activation(k, k->a, row) + c;
            for (int32_t i = row; i < end; i++, u += k->channels, a += k->channels) {
                RK_UNROLL
                for (int h = 0; h < 2; h++) {
                    const vec y = norm_y(&n[h], load(u + h * LANES));
                    store(a + h * LANES, keep(~(y <= zero()), y));
                }
            }
        }
    }
}

/* Partial sums of y_bar and xhat y_bar over the pooled rows at to[0 .. rows - 1], panel c ..; y_bar is a_bar if y > 0, else 0. */
LOCAL void block_sums(const block_t *k, const int32_t *to, int32_t rows, int32_t c, float *part)
{
    const norm_t n[2] = {norm_at(k, c), norm_at(k, c + LANES)};
    vec sum[2] = {zero(), zero()}, product[2] = {zero(), zero()};
    for (int32_t i = 0; i < rows; i++) {
        RK_UNROLL
        for (int h = 0; h < 2; h++) {
            const ptrdiff_t at = (ptrdiff_t)to[i] + c + h * LANES; /* a_bar[row_i, c] */
            const vec u = load(k->u + at), y_bar = keep(norm_y(&n[h], u) > zero(), load(k->a_bar + at));
            sum[h] += y_bar;
            product[h] += y_bar * (u - n[h].mean);
        }
    }
    RK_UNROLL
    for (int h = 0; h < 2; h++) {
        store(part + c + h * LANES, sum[h]);
        store(part + k->channels + c + h * LANES, product[h] * n[h].r);
    }
}

/* Merge both kinds of partial sums, of `chunks` chunks, for lanes c .. */
LOCAL void block_merge(const block_t *k, int32_t chunks, int32_t c, float *const to[2])
{
    for (int32_t j = 0; j < 2; j++) {
        vec sum = zero();
        for (int32_t i = 0; i < chunks; i++)
            sum += load(k->partials + ((ptrdiff_t)i * 2 + j) * k->channels + c); /* partials[i, j, c] */
        store(to[j] + c, sum);
    }
}

/* z_bar of rows from .. to - 1 if there is no pool: gamma r (y_bar - mean(y_bar) - xhat mean(xhat y_bar)). */
LOCAL void block_back_plain(const block_t *k, int32_t from, int32_t to)
{
    const vec share = splat(1.0f / (float)k->counted);
    for (int32_t c = 0; c < k->channels; c += PANEL) {
        const norm_t n[2] = {norm_at(k, c), norm_at(k, c + LANES)};
        const vec m1[2] = {load(k->m1 + c) * share, load(k->m1 + c + LANES) * share};
        const vec m2[2] = {load(k->m2 + c) * share * n[0].r, load(k->m2 + c + LANES) * share * n[1].r};
        for (int32_t row = from; row < to; row++) {
            RK_UNROLL
            for (int h = 0; h < 2; h++) {
                const ptrdiff_t at = (ptrdiff_t)row * k->channels + c + h * LANES; /* z[row, c] */
                const vec z = load(k->z + at), y_bar = keep(norm_y(&n[h], z) > zero(), load(k->a_bar + at));
                store(k->z_bar + at, n[h].scale * (y_bar - m1[h] - (z - n[h].mean) * m2[h]));
            }
        }
    }
}

/* z_bar of the rows under windows side by side, the first of them w, of pooled row `row`: the same, with y_bar (norm first) or
   u_bar (pool first) at the argmax, and zero elsewhere. */
INLINE void back_windows(window_t w, const block_t *k, int32_t row, int32_t windows, ptrdiff_t origin, float *z_bar)
{
    const vec share = splat(1.0f / (float)k->counted);
    const int pool_first = k->shape.pool_first;
    for (int32_t panel = 0; panel < w.step; panel += PANEL) {
        const norm_t n[2] = {norm_at(k, panel), norm_at(k, panel + LANES)};
        const vec m1[2] = {load(k->m1 + panel) * share, load(k->m1 + panel + LANES) * share};
        const vec m2[2] = {load(k->m2 + panel) * share * n[0].r, load(k->m2 + panel + LANES) * share * n[1].r};
        const float *z = k->z, *u = k->u + (ptrdiff_t)row * w.step, *a_bar = k->a_bar + (ptrdiff_t)row * w.step;
        const int32_t *argmax = k->argmax + (ptrdiff_t)row * w.step;
        window_t v = w;
        for (int32_t i = 0; i < windows; i++, v.first += 2 * v.step, u += v.step, a_bar += v.step, argmax += v.step) {
            RK_UNROLL
            for (int h = 0; h < 2; h++) {
                const int32_t c = panel + h * LANES;
                const vec best = load(u + c), y_bar = keep(norm_y(&n[h], best) > zero(), load(a_bar + c));
                const ivec chosen = load_i(argmax + c);
                if (pool_first) {
                    const vec u_bar = n[h].scale * (y_bar - m1[h] - (best - n[h].mean) * m2[h]);
                    RK_EACH_IN(v, { store(z_bar + (at - origin), keep(chosen == index, u_bar)); })
                } else {
                    RK_EACH_IN(v, {
                        const vec centred = load(z + at) - n[h].mean;
                        store(z_bar + (at - origin), n[h].scale * (keep(chosen == index, y_bar) - m1[h] - centred * m2[h]));
                    })
                }
            }
        }
    }
}

/* z_bar of the rows under pooled rows from .. to - 1; z_bar[0] is the element z[origin]'s. */
LOCAL void block_back_pooled(const block_t *k, int32_t from, int32_t to, ptrdiff_t origin, float *z_bar)
{
    RK_EACH_WINDOW(back_windows, k, from, to, origin, z_bar)
}

LOCAL void block_back(const block_t *k, int32_t from, int32_t to)
{
    if (pools(k))
        block_back_pooled(k, from, to, 0, k->z_bar);
    else
        block_back_plain(k, from, to);
}

#endif
