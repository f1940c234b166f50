/* Winograd's minimal filtering F(2 x 2, 3 x 3) for 3 x 3 kernels at stride 1 (Lavin & Gray 2016).

   A patch d of 4 x 4 inputs gives 2 x 2 outputs y.  Transformed, channels meet in each of 16 places as in a product of
   matrices, with 2.25 times fewer multiplications than nine taps need:

     y     = A' (sum_c (G w_c G') . (B' d_c B)) A         forward; and the input adjoint, with w turned round
     w_bar = G' (sum_patches (B' d B) . (A y_bar A')) G   the weight adjoint

          | 1  0 -1  0 |        |  1   0   0  |
     B' = | 0  1  1  0 |    G = | 1/2 1/2 1/2 |    A' = | 1  1  1  0 |
          | 0 -1  1  0 |        | 1/2-1/2 1/2 |         | 0  1 -1 -1 |
          | 0  1  0 -1 |        |  0   0   1  |

   (' transposes.)  Every entry is 0, 1/2 or 1 but for its sign: small integers stay exact, and rounding grows by a small
   factor only, which the tests derive.  */

#ifndef RK_WINOGRAD_H
#define RK_WINOGRAD_H

#include "plan.h"

enum {
    PLACES = 16,
    PATCHES = TILE / 4, /* in a unit of work */
    WIDE = 64           /* channels transformed at a time */
};

/* Transformed inputs, outputs or adjoints: (PLACES, panels, PATCHES, PANEL).  One place of it stays in L1 while it is multiplied,
   and no cache line holds anything else than the panel. */
typedef float places_t[PLACES * PATCHES * WIDE];

INLINE void data_line(const vec d[4], vec v[4]) /* v = B' d */
{
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[1] - d[3];
}
INLINE void kernel_line(const vec w[3], vec u[4]) /* u = G w */
{
    const vec half = splat(0.5f), ends = half * (w[0] + w[2]), middle = half * w[1];
    u[0] = w[0];
    u[1] = ends + middle;
    u[2] = ends - middle;
    u[3] = w[2];
}
INLINE void kernel_line_back(const vec u[4], vec w[3]) /* w = G' u */
{
    const vec half = splat(0.5f), ends = half * (u[1] + u[2]);
    w[0] = u[0] + ends;
    w[1] = half * (u[1] - u[2]);
    w[2] = u[3] + ends;
}
INLINE void output_line(const vec m[4], vec y[2]) /* y = A' m */
{
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] - m[3];
}
INLINE void output_line_back(const vec y[2], vec m[4]) /* m = A y */
{
    m[0] = y[0];
    m[1] = y[0] + y[1];
    m[2] = y[0] - y[1];
    m[3] = zero() - y[1];
}

/* to (n, n) = T from T', where line() multiplies m numbers by T (n, m). */
#define RK_BOTH_AXES(line, m, n, from, to)                                    \
    do {                                                                      \
        vec half_way[m][n];                                                   \
        RK_UNROLL                                                             \
        for (int i = 0; i < m; i++) line((from)[i], half_way[i]);             \
        RK_UNROLL                                                             \
        for (int j = 0; j < n; j++) {                                         \
            vec column[m], column_to[n];                                      \
            RK_UNROLL                                                         \
            for (int i = 0; i < m; i++) column[i] = half_way[i][j];           \
            line(column, column_to);                                          \
            RK_UNROLL                                                         \
            for (int i = 0; i < n; i++) (to)[i][j] = column_to[i];            \
        }                                                                     \
    } while (0)

/* The plan: positions patch by patch, of each patch the outputs that lie inside the image; tiles of up to PATCHES patches. */
LOCAL void winograd_fill(plan_t *p, const axis_t *y, const axis_t *x, int32_t batch, int32_t in, int32_t pitch, int32_t out)
{
    int32_t rows = 0, patches = 0;
    for (int32_t b = 0; b < batch; b++) {
        for (int32_t dy = 0; dy < y->n; dy += 2) {
            for (int32_t dx = 0; dx < x->n; dx += 2, patches++) {
                const int32_t fy = reach(y, dy).first, fx = reach(x, dx).first;
                const int32_t height = min_i(2, y->n - dy), width = min_i(2, x->n - dx);
                if (p->patch) /* in[b, fy, fx, 0] */
                    p->patch[patches] = (patch_t){b * pitch + (fy * x->sources + fx) * in, rows, height, width,
                                                  max_i(0, -fy), min_i(4, y->sources - fy), max_i(0, -fx), min_i(4, x->sources - fx)};
                for (int32_t i = 0; i < height; i++)
                    for (int32_t j = 0; j < width; j++, rows++)
                        if (p->to) p->to[rows] = ((b * y->n + dy + i) * x->n + dx + j) * out; /* out[b, dy + i, dx + j, 0] */
            }
        }
    }
    const int32_t unit = even_unit(patches, PATCHES);
    p->rows = rows;
    p->patches = patches;
    p->tiles = ceil_div(patches, unit);
    p->step = in;
    p->line = x->sources * in;
    for (int32_t i = 0; p->tile && i < p->tiles; i++) {
        const int32_t first = i * unit, end = min_i(first + unit, patches), row = p->patch[first].row;
        p->tile[i] = (tile_t){first, end - first, row, (end < patches ? p->patch[end].row : rows) - row};
    }
}

/* u (PLACES, rows, PANEL) = G w G' of a panel that is packed tap by tap, w (3, 3, rows, PANEL). */
LOCAL void winograd_kernel(const float *w, int32_t rows, float *u)
{
    const ptrdiff_t size = (ptrdiff_t)rows * PANEL;
    for (ptrdiff_t at = 0; at < size; at += LANES) {
        vec from[3][3], to[4][4];
        for (int t = 0; t < 9; t++) from[t / 3][t % 3] = load(w + t * size + at);
        RK_BOTH_AXES(kernel_line, 3, 4, from, to);
        for (int t = 0; t < PLACES; t++) store(u + t * size + at, to[t / 4][t % 4]);
    }
}

/* LANES elements of w_bar (3, 3, size) = G' u_bar G. */
LOCAL void winograd_kernel_back(vec u_bar[4][4], float *w_bar, ptrdiff_t size)
{
    vec to[3][3];
    RK_BOTH_AXES(kernel_line_back, 4, 3, u_bar, to);
    for (int t = 0; t < 9; t++) store(w_bar + t * size, to[t / 3][t % 3]);
}

/* The inputs of a patch, zeros outside the image; whole (a constant): all of it is inside. */
INLINE void load_patch(const int whole, const plan_t *p, const patch_t *patch, const float *in, vec d[4][4])
{
    RK_UNROLL
    for (int i = 0; i < 4; i++) {
        RK_UNROLL
        for (int j = 0; j < 4; j++) {
            const int inside = i >= patch->top && i < patch->bottom && j >= patch->left && j < patch->right;
            d[i][j] = whole || inside ? load(in + ((ptrdiff_t)patch->base + i * p->line + j * p->step)) : zero();
        }
    }
}

/* v = B' d B of the first `channels` channels of in. */
LOCAL void winograd_inputs(const plan_t *p, const patch_t *patch, int32_t patches, const float *in, int32_t channels, float *v)
{
    const ptrdiff_t size = (ptrdiff_t)channels * PATCHES; /* of a place */
    for (int32_t k = 0; k < patches; k++, patch++) {
        const int whole = patch->top == 0 && patch->left == 0 && patch->bottom == 4 && patch->right == 4;
        for (int32_t c = 0; c < channels; c += LANES) {
            vec d[4][4], to[4][4];
            if (whole)
                load_patch(1, p, patch, in + c, d);
            else
                load_patch(0, p, patch, in + c, d);
            RK_BOTH_AXES(data_line, 4, 4, d, to);
            float *vk = v + (c / PANEL * PATCHES + k) * PANEL + c % PANEL; /* v[0, panel, k, c] */
            RK_UNROLL
            for (int t = 0; t < PLACES; t++) store(vk + t * size, to[t / 4][t % 4]);
        }
    }
}

/* out = start + A' m A at `columns` columns of the patches' positions. */
LOCAL void winograd_outputs(const plan_t *p, const patch_t *patch, int32_t patches, const float *m, int32_t columns, start_t start,
                            const float *bias, float *out)
{
    const ptrdiff_t size = (ptrdiff_t)columns * PATCHES; /* of a place */
    for (int32_t k = 0; k < patches; k++, patch++) {
        const int32_t *to = p->to + patch->row;
        for (int32_t c = 0; c < columns; c += LANES) {
            const float *mk = m + (c / PANEL * PATCHES + k) * PANEL + c % PANEL; /* m[0, panel, k, c] */
            vec from[4][4], y[2][2];
            RK_UNROLL
            for (int t = 0; t < PLACES; t++) from[t / 4][t % 4] = load(mk + t * size);
            RK_BOTH_AXES(output_line, 4, 2, from, y);
            RK_UNROLL
            for (int t = 0; t < 4; t++) {
                if (t / 2 >= patch->height || t % 2 >= patch->width) continue;
                float *here = out + to[t / 2 * patch->width + t % 2] + c;
                store(here, y[t / 2][t % 2] + (start == FROM_ZERO ? zero() : load(start == FROM_BIAS ? bias + c : here)));
            }
        }
    }
}

/* m = A y_bar A' of the first `columns` columns of y_bar. */
LOCAL void winograd_outputs_back(const plan_t *p, const patch_t *patch, int32_t patches, const float *y_bar, int32_t columns,
                                 float *m)
{
    const ptrdiff_t size = (ptrdiff_t)columns * PATCHES; /* of a place */
    for (int32_t k = 0; k < patches; k++, patch++) {
        const int32_t *at = p->to + patch->row;
        for (int32_t c = 0; c < columns; c += LANES) {
            vec y[2][2], to[4][4];
            RK_UNROLL
            for (int t = 0; t < 4; t++)
                y[t / 2][t % 2] =
                    t / 2 < patch->height && t % 2 < patch->width ? load(y_bar + at[t / 2 * patch->width + t % 2] + c) : zero();
            RK_BOTH_AXES(output_line_back, 2, 4, y, to);
            float *mk = m + (c / PANEL * PATCHES + k) * PANEL + c % PANEL; /* m[0, panel, k, c] */
            RK_UNROLL
            for (int t = 0; t < PLACES; t++) store(mk + t * size, to[t / 4][t % 4]);
        }
    }
}

/* Where the patches of one panel and place begin. */
LOCAL void panel_rows(int32_t *at)
{
    for (int32_t k = 0; k < PATCHES; k++) at[k] = k * PANEL;
}

/* A tile of out, up to WIDE columns; u (panels, PLACES, channels, PANEL): their weights. */
LOCAL void winograd_tile(const plan_t *p, const tile_t *tile, const float *in, const float *u, int32_t columns, start_t start,
                         const float *bias, float *out)
{
    places_t v, m;
    int32_t at[PATCHES];
    panel_rows(at);
    const int32_t channels = p->step, patches = tile->runs, blocks = ceil_div(patches, ROWS);
    const patch_t *patch = p->patch + tile->run;
    for (int32_t from = 0; from < channels; from += WIDE) {
        const int32_t depth = min_i(WIDE, channels - from);
        winograd_inputs(p, patch, patches, in + from, depth, v);
        for (int32_t place = 0; place < PLACES; place++) {
            run_t run[WIDE / PANEL];
            for (int32_t c = 0; c < depth; c += PANEL) run[c / PANEL] = (run_t){c * PATCHES, place * channels + from + c, PANEL};
            for (int32_t j = 0; j < columns; j += PANEL) {
                float *mj = m + (place * columns + j) * PATCHES; /* m[place, j] */
                for (int32_t b = 0, row = 0, end; b < blocks; b++, row = end) {
                    end = patches * (b + 1) / blocks;
                    contract_block(end - row, v + place * depth * PATCHES, at + row, run, depth / PANEL,
                                   u + (ptrdiff_t)j * PLACES * channels, from ? FROM_OUT : FROM_ZERO, NULL, mj, at + row);
                }
            }
        }
    }
    winograd_outputs(p, patch, patches, m, columns, start, bias, out);
}

/* u_bar (PLACES, channels, out) += the products of patches from..to. */
LOCAL void winograd_weight(const plan_t *p, int32_t from, int32_t to, const float *x, const float *y_bar, int32_t out, float *u_bar)
{
    places_t v, m;
    int32_t at[PATCHES];
    panel_rows(at);
    const int32_t channels = p->step, unit = even_unit(max_i(1, to - from), PATCHES);
    for (int32_t first = from; first < to; first += unit) {
        const int32_t patches = min_i(unit, to - first);
        const patch_t *patch = p->patch + first;
        for (int32_t column = 0; column < out; column += WIDE) {
            const int32_t columns = min_i(WIDE, out - column);
            winograd_outputs_back(p, patch, patches, y_bar + column, columns, m);
            for (int32_t channel = 0; channel < channels; channel += WIDE) {
                const int32_t depth = min_i(WIDE, channels - channel);
                winograd_inputs(p, patch, patches, x + channel, depth, v);
                for (int32_t place = 0; place < PLACES; place++)
                    for (int32_t i = 0; i < depth; i += PANEL)
                        for (int32_t j = 0; j < columns; j += PANEL)
                            weight_rows(PANEL, v + (place * depth + i) * PATCHES, at, m + (place * columns + j) * PATCHES, PANEL,
                                        at, patches, u_bar + ((ptrdiff_t)place * channels + channel + i) * out + column + j, out);
            }
        }
    }
}

#endif
