/* A block without its convolution: batch norm and relu, in as few passes over memory as they need; pool.h adds the pooling.

   z (rows, C) is the convolution's output, rows = B x height x width of it, C its stored channels; u (pooled, C) is z after
   pooling, z itself if there is none; a = relu(gamma (u - mean) r + beta) is the activation, r = 1 / sqrt(var + epsilon).
   In both orders of norm and pool a block is: statistics (of z, or of u if the pool comes first), pooling, then a.  Norm before
   pool picks the same position as pool before norm except in channels with gamma < 0, where the smallest z is picked, and with
   gamma = 0, where the first is.

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
    int32_t *argmax;               /* (pooled, C) index in the window, row * 2 pool + column */
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

/* A band: one line of the pool's windows in one image: its image, its first line and its positions in z, its first pooled row, and
   where it begins in z. */
typedef struct { int32_t image, line, positions, row; ptrdiff_t z; } band_t;
INLINE int32_t bands(const block_t *k) { return k->shape.pool_height * (k->pooled / k->image); }
INLINE band_t band_at(const block_t *k, int32_t i)
{
    const rk_block *s = &k->shape;
    const int32_t image = i / s->pool_height, line = (i - image * s->pool_height) * s->pool, width = s->conv.out_width;
    return (band_t){image, line, min_i(s->pool, s->conv.out_height - line) * width, i * s->pool_width,
                    ((ptrdiff_t)image * s->conv.out_height + line) * width * k->channels};
}

/* The rows that the forward pass takes moments of together: those of a band, of a chunk of the convolution, or if the pool comes
   first CHUNK_ROWS of u; their number, and the rows of chunk i. */
INLINE int32_t moment_chunks(const block_t *k)
{
    const int pool_first = pools(k) && k->shape.pool_first;
    return k->banded ? bands(k) : pool_first ? row_chunks(k->pooled) : k->conv.forward.chunks;
}
INLINE int32_t moment_rows(const block_t *k, int32_t i)
{
    if (pools(k) && k->shape.pool_first) return k->banded ? k->shape.pool_width : min_i(CHUNK_ROWS, k->pooled - i * CHUNK_ROWS);
    return k->banded ? band_at(k, i).positions : k->conv.forward.chunk[i].positions;
}

/* Merge the moments of all chunks for lanes c .. (Chan, Golub & LeVeque 1979), then mean and r. */
LOCAL void block_statistics(const block_t *k, int32_t c)
{
    vec mean = load(k->partials + c), squares = load(k->partials + k->channels + c);
    float n = (float)moment_rows(k, 0);
    for (int32_t i = 1; i < moment_chunks(k); i++) {
        const float count = (float)moment_rows(k, i);
        const float *of_chunk = k->partials + (ptrdiff_t)i * 2 * k->channels + c; /* partials[i, :, c] */
        const vec d = load(of_chunk) - mean;
        squares += load(of_chunk + k->channels) + d * d * splat(n * count / (n + count));
        n += count;
        mean += d * splat(count / n);
    }
    store(k->mean + c, mean);
    for (int32_t i = 0; i < LANES; i++) k->r[c + i] = 1.0f / sqrtf(squares[i] / n + k->shape.epsilon);
}

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

/* z_bar of rows from .. to - 1 if there is no pool: gamma r (y_bar - mean(y_bar) - xhat mean(xhat y_bar)).
   Here m1 is mean(y_bar), and m2 is r mean(xhat y_bar), because xhat = (z - mean) r. */
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

#endif
