/* Plans by patches: the layout of 3 x 3 convolutions at strides 1 and 2 for winograd.h.

   Along each axis patches of sources make the destinations (filter.h).  A product whose value reads nothing inside the image, or
   whose destinations are outside, is left out: patches that need the same products are a class, and lie together.  */

#ifndef RK_PATCHES_H
#define RK_PATCHES_H

#include "conv/plan.h"

enum { PATCHES = TILE / 4 }; /* in a unit of work */

LOCAL filtering_t filtering_of(const axis_t *a) { return a->stride == 1 ? STRIDE_1 : a->adjoint ? STRIDE_2_BACK : STRIDE_2; }

LOCAL int32_t bits(int32_t from, int32_t end) { return from < end ? (1 << end) - (1 << from) : 0; }

/* The patch whose first destination is d; outside the image d is negative, or n and more.  At stride 1 nothing is left out: it
   would be one product in four at an odd border, and smaller classes cost more. */
LOCAL side_t side_at(const axis_t *a, int32_t d)
{
    const filter_t *f = FILTERS + filtering_of(a);
    const int32_t first = reach(a, d).first;
    side_t s = {first, max_i(0, -first), min_i(f->reads, a->sources - first), max_i(0, -d), min_i(f->makes, a->n - d), 0};
    const int32_t reads = bits(s.low, s.high), makes = bits(s.from, s.end);
    for (int32_t i = 0; i < f->products; i++)
        if (a->stride == 1 || (f->read[f->value[i]] & reads && f->made[i] & makes)) s.products |= 1 << i;
    return s;
}

/* Products that the patches from d on need, all together. */
LOCAL int32_t products_from(const axis_t *a, int32_t d)
{
    int32_t count = 0;
    for (; d < a->n; d += FILTERS[filtering_of(a)].makes)
        for (int32_t products = side_at(a, d).products; products; products &= products - 1) count++;
    return count;
}

/* The first patch's destination: one that begins the taps' period, at the image's border or half a patch outside it,
   whichever needs fewer products. */
LOCAL int32_t first_patch(const axis_t *a)
{
    const int32_t d = filtering_of(a) == STRIDE_2_BACK ? -(a->pad % 2) : 0, outside = d - FILTERS[filtering_of(a)].makes / 2;
    return products_from(a, outside) < products_from(a, d) ? outside : d;
}

/* Whether patches need at most 4/5 of the products that taps inside the image do: else the transforms cost more than they save. */
LOCAL int patches_pay(const axis_t *y, const axis_t *x)
{
    if (y->taps != 3 || x->taps != 3 || y->stride > 2) return 0;
    int64_t taps_y = 0, taps_x = 0;
    for (int32_t d = 0; d < y->n; d++) taps_y += reach(y, d).taps;
    for (int32_t d = 0; d < x->n; d++) taps_x += reach(x, d).taps;
    return 5 * (int64_t)products_from(y, first_patch(y)) * products_from(x, first_patch(x)) <= 4 * taps_y * taps_x;
}

/* The products of both axes that patches with sides y and x need, in order of what `key` says of them. */
LOCAL int32_t class_pairs(const plan_t *p, const side_t *y, const side_t *x, const int32_t *key, pair_t *pair)
{
    const filter_t *f = FILTERS + p->filtering;
    int32_t n = 0;
    for (int32_t k = 0; k < MOST * MOST; k++) {
        for (int32_t i = 0; i < f->products; i++) {
            if (key[i] != k / MOST || !(y->products >> i & 1)) continue;
            for (int32_t j = 0; j < f->products; j++) {
                if (key[j] != k % MOST || !(x->products >> j & 1)) continue;
                const int32_t vi = f->value[i], vj = f->value[j];
                const int copies = is_copy(f, vi) && is_copy(f, vj);
                pair[n++] = (pair_t){vi * f->values + vj, f->weight[i] * WEIGHTS + f->weight[j], f->sum[i] * f->sums + f->sum[j],
                                     copies ? copied_source(f, vi) * p->line + copied_source(f, vj) * p->step : -1};
            }
        }
    }
    return n;
}

/* The class of patches whose sides need the products y_products and x_products, after p->patches and p->rows: in the first image,
   then shifted for the rest. */
LOCAL void patches_class(plan_t *p, const axis_t *y, const axis_t *x, int32_t y_products, int32_t x_products, int32_t batch,
                          int32_t pitch, int32_t out)
{
    const int32_t makes = FILTERS[p->filtering].makes, first = p->patches, first_row = p->rows;
    for (int32_t dy = first_patch(y); dy < y->n; dy += makes) {
        const side_t sy = side_at(y, dy);
        if (sy.products != y_products) continue;
        for (int32_t dx = first_patch(x); dx < x->n; dx += makes) {
            const side_t sx = side_at(x, dx);
            if (sx.products != x_products) continue;
            if (p->patch) /* in[0, first_y, first_x, 0] */
                p->patch[p->patches] = (patch_t){p->classes, (sy.first * x->sources + sx.first) * p->step, p->rows, sy, sx};
            p->patches++;
            for (int32_t i = sy.from; i < sy.end; i++)
                for (int32_t j = sx.from; j < sx.end; j++, p->rows++)
                    if (p->to) p->to[p->rows] = ((dy + i) * x->n + dx + j) * out; /* out[0, dy + i, dx + j, 0] */
        }
    }
    const int32_t of_image = p->patches - first, rows = p->rows - first_row;
    p->patches += (batch - 1) * of_image;
    p->rows += (batch - 1) * rows;
    for (int32_t i = first + of_image; p->patch && i < p->patches; i++) {
        p->patch[i] = p->patch[i - of_image];
        p->patch[i].base += pitch;
        p->patch[i].row += rows;
    }
    for (int32_t i = first_row + rows; p->to && i < p->rows; i++) p->to[i] = p->to[i - rows] + y->n * x->n * out;
}

/* The plan: positions patch by patch, of each patch the destinations that lie inside the image; tiles of up to PATCHES patches
   of one class. */
LOCAL void patches_fill(plan_t *p, const axis_t *y, const axis_t *x, int32_t batch, int32_t in, int32_t pitch, int32_t out)
{
    const filter_t *f = FILTERS + filtering_of(y);
    uint32_t met_y = 0; /* a bit for each set of products that has its class */
    p->filtering = filtering_of(y);
    p->step = in;
    p->line = x->sources * in;
    p->rows = p->patches = p->tiles = p->classes = 0;
    for (int32_t dy = first_patch(y); dy < y->n; dy += f->makes) {
        const side_t sy = side_at(y, dy);
        if (met_y >> sy.products & 1) continue;
        met_y |= 1u << sy.products;
        uint32_t met_x = 0;
        for (int32_t dx = first_patch(x); dx < x->n; dx += f->makes) {
            const side_t sx = side_at(x, dx);
            if (met_x >> sx.products & 1) continue;
            met_x |= 1u << sx.products;
            const int32_t start = p->patches;
            patches_class(p, y, x, sy.products, sx.products, batch, pitch, out);
            if (p->class) {
                class_t *class = p->class + p->classes;
                class->pairs = class_pairs(p, &sy, &sx, f->sum, class->by_sum);
                class_pairs(p, &sy, &sx, f->weight, class->by_weight);
            }
            p->classes++;
            const int32_t unit = even_unit(p->patches - start, PATCHES);
            for (int32_t first = start; first < p->patches; first += unit, p->tiles++) {
                if (!p->tile) continue;
                const int32_t end = min_i(first + unit, p->patches), row = p->patch[first].row;
                p->tile[p->tiles] = (tile_t){first, end - first, row, (end < p->patches ? p->patch[end].row : p->rows) - row};
            }
        }
    }
}

#endif
