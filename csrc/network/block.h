/* What stands between convolutions: batch norm, pooling and relu, in as few passes over memory as they need.

   z (rows, channels) is a convolution's output, u (pooled rows, channels) what remains after pooling (z itself where
   there is none) and a = relu(gamma (u - mean) r + beta) the activation.  In both orders of norm and pool the block
   is: statistics (of z, or of u where the pool comes first), winners u, then a.  Norm before pool picks the same
   winners as pool before norm but for channels with gamma < 0, where the smallest z wins.

   Work is cut in chunks of rows whose partial sums are merged in order.

   What a Hessian product reads of the point where the gradient was taken is z, a_bar and the vectors beside them; all
   else follows.  A plan for gradients alone lets z_bar overwrite z.  */

#ifndef RK_BLOCK_H
#define RK_BLOCK_H

#include "conv/pack.h"

enum {
    CHUNK = 64, /* rows in a unit of work */
    GAP = 16    /* floats between the images of a: without it the same pixel of all images falls into the same few sets of L1 */
};

typedef struct {
    rk_block shape;
    conv_t conv;
    int32_t channels;              /* stored */
    int32_t rows, pooled;          /* positions of z and of u, over the batch */
    int32_t image;                 /* positions of u in one image */
    int32_t counted;               /* positions the statistics run over */
    float *z, *z_bar, *u, *a, *a_bar; /* z_bar: z itself, unless a Hessian product is to follow */
    int32_t *winner;               /* (pooled, channels) place in the window, u * pool + v */
    float *bias, *gamma, *beta;    /* (channels,) padded with zeros */
    float *mean, *r, *sign;        /* (channels,) statistics; which way the pool looks */
    float *part;                   /* (units, 2, channels) partial sums */
    float *m1, *m2;                /* (channels,) means of y_bar and of xhat y_bar */
    float *w_bar;                  /* (depth, channels) where storage is padded, else NULL */
    float *z_dot, *u_dot, *a_dot, *a_bar_dot; /* tangents, for Hessian products */
    float *bias_dot, *gamma_dot, *beta_dot, *zm_dot, *slope, *r_dot, *m1_dot, *m2_dot;
    float *packed_dot, *packed_back_dot;
    ptrdiff_t at;                  /* of the block's kernel in phi */
} block_t;

LOCAL int32_t chunks_of(int32_t rows) { return ceil_div(rows, CHUNK); }
LOCAL int pools(const block_t *k) { return k->shape.pool > 0; }

/* Mean and centred sum of squares of z[to[0..rows), panel] (to NULL: consecutive rows); even and odd rows apart, so that
   twice as many sums are under way. */
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

/* Convolution item i: its tile and panel of z, and their moments unless the pool comes first. */
LOCAL void block_conv(const block_t *k, int32_t i, const float *x)
{
    const area_t area = conv_area(&k->conv, i);
    conv_item(&k->conv, i, x, k->conv.packed, FROM_BIAS, k->bias, k->z);
    if (pools(k) && k->shape.pool_first) return;
    const tile_t *tile = k->conv.forward.tile + area.tile;
    for (int32_t c = area.panel * PANEL; c < (area.panel + area.panels) * PANEL; c += PANEL) {
        float *to = k->part + (ptrdiff_t)area.tile * 2 * k->channels + c; /* part[tile, :, c] */
        moments(k->z + c, k->conv.forward.to + tile->row, tile->rows, k->channels, to, to + k->channels);
    }
}

/* Chan, Golub & LeVeque (1979): merge the moments of all units for lanes c.., then mean and r = 1/sqrt(var + epsilon). */
LOCAL void block_statistics(const block_t *k, int32_t c)
{
    const int by_tile = !(pools(k) && k->shape.pool_first);
    const int32_t units = by_tile ? k->conv.forward.tiles : chunks_of(k->pooled);
    vec mean = zero(), squares = zero();
    float n = 0.0f;
    for (int32_t i = 0; i < units; i++) {
        const float count = (float)(by_tile ? k->conv.forward.tile[i].rows : min_i(CHUNK, k->pooled - i * CHUNK));
        const float *part = k->part + (ptrdiff_t)i * 2 * k->channels + c; /* part[i, :, c] */
        const vec d = load(part) - mean;
        squares += load(part + k->channels) + d * d * splat(n * count / (n + count));
        n += count;
        mean += d * splat(count / n);
    }
    store(k->mean + c, mean);
    for (int32_t i = 0; i < LANES; i++) {
        k->r[c + i] = 1.0f / sqrtf(squares[i] / n + k->shape.epsilon);
        k->sign[c + i] = k->shape.pool_first ? 1.0f : (float)((k->gamma[c + i] > 0.0f) - (k->gamma[c + i] < 0.0f));
    }
}

/* A window of the pool, clipped to the image: rows x cols places of z, the first z[at], which is place `place` of size x size;
   places are `step` floats apart, lines `pitch`. */
typedef struct { ptrdiff_t at; int32_t rows, cols, place, size, step, pitch; } window_t;

LOCAL window_t window_of(const block_t *k, int32_t row)
{
    const rk_block *s = &k->shape;
    const int32_t line = row / s->pool_width, image = line / s->pool_height;
    const int32_t y = (line - image * s->pool_height) * s->pool - s->pool_top, x = (row - line * s->pool_width) * s->pool - s->pool_left;
    const int32_t top = max_i(y, 0), left = max_i(x, 0);
    return (window_t){(((ptrdiff_t)image * s->conv.out_height + top) * s->conv.out_width + left) * k->channels,
                      min_i(y + s->pool, s->conv.out_height) - top, min_i(x + s->pool, s->conv.out_width) - left,
                      (top - y) * s->pool + left - x, s->pool, k->channels, s->conv.out_width * k->channels};
}
/* body at every place of a window, with `at` (z[image, wy, wx, c]) and `place`; a whole 2 x 2 window is unrolled */
#define RK_EACH_OF(w, body)                                      \
    if ((w).rows == 2 && (w).cols == 2) RK_PLACES(w, 2, 2, body) \
    else RK_PLACES(w, (w).rows, (w).cols, body)
#define RK_PLACES(w, height, width, body)                                      \
    for (int32_t wy = 0; wy < height; wy++)                                    \
        for (int32_t wx = 0; wx < width; wx++) {                               \
            const ptrdiff_t at = (w).at + wy * (w).pitch + wx * (w).step + c;  \
            const ivec place = splat_i((w).place + wy * (w).size + wx);        \
            body                                                               \
        }

/* u and winner of pooled rows from..to: the largest sign z of each window, of equal ones the first. */
LOCAL void block_pool(const block_t *k, int32_t from, int32_t to)
{
    const float *z = k->z;
    for (int32_t row = from; row < to; row++) {
        const window_t w = window_of(k, row);
        for (int32_t c = 0; c < w.step; c += LANES) {
            const vec sign = k->shape.pool_first ? splat(1.0f) : load(k->sign + c);
            vec best = load(z + w.at + c);
            ivec winner = splat_i(w.place);
            RK_EACH_OF(w, {
                const vec next = load(z + at); /* z[image, wy, wx, c] */
                const ivec wins = sign * next > sign * best;
                best = choose(wins, next, best);
                winner = (wins & place) | (~wins & winner);
            })
            store(k->u + (ptrdiff_t)row * w.step + c, best);
            store_i(k->winner + (ptrdiff_t)row * w.step + c, winner);
        }
    }
}

/* What LANES channels of the norm are, loaded once; y = gamma xhat + beta is written once, so that every pass sees the
   same sign. */
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

/* a = relu(gamma (u - mean) r + beta) of pooled rows from..to; a stretch of one image at a time, for the gaps in a. */
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

/* Partial sums of y_bar and xhat y_bar over the pooled rows at to[0..rows) and panel c.., where y_bar = a_bar where y > 0. */
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

/* Merge the two kinds of partial sums (units, 2, channels) for lanes c.. */
LOCAL void block_merge(const block_t *k, int32_t units, int32_t c, float *const to[2])
{
    for (int32_t j = 0; j < 2; j++) {
        vec sum = zero();
        for (int32_t i = 0; i < units; i++) sum += load(k->part + ((ptrdiff_t)i * 2 + j) * k->channels + c); /* part[i, j, c] */
        store(to[j] + c, sum);
    }
}

/* z_bar of rows from..to, where there is no pool: gamma r (y_bar - mean(y_bar) - xhat mean(xhat y_bar)). */
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

/* z_bar of the positions under pooled rows from..to: the same, with y_bar (norm first) or u_bar (pool first) at
   the winners and zero elsewhere. */
LOCAL void block_back_pooled(const block_t *k, int32_t from, int32_t to)
{
    const vec share = splat(1.0f / (float)k->counted);
    for (int32_t row = from; row < to; row++) {
        const window_t w = window_of(k, row);
        for (int32_t c = 0; c < w.step; c += LANES) {
            const ptrdiff_t here = (ptrdiff_t)row * w.step + c; /* u[row, c] */
            const norm_t n = norm_at(k, c);
            const vec m1 = load(k->m1 + c) * share, m2 = load(k->m2 + c) * share * n.r;
            const vec u = load(k->u + here), y_bar = keep(norm_y(&n, u) > zero(), load(k->a_bar + here));
            const ivec winner = load_i(k->winner + here);
            if (k->shape.pool_first) {
                const vec u_bar = n.scale * (y_bar - m1 - (u - n.mean) * m2);
                RK_EACH_OF(w, { store(k->z_bar + at, keep(winner == place, u_bar)); })
            } else {
                RK_EACH_OF(w, { store(k->z_bar + at, n.scale * (keep(winner == place, y_bar) - m1 - (load(k->z + at) - n.mean) * m2)); })
            }
        }
    }
}

LOCAL void block_back(const block_t *k, int32_t from, int32_t to)
{
    if (pools(k))
        block_back_pooled(k, from, to);
    else
        block_back_plain(k, from, to);
}

#endif
