/* 3 x 3 convolutions by patches, with fewer products than nine taps need (Winograd 1980; Lavin & Gray 2016).

     y     = A' (sum_c (B' d_c B) . (G w_c G')) A            forward, and the input adjoint
     w_bar = G' (sum_patches (B' d B) . (A y_bar A')) G      the weight adjoint

   with the matrices of filter.h; ' transposes, and . pairs each value with the weight that it meets.  In each of those
   pairs channels meet as in a product of matrices: contract.h again.  */

#ifndef RK_WINOGRAD_H
#define RK_WINOGRAD_H

#include "conv/winograd_plan.h"

enum {
    WIDE = 64,       /* channels transformed at a time */
    CACHE_LINE = 16  /* floats between the pairs below: without it all pairs of a patch fall into the same two sets of L1 */
};

/* Values, or sums, of both axes: pairs (panels, PATCHES, PANEL).  One of them stays in L1 while it is multiplied, and no cache
   line holds anything else than the panel. */
typedef float pairs_t[MOST * MOST * (PATCHES * WIDE + CACHE_LINE)];
LOCAL ptrdiff_t pair_size(int32_t channels) { return (ptrdiff_t)channels * PATCHES + CACHE_LINE; }

/* f(filtering, ...) with a constant filtering: one of forward plans, or any */
#define RK_FORWARD(f, filtering, ...) ((filtering) == STRIDE_1 ? f(STRIDE_1, __VA_ARGS__) : f(STRIDE_2, __VA_ARGS__))
#define RK_FILTERED(f, filtering, ...) \
    ((filtering) == STRIDE_2_BACK ? f(STRIDE_2_BACK, __VA_ARGS__) : RK_FORWARD(f, filtering, __VA_ARGS__))

LOCAL void winograd_weights(filtering_t f, const float *w, ptrdiff_t size, float *u, ptrdiff_t distance)
{
    RK_FILTERED(filter_weights, f, w, size, u, distance);
}
LOCAL void winograd_weights_back(filtering_t f, vec u_bar[WEIGHTS][WEIGHTS], float *w_bar, ptrdiff_t size)
{
    RK_FORWARD(filter_weights_back, f, u_bar, w_bar, size);
}

/* The sources of a patch, zeros outside the image; whole (a constant): all of it is inside. */
INLINE void load_patch(const int whole, const int reads, const plan_t *p, const patch_t *patch, const float *in, vec d[MOST][MOST])
{
    RK_UNROLL
    for (int i = 0; i < reads; i++) {
        RK_UNROLL
        for (int j = 0; j < reads; j++) {
            const int inside = i >= patch->y.low && i < patch->y.high && j >= patch->x.low && j < patch->x.high;
            d[i][j] = whole || inside ? load(in + ((ptrdiff_t)patch->base + i * p->line + j * p->step)) : zero();
        }
    }
}

/* v = B' d B of the first `channels` channels of in. */
INLINE void patch_values(const filtering_t f, const plan_t *p, const patch_t *patch, int32_t patches, const float *in, int32_t channels,
                         float *v)
{
    const int reads = FILTERS[f].reads, values = FILTERS[f].values;
    const ptrdiff_t size = pair_size(channels);
    for (int32_t k = 0; k < patches; k++, patch++) {
        const int whole = patch->y.low == 0 && patch->x.low == 0 && patch->y.high == reads && patch->x.high == reads;
        for (int32_t c = 0; c < channels; c += LANES) {
            vec d[MOST][MOST], to[MOST][MOST];
            if (whole)
                load_patch(1, reads, p, patch, in + c, d);
            else
                load_patch(0, reads, p, patch, in + c, d);
            RK_BOTH_AXES(value_line, f, reads, values, d, to);
            float *vk = v + (c / PANEL * PATCHES + k) * PANEL + c % PANEL; /* v[0, panel, k, c] */
            RK_UNROLL
            for (int t = 0; t < values * values; t++)
                if (!is_copy(FILTERS + f, t / values) || !is_copy(FILTERS + f, t % values))
                    store(vk + t * size, to[t / values][t % values]);
        }
    }
}
LOCAL void winograd_values(const plan_t *p, const patch_t *patch, int32_t patches, const float *in, int32_t channels, float *v)
{
    RK_FILTERED(patch_values, p->filtering, p, patch, patches, in, channels, v);
}

/* The destinations of a patch; whole (a constant): all of them are inside the image. */
INLINE void store_patch(const int whole, const int makes, const plan_t *p, const patch_t *patch, vec y[MOST][MOST], start_t start,
                        const float *bias, float *out)
{
    const int32_t *to = p->to + patch->row, width = whole ? makes : patch->x.end - patch->x.from;
    const int32_t top = whole ? 0 : patch->y.from, left = whole ? 0 : patch->x.from;
    RK_UNROLL
    for (int i = 0; i < makes; i++) {
        RK_UNROLL
        for (int j = 0; j < makes; j++) {
            if (!whole && (i < top || i >= patch->y.end || j < left || j >= patch->x.end)) continue;
            float *here = out + to[(i - top) * width + j - left];
            store(here, y[i][j] + (start == FROM_ZERO ? zero() : load(start == FROM_BIAS ? bias : here)));
        }
    }
}

/* out = start + A' m A at `columns` columns of the patches' positions. */
INLINE void patch_makes(const filtering_t f, const plan_t *p, const patch_t *patch, int32_t patches, const float *m, int32_t columns,
                        start_t start, const float *bias, float *out)
{
    const int sums = FILTERS[f].sums, makes = FILTERS[f].makes;
    const ptrdiff_t size = pair_size(columns);
    for (int32_t k = 0; k < patches; k++, patch++) {
        const int whole = patch->y.from == 0 && patch->x.from == 0 && patch->y.end == makes && patch->x.end == makes;
        for (int32_t c = 0; c < columns; c += LANES) {
            const float *mk = m + (c / PANEL * PATCHES + k) * PANEL + c % PANEL; /* m[0, panel, k, c] */
            vec from[MOST][MOST], y[MOST][MOST];
            RK_UNROLL
            for (int t = 0; t < sums * sums; t++) from[t / sums][t % sums] = load(mk + t * size);
            RK_BOTH_AXES(made_line, f, sums, makes, from, y);
            if (whole)
                store_patch(1, makes, p, patch, y, start, start == FROM_BIAS ? bias + c : NULL, out + c);
            else
                store_patch(0, makes, p, patch, y, start, start == FROM_BIAS ? bias + c : NULL, out + c);
        }
    }
}
LOCAL void winograd_makes(const plan_t *p, const patch_t *patch, int32_t patches, const float *m, int32_t columns, start_t start,
                          const float *bias, float *out)
{
    RK_FILTERED(patch_makes, p->filtering, p, patch, patches, m, columns, start, bias, out);
}

/* m = A y_bar A' of the first `columns` columns of y_bar. */
INLINE void patch_makes_back(const filtering_t f, const plan_t *p, const patch_t *patch, int32_t patches, const float *y_bar,
                             int32_t columns, float *m)
{
    const int sums = FILTERS[f].sums;
    const ptrdiff_t size = pair_size(columns);
    for (int32_t k = 0; k < patches; k++, patch++) {
        const int32_t *at = p->to + patch->row, width = patch->x.end - patch->x.from;
        for (int32_t c = 0; c < columns; c += LANES) {
            vec y[2][2], to[MOST][MOST];
            RK_UNROLL
            for (int t = 0; t < 4; t++) {
                const int32_t i = t / 2 - patch->y.from, j = t % 2 - patch->x.from;
                const int inside = i >= 0 && t / 2 < patch->y.end && j >= 0 && t % 2 < patch->x.end;
                y[t / 2][t % 2] = inside ? load(y_bar + at[i * width + j] + c) : zero();
            }
            RK_BOTH_AXES(made_line_back, f, 2, sums, y, to);
            float *mk = m + (c / PANEL * PATCHES + k) * PANEL + c % PANEL; /* m[0, panel, k, c] */
            RK_UNROLL
            for (int t = 0; t < sums * sums; t++) store(mk + t * size, to[t / sums][t % sums]);
        }
    }
}
LOCAL void winograd_makes_back(const plan_t *p, const patch_t *patch, int32_t patches, const float *y_bar, int32_t columns, float *m)
{
    RK_FORWARD(patch_makes_back, p->filtering, p, patch, patches, y_bar, columns, m);
}

/* A tile of out, up to WIDE columns; u (panels, PLACES, channels, PANEL): their weights. */
LOCAL void winograd_tile(const plan_t *p, const tile_t *tile, const float *in, const float *u, int32_t columns, start_t start,
                         const float *bias, float *out)
{
    pairs_t v, m;
    int32_t at[PATCHES], base[PATCHES];
    const int32_t channels = p->step, patches = tile->runs, blocks = ceil_div(patches, ROWS), sums = FILTERS[p->filtering].sums;
    const patch_t *patch = p->patch + tile->run;
    const class_t *class = p->class + patch->class;
    for (int32_t k = 0; k < patches; k++) {
        at[k] = k * PANEL;
        base[k] = patch[k].base;
    }
    for (int32_t from = 0; from < channels; from += WIDE) {
        const int32_t depth = min_i(WIDE, channels - from);
        winograd_values(p, patch, patches, in + from, depth, v);
        for (int32_t s = 0, i = 0; s < sums * sums; s++) {
            run_t run[4 * WIDE / PANEL], copy[4]; /* two products of each axis make a sum, at most */
            int runs = 0, copies = 0;
            for (; i < class->pairs && class->by_sum[i].sum == s; i++) {
                const pair_t *pair = class->by_sum + i;
                const int32_t k = pair->weight * channels + from;
                if (pair->copy >= 0)
                    copy[copies++] = (run_t){pair->copy + from, k, depth};
                else
                    for (int32_t c = 0; c < depth; c += PANEL)
                        run[runs++] = (run_t){(int32_t)(pair->value * pair_size(depth)) + c * PATCHES, k + c, PANEL};
            }
            for (int32_t j = 0; j < columns; j += PANEL) {
                float *mj = m + s * pair_size(columns) + j * PATCHES; /* m[s, j] */
                const float *uj = u + (ptrdiff_t)j * PLACES * channels;
                for (int32_t b = 0, row = 0, end; b < blocks; b++, row = end) {
                    end = patches * (b + 1) / blocks;
                    if (runs || !copies)
                        contract_block(end - row, v, at + row, run, runs, uj, from ? FROM_OUT : FROM_ZERO, NULL, mj, at + row);
                    if (copies)
                        contract_block(end - row, in, base + row, copy, copies, uj, from || runs ? FROM_OUT : FROM_ZERO, NULL, mj,
                                       at + row);
                }
            }
        }
    }
    winograd_makes(p, patch, patches, m, columns, start, bias, out);
}

/* u_bar (PLACES, channels, out) += the products of patches from..to. */
LOCAL void winograd_weight(const plan_t *p, int32_t from, int32_t to, const float *x, const float *y_bar, int32_t out, float *u_bar)
{
    pairs_t v, m;
    int32_t base[PATCHES], value[4 * PATCHES], sum[4 * PATCHES]; /* two products of each axis meet one weight, at most */
    const int32_t channels = p->step;
    for (int32_t first = from, end; first < to; first = end) {
        const patch_t *patch = p->patch + first;
        for (end = first; end < to && end - first < PATCHES; end++) /* of one class */
            if (p->patch[end].class != patch->class) break;
        const int32_t patches = end - first;
        const class_t *class = p->class + patch->class;
        for (int32_t k = 0; k < patches; k++) base[k] = patch[k].base;
        for (int32_t column = 0; column < out; column += WIDE) {
            const int32_t columns = min_i(WIDE, out - column);
            winograd_makes_back(p, patch, patches, y_bar + column, columns, m);
            for (int32_t channel = 0; channel < channels; channel += WIDE) {
                const int32_t depth = min_i(WIDE, channels - channel);
                winograd_values(p, patch, patches, x + channel, depth, v);
                for (int32_t next = 0; next < class->pairs;) { /* all products of a weight */
                    const pair_t *pair = class->by_weight + next;
                    const int copies = pair->copy >= 0; /* all of them, or none */
                    int n = 0;
                    for (; next < class->pairs && class->by_weight[next].weight == pair->weight; next++) {
                        const pair_t *now = class->by_weight + next;
                        const int32_t v_now = (int32_t)(now->value * pair_size(depth)), m_now = (int32_t)(now->sum * pair_size(columns));
                        RK_INDEPENDENT
                        for (int32_t k = 0; k < patches; k++) {
                            value[n + k] = copies ? base[k] + now->copy : v_now + k * PANEL;
                            sum[n + k] = m_now + k * PANEL;
                        }
                        n += patches;
                    }
                    float *to_sum = u_bar + ((ptrdiff_t)pair->weight * channels + channel) * out + column;
                    for (int32_t i = 0; i < depth; i += PANEL)
                        for (int32_t j = 0; j < columns; j += PANEL)
                            weight_rows(PANEL, copies ? x + channel + i : v + i * PATCHES, value, m + j * PATCHES, PANEL, sum, n,
                                        to_sum + (ptrdiff_t)i * out + j, out);
                }
            }
        }
    }
}

#endif
