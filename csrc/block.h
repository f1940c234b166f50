/* What stands between convolutions: batch norm, pooling and relu, in as few passes over memory as they need.

   z (rows, channels) is a convolution's output, u (pooled rows, channels) what remains after pooling (z itself where
   there is none) and a = relu(gamma (u - mean) r + beta) the activation.  In both orders of norm and pool the block
   is: statistics (of z, or of u where the pool comes first), winners u, then a.  Norm before pool picks the same
   winners as pool before norm but for channels with gamma < 0, where the smallest z wins.

   Work is cut in chunks of rows whose partial sums are merged in order.  Backwards, z_bar overwrites z.  */

#ifndef RK_BLOCK_H
#define RK_BLOCK_H

#include "conv.h"

enum { CHUNK = 64 }; /* rows in a unit of work */

typedef struct {
    rk_block shape;
    conv_t conv;
    int32_t channels;              /* stored */
    int32_t rows, pooled;          /* positions of z and of u, over the batch */
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

/* a = relu(gamma (u - mean) r + beta) of pooled rows from..to. */
LOCAL void block_activate(const block_t *k, int32_t from, int32_t to)
{
    for (int32_t c = 0; c < k->channels; c += LANES) {
        const vec mean = load(k->mean + c), scale = load(k->r + c) * load(k->gamma + c), beta = load(k->beta + c);
        for (int32_t row = from; row < to; row++) {
            const ptrdiff_t at = (ptrdiff_t)row * k->channels + c; /* u[row, c] */
            const vec y = (load(k->u + at) - mean) * scale + beta;
            store(k->a + at, keep(~(y <= zero()), y));
        }
    }
}

/* Partial sums of y_bar and xhat y_bar over pooled rows from..to, where y_bar = a_bar where a > 0. */
LOCAL void block_sums(const block_t *k, int32_t from, int32_t to, float *part)
{
    for (int32_t c = 0; c < k->channels; c += LANES) {
        const vec mean = load(k->mean + c);
        vec sum = zero(), product = zero();
        for (int32_t row = from; row < to; row++) {
            const ptrdiff_t at = (ptrdiff_t)row * k->channels + c; /* a[row, c] */
            const vec y_bar = keep(load(k->a + at) > zero(), load(k->a_bar + at));
            sum += y_bar;
            product += y_bar * (load(k->u + at) - mean);
        }
        store(part + c, sum);
        store(part + k->channels + c, product * load(k->r + c));
    }
}

/* Merge the partial sums for lanes c..: beta_bar = sum y_bar and gamma_bar = sum xhat y_bar (left in m1, m2). */
LOCAL void block_merge(const block_t *k, int32_t c, float *first, float *second)
{
    vec sum = zero(), product = zero();
    for (int32_t i = 0; i < chunks_of(k->pooled); i++) {
        sum += load(k->part + (ptrdiff_t)i * 2 * k->channels + c); /* part[i, 0, c] */
        product += load(k->part + (ptrdiff_t)(i * 2 + 1) * k->channels + c);
    }
    store(first + c, sum);
    store(second + c, product);
}

/* z_bar of the positions under pooled rows from..to, over z: gamma r (y_bar - mean(y_bar) - xhat mean(xhat y_bar)). */
LOCAL void block_back(const block_t *k, int32_t from, int32_t to)
{
    const vec share = splat(1.0f / (float)k->counted);
    for (int32_t c = 0; c < k->channels; c += LANES) {
        const vec mean = load(k->mean + c), r = load(k->r + c), scale = load(k->gamma + c) * r;
        const vec m1 = load(k->m1 + c) * share, m2 = load(k->m2 + c) * share * r;
        for (int32_t row = from; row < to; row++) {
            const ptrdiff_t here = (ptrdiff_t)row * k->channels + c; /* a[row, c] */
            const vec y_bar = keep(load(k->a + here) > zero(), load(k->a_bar + here));
            if (!pools(k)) {
                store(k->z + here, scale * (y_bar - m1 - (load(k->z + here) - mean) * m2));
                continue;
            }
            const window_t w = window_at(k, row);
            const ivec winner = load_i(k->winner + here);
            if (k->shape.pool_first) {
                const vec u_bar = scale * (y_bar - m1 - (load(k->u + here) - mean) * m2);
                RK_EACH_OF(w, k, { store(k->z + at, keep(winner == place, u_bar)); })
            } else {
                RK_EACH_OF(w, k, {
                    store(k->z + at, scale * (keep(winner == place, y_bar) - m1 - (load(k->z + at) - mean) * m2));
                })
            }
        }
    }
}

#endif
