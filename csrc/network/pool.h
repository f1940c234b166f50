/* Pooling: of each window the z whose y is largest (sign_at: the largest z, the smallest or the first), and z_bar from u_bar or
   y_bar at the argmax. */

#ifndef RK_POOL_H
#define RK_POOL_H

#include "network/block.h"

/* A window of the pool, clipped to the image: rows x cols pixels of z, the first at z[first], with index `index` in the unclipped
   window; the indices of a line follow those of the line above by `line`; pixels are `step` floats apart, lines `pitch`. */
typedef struct { ptrdiff_t first; int32_t rows, cols, index, line, step, pitch; } window_t;

/* The window of pooled row `row`.  With `rest` the last window of a line also has the pixels to its right, and the windows of the
   last line those below them, if they are in no window.  Such pixels get indices that no pixel of a window has. */
INLINE window_t window_of(const block_t *k, int32_t row, const int rest)
{
    const rk_block *s = &k->shape;
    const int32_t line = row / s->pool_width, image = line / s->pool_height;
    const int32_t window_y = line - image * s->pool_height, window_x = row - line * s->pool_width;
    const int32_t y = window_y * s->pool - s->pool_top, x = window_x * s->pool - s->pool_left;
    const int32_t top = max_i(y, 0), left = max_i(x, 0);
    const int last_y = rest && window_y == s->pool_height - 1, last_x = rest && window_x == s->pool_width - 1;
    const int32_t bottom = last_y ? s->conv.out_height : min_i(y + s->pool, s->conv.out_height);
    const int32_t right = last_x ? s->conv.out_width : min_i(x + s->pool, s->conv.out_width);
    return (window_t){(((ptrdiff_t)image * s->conv.out_height + top) * s->conv.out_width + left) * k->channels,
                      bottom - top, right - left, (top - y) * 2 * s->pool + left - x, 2 * s->pool,
                      k->channels, s->conv.out_width * k->channels};
}
/* body at every pixel of a window, for the channels from `c` on (a variable of the caller), with `at` (z[image, wy, wx, c]) and its
   `index`; a whole 2 x 2 window is unrolled */
#define RK_EACH_IN(w, body)                                      \
    if ((w).rows == 2 && (w).cols == 2) RK_EACH_INDEX(w, 2, 2, body) \
    else RK_EACH_INDEX(w, (w).rows, (w).cols, body)
#define RK_EACH_INDEX(w, height, width, body)                                      \
    for (int32_t wy = 0; wy < height; wy++)                                    \
        for (int32_t wx = 0; wx < width; wx++) {                               \
            const ptrdiff_t at = (w).first + wy * (w).pitch + wx * (w).step + c;  \
            const ivec index = splat_i((w).index + wy * (w).line + wx);        \
            body                                                               \
        }

/* The sign of gamma at LANES channels: 1: the pool takes the largest z, -1: the smallest, 0: the first, because
   all y are equal.  Always 1 if the pool comes first. */
INLINE vec sign_at(const block_t *k, int32_t c)
{
    const vec gamma = load(k->gamma + c), one = splat(1.0f);
    return k->shape.pool_first ? one : keep(gamma > zero(), one) - keep(gamma < zero(), one);
}

/* The number of windows (of window_of) from pooled row `row` on, before row `to`, that are whole, 2 x 2 and side by side; 0 if the
   first is not. */
INLINE int32_t whole_windows(const block_t *k, int32_t row, int32_t to, const int rest)
{
    const rk_block *s = &k->shape;
    const int32_t line = row / s->pool_width, column = row - line * s->pool_width, window_y = line % s->pool_height;
    const int32_t y = window_y * 2 - s->pool_top, end = s->conv.out_width + s->pool_left;
    if (s->pool != 2 || y < 0 || y + 2 > s->conv.out_height || column * 2 < s->pool_left) return 0;
    if (rest && window_y == s->pool_height - 1 && y + 2 < s->conv.out_height) return 0;
    const int last_is_wider = rest && s->pool_width * 2 < end;
    return max_i(0, min_i(to - row, (last_is_wider ? s->pool_width - 1 : end / 2) - column));
}

/* visit(window, k, row, windows, ...) for all windows (of window_of) of pooled rows from .. to - 1: whole 2 x 2 ones (a constant)
   side by side, the others one by one. */
#define RK_EACH_WINDOW(visit, k, from, to, rest, ...)                           \
    for (int32_t row = (from), whole; row < (to); row += max_i(whole, 1)) {     \
        window_t w = window_of(k, row, rest);                                   \
        whole = whole_windows(k, row, to, rest);                                \
        if (whole) w.rows = w.cols = 2, w.line = 4, w.index = 0;                \
        if (whole)                                                              \
            visit(w, k, row, whole, __VA_ARGS__);                               \
        else                                                                    \
            visit(w, k, row, 1, __VA_ARGS__);                                   \
    }

/* u and argmax of windows side by side, the first of them w, of pooled row `row`: the largest sign z of each, of equal ones
   the first. */
INLINE void pool_windows(window_t w, const block_t *k, int32_t row, int32_t windows, const float *z)
{
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
LOCAL void block_pool(const block_t *k, int32_t from, int32_t to) { RK_EACH_WINDOW(pool_windows, k, from, to, 0, k->z) }

/* z_bar of the rows under windows side by side, the first of them w, of pooled row `row`: as in block_back_plain, with y_bar (norm
   first) or u_bar (pool first, a constant) at the argmax, and zero elsewhere.  z_bar[0] belongs to z[origin]. */
INLINE void back_windows(window_t w, const block_t *k, int32_t row, int32_t windows, const int pool_first, ptrdiff_t origin,
                         float *z_bar)
{
    const vec share = splat(1.0f / (float)k->counted);
    for (int32_t panel = 0; panel < w.step; panel += PANEL) {
        const norm_t n[2] = {norm_at(k, panel), norm_at(k, panel + LANES)};
        const vec m1[2] = {load(k->m1 + panel) * share, load(k->m1 + panel + LANES) * share};
        const vec m2[2] = {load(k->m2 + panel) * share * n[0].r, load(k->m2 + panel + LANES) * share * n[1].r};
        const float *z = k->z, *a_bar = k->a_bar + (ptrdiff_t)row * w.step;
        const int32_t *argmax = k->argmax + (ptrdiff_t)row * w.step;
        window_t v = w;
        for (int32_t i = 0; i < windows; i++, v.first += 2 * v.step, a_bar += v.step, argmax += v.step) {
            RK_UNROLL
            for (int h = 0; h < 2; h++) {
                const int32_t c = panel + h * LANES;
                const ivec chosen = load_i(argmax + c);
                const vec above = load(a_bar + c);
                if (pool_first) {
                    vec best = zero();
                    RK_EACH_IN(v, { best = choose(chosen == index, load(z + at), best); })
                    const vec y_bar = keep(norm_y(&n[h], best) > zero(), above);
                    const vec u_bar = n[h].scale * (y_bar - m1[h] - (best - n[h].mean) * m2[h]);
                    RK_EACH_IN(v, { store(z_bar + (at - origin), keep(chosen == index, u_bar)); })
                } else {
                    RK_EACH_IN(v, {
                        const vec here = load(z + at);
                        const vec y_bar = keep((norm_y(&n[h], here) > zero()) & (chosen == index), above);
                        store(z_bar + (at - origin), n[h].scale * (y_bar - m1[h] - (here - n[h].mean) * m2[h]));
                    })
                }
            }
        }
    }
}

/* z_bar of the rows under pooled rows from .. to - 1, and of those in no window; z_bar[0] belongs to z[origin]. */
LOCAL void block_back_pooled(const block_t *k, int32_t from, int32_t to, ptrdiff_t origin, float *z_bar)
{
    if (k->shape.pool_first)
        RK_EACH_WINDOW(back_windows, k, from, to, 1, 1, origin, z_bar)
    else
        RK_EACH_WINDOW(back_windows, k, from, to, 1, 0, origin, z_bar)
}

/* z_bar of rows from .. to - 1 after pool and norm: pooled rows if there is a pool. */
LOCAL void block_back(const block_t *k, int32_t from, int32_t to)
{
    if (pools(k))
        block_back_pooled(k, from, to, 0, k->z_bar);
    else
        block_back_plain(k, from, to);
}

#endif
