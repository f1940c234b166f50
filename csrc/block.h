/* What stands between convolutions: batch norm, pooling and relu, in as few passes over memory as they need.

   z (rows, channels) is a convolution's output, u (pooled rows, channels) what remains after pooling (z itself where
   there is none) and a = relu(gamma (u - mean) r + beta) the activation.  In both orders of norm and pool the block
   is: statistics (of z, or of u where the pool comes first), winners u, then a.  Norm before pool picks the same
   winners as pool before norm but for channels with gamma < 0, where the smallest z wins.

   Work is cut in chunks of rows whose partial sums are merged in order.  Backwards, z_bar overwrites z.  */

#ifndef RK_BLOCK_H
#define RK_BLOCK_H

#include "conv.h"

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
    float *z, *u, *a, *a_bar;
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

/* Mean and centred sum of squares of z[to[0..rows), panel] (to NULL: consecutive rows). */
LOCAL void moments(const float *z, const int32_t *to, int32_t rows, int32_t stride, float *mean, float *squares)
{
    vec s0 = zero(), s1 = zero(), q0 = zero(), q1 = zero();
    for (int32_t i = 0; i < rows; i++) {
        const float *row = z + (to ? to[i] : (ptrdiff_t)i * stride); /* z[row_i, :] */
        s0 += load(row);
        s1 += load(row + LANES);
    }
    s0 /= splat((float)rows);
    s1 /= splat((float)rows);
    for (int32_t i = 0; i < rows; i++) {
        const float *row = z + (to ? to[i] : (ptrdiff_t)i * stride);
        const vec d0 = load(row) - s0, d1 = load(row + LANES) - s1;
        q0 += d0 * d0;
        q1 += d1 * d1;
    }
    store(mean, s0);
    store(mean + LANES, s1);
    store(squares, q0);
    store(squares + LANES, q1);
}

/* Convolution item i: its tile and panel of z, and their moments unless the pool comes first. */
LOCAL void block_conv(const block_t *k, int32_t i, const float *x)
{
    const int32_t panels = conv_panels(&k->conv), panel = i % panels * PANEL;
    conv_item(&k->conv, i, x, k->conv.packed, FROM_BIAS, k->bias, k->z);
    if (pools(k) && k->shape.pool_first) return;
    const tile_t *tile = k->conv.forward.tile + i / panels;
    float *part = k->part + (ptrdiff_t)(i / panels) * 2 * k->channels + panel; /* part[tile, :, panel] */
    moments(k->z + panel, k->conv.forward.to + tile->row, tile->rows, k->channels, part, part + k->channels);
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

/* A window of the pool: rows top..bottom and columns left..right of z, clipped to the image. */
typedef struct { int32_t image, top, bottom, left, right, y, x; } window_t;

LOCAL window_t window_at(const block_t *k, int32_t row)
{
    const rk_block *s = &k->shape;
    window_t w;
    w.y = row / s->pool_width % s->pool_height * s->pool - s->pool_top;
    w.x = row % s->pool_width * s->pool - s->pool_left;
    w.image = row / s->pool_width / s->pool_height * s->conv.out_height;
    w.top = max_i(w.y, 0);
    w.left = max_i(w.x, 0);
    w.bottom = min_i(w.y + s->pool, s->conv.out_height);
    w.right = min_i(w.x + s->pool, s->conv.out_width);
    return w;
}
/* body at every place of a window, with `at` (z[image, wy, wx, c]) and `place` */
#define RK_EACH_OF(w, k, body)                                                                                          \
    for (int32_t wy = (w).top; wy < (w).bottom; wy++)                                                                   \
        for (int32_t wx = (w).left; wx < (w).right; wx++) {                                                             \
            const ptrdiff_t at = ((ptrdiff_t)((w).image + wy) * (k)->shape.conv.out_width + wx) * (k)->channels + c;    \
            const ivec place = splat_i((wy - (w).y) * (k)->shape.pool + wx - (w).x);                                    \
            body                                                                                                        \
        }

/* u and winner of pooled rows from..to: the largest sign z of each window, of equal ones the first. */
LOCAL void block_pool(const block_t *k, int32_t from, int32_t to)
{
    for (int32_t row = from; row < to; row++) {
        const window_t w = window_at(k, row);
        for (int32_t c = 0; c < k->channels; c += LANES) {
            const vec sign = k->shape.pool_first ? splat(1.0f) : load(k->sign + c);
            vec best = zero();
            ivec winner = splat_i(-1);
            RK_EACH_OF(w, k, {
                const vec z = load(k->z + at); /* z[image, wy, wx, c] */
                const ivec wins = (sign * z > sign * best) | (winner < 0);
                best = choose(wins, z, best);
                winner = (wins & place) | (~wins & winner);
            })
            store(k->u + (ptrdiff_t)row * k->channels + c, best);
            store_i(k->winner + (ptrdiff_t)row * k->channels + c, winner);
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

/* a = relu(gamma (u - mean) r + beta) of pooled rows from..to. */
LOCAL void block_activate(const block_t *k, int32_t from, int32_t to)
{
    for (int32_t c = 0; c < k->channels; c += PANEL) {
        const norm_t n[2] = {norm_at(k, c), norm_at(k, c + LANES)};
        for (int32_t row = from; row < to; row++) {
            const float *u = k->u + (ptrdiff_t)row * k->channels + c; /* u[row, c] */
            float *a = activation(k, k->a, row) + c;
            RK_UNROLL
            for (int h = 0; h < 2; h++) {
                const vec y = norm_y(&n[h], load(u + h * LANES));
                store(a + h * LANES, keep(~(y <= zero()), y));
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

/* Merge `count` (k->m1, k->m2, ...) of the partial sums (units, count, channels) for lanes c.. */
LOCAL void block_merge(const block_t *k, int32_t units, int32_t c, int32_t count, float *const *to)
{
    for (int32_t j = 0; j < count; j++) {
        vec sum = zero();
        for (int32_t i = 0; i < units; i++) sum += load(k->part + ((ptrdiff_t)i * count + j) * k->channels + c); /* part[i, j, c] */
        store(to[j] + c, sum);
    }
}

/* z_bar of rows from..to, over z, where there is no pool: gamma r (y_bar - mean(y_bar) - xhat mean(xhat y_bar)). */
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
                store(k->z + at, n[h].scale * (y_bar - m1[h] - (z - n[h].mean) * m2[h]));
            }
        }
    }
}

/* z_bar of the positions under pooled rows from..to, over z: the same, with y_bar (norm first) or u_bar (pool first) at
   the winners and zero elsewhere. */
LOCAL void block_back_pooled(const block_t *k, int32_t from, int32_t to)
{
    const vec share = splat(1.0f / (float)k->counted);
    for (int32_t row = from; row < to; row++) {
        const window_t w = window_at(k, row);
        for (int32_t c = 0; c < k->channels; c += LANES) {
            const ptrdiff_t here = (ptrdiff_t)row * k->channels + c; /* u[row, c] */
            const norm_t n = norm_at(k, c);
            const vec m1 = load(k->m1 + c) * share, m2 = load(k->m2 + c) * share * n.r;
            const vec u = load(k->u + here), y_bar = keep(norm_y(&n, u) > zero(), load(k->a_bar + here));
            const ivec winner = load_i(k->winner + here);
            if (k->shape.pool_first) {
                const vec u_bar = n.scale * (y_bar - m1 - (u - n.mean) * m2);
                RK_EACH_OF(w, k, { store(k->z + at, keep(winner == place, u_bar)); })
            } else {
                RK_EACH_OF(w, k, {
                    store(k->z + at, n.scale * (keep(winner == place, y_bar) - m1 - (load(k->z + at) - n.mean) * m2));
                })
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
