/* Plans by Winograd tiles, for 3 x 3 kernels at strides 1 and 2 (winograd.h).

   At the border of the image some products read padding only, or reach outputs outside the image only; they are left out.
   Tiles that need the same products form a class and are stored together.  */

#ifndef RK_WINOGRAD_PLAN_H
#define RK_WINOGRAD_PLAN_H

#include "conv/plan.h"

enum { CHUNK_TILES = CHUNK / 4 }; /* tiles in a chunk at most */

INLINE scheme_t scheme_of(const axis_t *a)
{
    if (a->stride == 1) return a->large ? STRIDE_1_LARGE : STRIDE_1;
    return a->adjoint ? STRIDE_2_ADJOINT : STRIDE_2;
}

/* The set from .. end - 1, one bit for each member. */
INLINE int32_t bits(int32_t from, int32_t end) { return from < end ? (1 << end) - (1 << from) : 0; }

/* The tile whose first output is d, along one axis; d < 0 or d >= n is outside the image.  At stride 1 all products are kept:
   at an odd border only one in four could be left out, and smaller classes would cost more. */
LOCAL tile_axis_t tile_axis(const axis_t *a, int32_t d)
{
    const transforms_t *f = TRANSFORMS + scheme_of(a);
    const int32_t first = reach(a, d).first;
    tile_axis_t t = {first, max_i(0, -first), min_i(f->inputs, a->sources - first), max_i(0, -d), min_i(f->outputs, a->n - d), 0};
    const int32_t inputs = bits(t.in_low, t.in_high), outputs = bits(t.out_low, t.out_high);
    for (int32_t i = 0; i < f->products; i++)
        if (a->stride == 1 || (f->reads[f->input[i]] & inputs && f->feeds[i] & outputs)) t.products |= 1 << i;
    return t;
}

/* The number of products that the tiles from output d on need. */
LOCAL int32_t products_from(const axis_t *a, int32_t d)
{
    int32_t count = 0;
    for (; d < a->n; d += TRANSFORMS[scheme_of(a)].outputs)
        for (int32_t products = tile_axis(a, d).products; products; products &= products - 1) count++;
    return count;
}

/* The first tile's first output: at the image's border, or half a tile outside it, whichever needs fewer products.  (The adjoint of
   stride 2 reads other taps at every second output; its first tile begins where this alternation begins.) */
LOCAL int32_t first_tile(const axis_t *a)
{
    const int32_t d = scheme_of(a) == STRIDE_2_ADJOINT ? -(a->pad % 2) : 0, outside = d - TRANSFORMS[scheme_of(a)].outputs / 2;
    return products_from(a, outside) < products_from(a, d) ? outside : d;
}

/* Whether tiles need at most 4/5 of the products that taps inside the image need: else the transforms cost more than they save. */
LOCAL int winograd_pays(const axis_t *y, const axis_t *x)
{
    if (y->taps != 3 || x->taps != 3 || y->stride > 2) return 0;
    int64_t taps_y = 0, taps_x = 0;
    for (int32_t d = 0; d < y->n; d++) taps_y += reach(y, d).taps;
    for (int32_t d = 0; d < x->n; d++) taps_x += reach(x, d).taps;
    return 5 * (int64_t)products_from(y, first_tile(y)) * products_from(x, first_tile(x)) <= 4 * taps_y * taps_x;
}

/* Whether tiles of 4 x 4 outputs need at most 4/5 of the products of those of 2 x 2, at stride 1. */
LOCAL int large_pays(const axis_t *y, const axis_t *x)
{
    axis_t large_y = *y, large_x = *x;
    large_y.large = large_x.large = 1;
    return 5 * (int64_t)products_from(&large_y, first_tile(&large_y)) * products_from(&large_x, first_tile(&large_x)) <=
           4 * (int64_t)products_from(y, first_tile(y)) * products_from(x, first_tile(x));
}

/* The products of both axes that tiles y and x need, ordered by (key[i], key[j]) of the products i and j of the two axes. */
LOCAL int32_t class_products(const plan_t *p, const tile_axis_t *y, const tile_axis_t *x, const int32_t *key, product_t *product)
{
    const transforms_t *f = TRANSFORMS + p->scheme;
    int32_t n = 0;
    for (int32_t k = 0; k < MOST * MOST; k++) {
        for (int32_t i = 0; i < f->products; i++) {
            if (key[i] != k / MOST || !(y->products >> i & 1)) continue;
            for (int32_t j = 0; j < f->products; j++) {
                if (key[j] != k % MOST || !(x->products >> j & 1)) continue;
                const int32_t vi = f->input[i], vj = f->input[j];
                const int copies = is_copy(f, vi) && is_copy(f, vj);
                product[n++] =
                    (product_t){vi * f->transformed + vj, f->filter[i] * f->points + f->filter[j], f->sum[i] * f->sums + f->sum[j],
                                copies ? copied_input(f, vi) * p->line + copied_input(f, vj) * p->pixel : -1};
            }
        }
    }
    return n;
}

/* Append the tiles of the class that needs products_y and products_x, and their positions, in some images: those of the first
   image, then shifted copies for the rest; class: its number. */
LOCAL void winograd_plan_class(plan_t *p, int32_t class, const axis_t *y, const axis_t *x, int32_t products_y, int32_t products_x,
                               images_t images, int32_t pitch, int32_t out)
{
    const int32_t outputs = TRANSFORMS[p->scheme].outputs, start = images.first * pitch, first_x = first_tile(x);
    const int32_t first = p->tiles, first_position = p->positions;
    for (int32_t dy = first_tile(y); dy < y->n; dy += outputs) {
        const tile_axis_t ty = tile_axis(y, dy);
        if (ty.products != products_y) continue;
        for (int32_t dx = first_x; dx < x->n; dx += outputs) {
            const tile_axis_t tx = tile_axis(x, dx);
            if (tx.products != products_x) continue;
            if (p->tile) /* in[first, first_y, first_x, 0] */
                p->tile[p->tiles] =
                    (tile_t){class, start + (ty.first * x->sources + tx.first) * p->pixel, p->positions, ty, tx};
            p->tiles++;
            for (int32_t i = ty.out_low; i < ty.out_high; i++)
                for (int32_t j = tx.out_low; j < tx.out_high; j++, p->positions++)
                    if (p->to) /* out[first, dy + i, dx + j, 0] */
                        p->to[p->positions] = ((images.first * y->n + dy + i) * x->n + dx + j) * out;
        }
    }
    const int32_t of_image = p->tiles - first, positions = p->positions - first_position;
    p->tiles += (images.count - 1) * of_image;
    p->positions += (images.count - 1) * positions;
    for (int32_t i = first + of_image; p->tile && i < p->tiles; i++) {
        p->tile[i] = p->tile[i - of_image];
        p->tile[i].base += pitch;
        p->tile[i].position += positions;
    }
    for (int32_t i = first_position + positions; p->to && i < p->positions; i++)
        p->to[i] = p->to[i - positions] + y->n * x->n * out;
}

/* Append some images to a plan (append_t): tile by tile the outputs that lie inside the image; chunks of up to CHUNK_TILES tiles
   of one class.  All parts of the batch share their classes. */
LOCAL void winograd_plan(plan_t *p, const axis_t *y, const axis_t *x, images_t images, int32_t in, int32_t pitch, int32_t out)
{
    const transforms_t *f = TRANSFORMS + scheme_of(y);
    const int32_t first_x = first_tile(x);
    int32_t classes = 0;
    uint64_t met_y = 0; /* a bit for each set of products, of at most 6, whose class is laid out */
    p->scheme = scheme_of(y);
    p->pixel = in;
    p->line = x->sources * in;
    for (int32_t dy = first_tile(y); dy < y->n; dy += f->outputs) {
        const tile_axis_t ty = tile_axis(y, dy);
        if (met_y >> ty.products & 1) continue;
        met_y |= (uint64_t)1 << ty.products;
        uint64_t met_x = 0;
        for (int32_t dx = first_x; dx < x->n; dx += f->outputs) {
            const tile_axis_t tx = tile_axis(x, dx);
            if (met_x >> tx.products & 1) continue;
            met_x |= (uint64_t)1 << tx.products;
            const int32_t start = p->tiles;
            winograd_plan_class(p, classes, y, x, ty.products, tx.products, images, pitch, out);
            if (p->class && images.first == 0) {
                class_t *class = p->class + classes;
                class->products = class_products(p, &ty, &tx, f->sum, class->by_sum);
                class_products(p, &ty, &tx, f->filter, class->by_filter);
            }
            p->classes = ++classes;
            const int32_t piece = even_piece(p->tiles - start, CHUNK_TILES);
            for (int32_t first = start; first < p->tiles; first += piece, p->chunks++) {
                if (!p->chunk) continue;
                const int32_t end = min_i(first + piece, p->tiles), position = p->tile[first].position;
                p->chunk[p->chunks] =
                    (chunk_t){first, end - first, position, (end < p->tiles ? p->tile[end].position : p->positions) - position};
            }
        }
    }
}

#endif
