/* The tangents of a block, without its convolution: batch norm, relu and pooling, forward and backward.

   Arrays as in block.h; a tangent along v has the suffix _dot.  With slope = mean(xhat z_dot):
   xhat_dot = r (z_dot - mean(z_dot) - xhat slope) and r_dot = -r^2 slope.
   Terms marked * are second order: the adjoint is held fixed while activations and statistics vary.  */

#ifndef RK_BLOCK_DOT_H
#define RK_BLOCK_DOT_H

#include "network/pool.h"

/* u_dot of pooled rows from .. to - 1: z_dot at the argmax. */
LOCAL void block_pool_dot(const block_t *k, int32_t from, int32_t to)
{
    for (int32_t row = from; row < to; row++) {
        const window_t w = window_of(k, row, 0);
        for (int32_t c = 0; c < k->channels; c += LANES) {
            const ivec argmax = load_i(k->argmax + (ptrdiff_t)row * k->channels + c);
            vec u_dot = zero();
            RK_EACH_IN(w, { u_dot = choose(argmax == index, load(k->z_dot + at), u_dot); })
            store(k->u_dot + (ptrdiff_t)row * k->channels + c, u_dot);
        }
    }
}

/* Partial sums of z_dot and (z - mean) z_dot over rows from .. to - 1 of those that the statistics are taken over. */
LOCAL void block_sums_dot(const block_t *k, int32_t from, int32_t to, float *part)
{
    const int by_z = k->counted == k->rows;
    const float *z = by_z ? k->z : k->u, *z_dot = by_z ? k->z_dot : k->u_dot;
    for (int32_t c = 0; c < k->channels; c += LANES) {
        const vec mean = load(k->mean + c);
        vec sum = zero(), product = zero();
        for (int32_t row = from; row < to; row++) {
            const ptrdiff_t at = (ptrdiff_t)row * k->channels + c; /* z[row, c] */
            sum += load(z_dot + at);
            product += (load(z + at) - mean) * load(z_dot + at);
        }
        store(part + c, sum);
        store(part + k->channels + c, product);
    }
}

/* Merge the partial sums for lanes c ..: mean(z_dot), slope = mean(xhat z_dot), r_dot. */
LOCAL void block_statistics_dot(const block_t *k, int32_t c)
{
    const vec share = splat(1.0f / (float)k->counted), r = load(k->r + c);
    vec sum = zero(), product = zero();
    for (int32_t i = 0; i < row_chunks(k->counted); i++) {
        sum += load(k->partials + (ptrdiff_t)i * 2 * k->channels + c); /* partials[i, 0, c] */
        product += load(k->partials + (ptrdiff_t)(i * 2 + 1) * k->channels + c);
    }
    const vec slope = product * share * r;
    store(k->zm_dot + c, sum * share);
    store(k->slope + c, slope);
    store(k->r_dot + c, -r * r * slope);
}

/* The batch norm and its tangent at LANES channels, loaded once. */
typedef struct { norm_t norm; vec gamma, gamma_dot, beta_dot, zm_dot, slope, r_dot; } norm_dot_t;
INLINE norm_dot_t norm_dot_at(const block_t *k, int32_t c)
{
    return (norm_dot_t){norm_at(k, c), load(k->gamma + c), load(k->gamma_dot + c), load(k->beta_dot + c),
                        load(k->zm_dot + c), load(k->slope + c), load(k->r_dot + c)};
}
INLINE vec xhat_of(const norm_dot_t *s, vec z) { return (z - s->norm.mean) * s->norm.r; }
INLINE vec xhat_dot_of(const norm_dot_t *s, vec xhat, vec z_dot) { return (z_dot - s->zm_dot - xhat * s->slope) * s->norm.r; }

/* a_dot of pooled rows from .. to - 1: gamma_dot xhat + gamma xhat_dot + beta_dot if y > 0, else 0; the rows of one image at a
   time, for the gaps in a_dot. */
LOCAL void block_activate_dot(const block_t *k, int32_t from, int32_t to)
{
    for (int32_t row = from, end; row < to; row = end) {
        end = min_i(to, (row / k->image + 1) * k->image);
        for (int32_t c = 0; c < k->channels; c += LANES) {
            const norm_dot_t s = norm_dot_at(k, c);
            ptrdiff_t at = (ptrdiff_t)row * k->channels + c; /* u[row, c] */
            float *a_dot = activation(k, k->a_dot, row) + c;
            for (int32_t i = row; i < end; i++, at += k->channels, a_dot += k->channels) {
                const vec u = load(k->u + at), xhat = xhat_of(&s, u);
                const vec xhat_dot = xhat_dot_of(&s, xhat, load(k->u_dot + at));
                const vec y_dot = s.gamma * xhat_dot + s.gamma_dot * xhat + s.beta_dot;
                store(a_dot, keep(norm_y(&s.norm, u) > zero(), y_dot));
            }
        }
    }
}

/* For barrier_then: the tangents of all statistics of a block. */
LOCAL void finish_statistics_dot(void *block)
{
    const block_t *k = block;
    for (int32_t c = 0; c < k->channels; c += LANES) block_statistics_dot(k, c);
}

/* Partial sums over the pooled rows at to[0 .. rows - 1], panel c .., of the tangents of y_bar and xhat y_bar: y_bar_dot and
   xhat y_bar_dot + xhat_dot y_bar *. */
LOCAL void block_sums_back_dot(const block_t *k, const int32_t *to, int32_t rows, int32_t c, float *part)
{
    const norm_dot_t s[2] = {norm_dot_at(k, c), norm_dot_at(k, c + LANES)};
    vec sum_dot[2] = {zero(), zero()}, product_dot[2] = {zero(), zero()};
    for (int32_t i = 0; i < rows; i++) {
        RK_UNROLL
        for (int h = 0; h < 2; h++) {
            const ptrdiff_t at = (ptrdiff_t)to[i] + c + h * LANES; /* a_bar[row_i, c] */
            const vec u = load(k->u + at), xhat = xhat_of(&s[h], u);
            const ivec on = norm_y(&s[h].norm, u) > zero();
            const vec y_bar = keep(on, load(k->a_bar + at)), y_bar_dot = keep(on, load(k->a_bar_dot + at));
            sum_dot[h] += y_bar_dot;
            product_dot[h] += xhat * y_bar_dot + xhat_dot_of(&s[h], xhat, load(k->u_dot + at)) * y_bar;
        }
    }
    RK_UNROLL
    for (int h = 0; h < 2; h++) {
        store(part + c + h * LANES, sum_dot[h]);
        store(part + k->channels + c + h * LANES, product_dot[h]);
    }
}

/* z_bar and z_bar_dot of LANES floats, from y_bar, y_bar_dot, z and z_dot:
     q = y_bar - mean(y_bar) - xhat mean(xhat y_bar),  z_bar = gamma r q,
     z_bar_dot = gamma r q_dot + (gamma_dot r + gamma r_dot) q *.
   m1 ... m2_dot are means: block_t's sums divided by `counted`.  */
typedef struct { norm_dot_t norm; vec m1, m2, m1_dot, m2_dot; } back_dot_t;
INLINE void norm_back_dot(const back_dot_t *s, vec y_bar, vec y_bar_dot, vec z, vec z_dot, float *z_bar, float *z_bar_dot)
{
    const norm_dot_t *n = &s->norm;
    const vec xhat = xhat_of(n, z), xhat_dot = xhat_dot_of(n, xhat, z_dot);
    const vec q = y_bar - s->m1 - xhat * s->m2;
    const vec q_dot = y_bar_dot - s->m1_dot - xhat * s->m2_dot - xhat_dot * s->m2; /* last term * */
    store(z_bar, n->norm.scale * q);
    store(z_bar_dot, n->norm.scale * q_dot + (n->gamma_dot * n->norm.r + n->gamma * n->r_dot) * q);
}

/* For LANES channels, loaded once. */
INLINE back_dot_t back_dot_at(const block_t *k, int32_t c)
{
    const vec share = splat(1.0f / (float)k->counted);
    return (back_dot_t){norm_dot_at(k, c), load(k->m1 + c) * share, load(k->m2 + c) * share, load(k->m1_dot + c) * share,
                        load(k->m2_dot + c) * share};
}

/* z_bar, and z_bar_dot in place of z_dot, of rows from .. to - 1 if there is no pool. */
LOCAL void block_back_plain_dot(const block_t *k, int32_t from, int32_t to)
{
    for (int32_t c = 0; c < k->channels; c += LANES) {
        const back_dot_t s = back_dot_at(k, c);
        for (int32_t row = from; row < to; row++) {
            const ptrdiff_t at = (ptrdiff_t)row * k->channels + c; /* z[row, c] */
            const vec z = load(k->z + at);
            const ivec on = norm_y(&s.norm.norm, z) > zero();
            norm_back_dot(&s, keep(on, load(k->a_bar + at)), keep(on, load(k->a_bar_dot + at)), z, load(k->z_dot + at),
                          k->z_bar + at, k->z_dot + at);
        }
    }
}

/* The same of the rows under pooled rows from .. to - 1, and of those in no window. */
LOCAL void block_back_pooled_dot(const block_t *k, int32_t from, int32_t to)
{
    for (int32_t row = from; row < to; row++) {
        const window_t w = window_of(k, row, 1);
        for (int32_t c = 0; c < k->channels; c += LANES) {
            const ptrdiff_t here = (ptrdiff_t)row * k->channels + c; /* u[row, c] */
            const back_dot_t s = back_dot_at(k, c);
            const vec u = load(k->u + here);
            const ivec on = norm_y(&s.norm.norm, u) > zero(), argmax = load_i(k->argmax + here);
            const vec y_bar = keep(on, load(k->a_bar + here)), y_bar_dot = keep(on, load(k->a_bar_dot + here));
            if (k->shape.pool_first) {
                float u_bar[LANES], u_bar_dot[LANES];
                norm_back_dot(&s, y_bar, y_bar_dot, u, load(k->u_dot + here), u_bar, u_bar_dot);
                RK_EACH_IN(w, {
                    store(k->z_bar + at, keep(argmax == index, load(u_bar)));
                    store(k->z_dot + at, keep(argmax == index, load(u_bar_dot)));
                })
            } else {
                RK_EACH_IN(w, {
                    norm_back_dot(&s, keep(argmax == index, y_bar), keep(argmax == index, y_bar_dot), load(k->z + at),
                                  load(k->z_dot + at), k->z_bar + at, k->z_dot + at);
                })
            }
        }
    }
}

/* The tangent of block_back. */
LOCAL void block_back_dot(const block_t *k, int32_t from, int32_t to)
{
    if (pools(k))
        block_back_pooled_dot(k, from, to);
    else
        block_back_plain_dot(k, from, to);
}

#endif
