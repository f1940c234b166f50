/* Plans: which inputs meet which weights, worked out once per shape.

   Along one axis, destination d reads sources first + t for a stretch of taps t: forward these are the kernel's taps
   inside the image; for the input gradient they are the taps of d's stride phase, in falling order so that sources rise.
   Positions with the same stretch of row taps and of column taps form a class: one list of runs, no padding work.
   (3 x 3 kernels at strides 1 and 2 go by patches instead, where that needs fewer products: patches.h.)  */

#ifndef RK_PLAN_H
#define RK_PLAN_H

#include "core/gemm.h"
#include "conv/winograd_transforms.h"

enum {
    TILE = 96,  /* positions in a unit of work */
    GROUP = 48, /* weight rows in a unit of work, and ... */
    SPREAD = 4, /* ... panels: a tile of inputs, of output adjoints and of sums stay in L1 together */
    UNITS = 16, /* shares of a sum over all positions, where ... */
    MANY = 8    /* ... there are as many times more positions than weight rows */
};

/* Memory handed in by the caller, cut into pieces; with base NULL nothing is written and `used` is what is needed. */
typedef struct { char *base; size_t used; } arena_t;

/* The next `count` items of `size` bytes, aligned to a cache line; NULL while measuring. */
LOCAL void *take(arena_t *arena, size_t count, size_t size)
{
    const size_t at = arena->used;
    arena->used = (at + count * size + 63) / 64 * 64;
    return arena->base ? arena->base + at : NULL;
}
LOCAL float *take_floats(arena_t *arena, size_t count) { return take(arena, count, sizeof(float)); }

/* One axis of a convolution: forward (n outputs of `sources` inputs) or adjoint (n inputs of `sources` outputs). */
typedef struct { int32_t n, sources, taps, stride, pad, adjoint; } axis_t;
typedef struct { int32_t first, tap, taps; } reach_t; /* sources first + t for packed taps t = tap .. tap + taps - 1 */

/* The number of taps in stride phase f: f, f + stride, ... below taps. */
LOCAL int32_t phase_taps(const axis_t *a, int32_t f) { return f < a->taps ? (a->taps - 1 - f) / a->stride + 1 : 0; }

/* The kernel's own index of packed tap t (the inverse of the packed order). */
LOCAL int32_t tap_of(const axis_t *a, int32_t t)
{
    if (!a->adjoint) return t;
    int32_t f = 0;
    while (t >= phase_taps(a, f)) t -= phase_taps(a, f++);
    return f + a->stride * (phase_taps(a, f) - 1 - t);
}

/* What destination d reads. */
LOCAL reach_t reach(const axis_t *a, int32_t d)
{
    reach_t r;
    int32_t start = 0, end = a->taps;
    if (a->adjoint) { /* source (d + pad - k) / stride for the taps k of d's phase */
        const int32_t f = (d + a->pad) % a->stride;
        for (int32_t i = 0; i < f; i++) start += phase_taps(a, i);
        end = start + phase_taps(a, f);
        r.first = (d + a->pad) / a->stride - (end - 1);
    } else {
        r.first = d * a->stride - a->pad;
    }
    r.tap = max_i(start, -r.first);
    r.taps = max_i(0, min_i(end, a->sources - r.first) - r.tap);
    return r;
}

/* Whether d and e belong to one class; the first destination of d's class. */
LOCAL int same_class(const axis_t *a, int32_t d, int32_t e)
{
    const reach_t r = reach(a, d), s = reach(a, e);
    return r.tap == s.tap && r.taps == s.taps;
}
LOCAL int first_of_class(const axis_t *a, int32_t d)
{
    for (int32_t e = 0; e < d; e++)
        if (same_class(a, d, e)) return 0;
    return 1;
}

LOCAL int32_t class_size(const axis_t *a, int32_t d)
{
    int32_t size = 0;
    for (int32_t e = d; e < a->n; e++) size += same_class(a, d, e);
    return size;
}

/* Up to TILE positions, row .. row + rows: of one class, with its runs; or of patches run .. run + runs. */
typedef struct { int32_t run, runs, row, rows; } tile_t;
/* Consecutive positions; and weight rows row .. row + width, which meet the positions of some spans. */
typedef struct { int32_t row, rows; } span_t;
typedef struct { int32_t in, row, width, span, spans, rows; } strip_t;
/* By patches (patches.h).  Along one axis: of the sources that a patch reads, low .. high are inside the image, of the destinations
   it makes, from .. end; products: a bit for each that is needed.  Along both: its class, first source, first position. */
typedef struct { int32_t first, low, high, from, end, products; } side_t;
typedef struct { int32_t class, base, row; side_t y, x; } patch_t;
/* A product of both axes: where its value, weight and sum are; and if the value copies a source of the patch, the distance to it,
   else -1.  A class: all that its patches need, in order of the sums, and in order of the weights. */
typedef struct { int32_t value, weight, sum, copy; } pair_t;
typedef struct { int32_t pairs; pair_t by_sum[MOST * MOST], by_weight[MOST * MOST]; } class_t;

typedef struct {
    int32_t rows, runs, tiles;   /* rows: positions */
    int32_t *base, *to;          /* (rows,) floats: first input (by classes only) and output of each position */
    run_t *run;
    tile_t *tile;
    int32_t spans, strips;       /* forward, by classes */
    span_t *span;
    strip_t *strip;
    filtering_t filtering;       /* by patches */
    int32_t patches, classes;
    int32_t step, line;          /* floats from a source pixel to the next, and to the next line */
    patch_t *patch;
    class_t *class;
} plan_t;

/* Cut `rows` into even units of at most `limit`, whole register blocks where possible: the length of a unit. */
LOCAL int32_t even_unit(int32_t rows, int32_t limit)
{
    const int32_t unit = ceil_div(rows, ceil_div(rows, limit));
    return min_i(limit, ceil_div(unit, ROWS) * ROWS);
}

/* The strips of kernel row ty.  Positions lie column class by column class, in each class by rising row, so those that
   see ty are one span per column class.  Between two taps at which some class begins or ends, all taps meet the same
   spans; those stretches are cut into strips of at most GROUP weight rows. */
LOCAL void plan_strips(plan_t *p, const axis_t *y, const axis_t *x, int32_t batch, int32_t in, int32_t ty)
{
    int32_t low = 0, high = 0; /* output rows that see ty: an interval */
    for (int32_t dy = y->n - 1; dy >= 0; dy--) {
        const reach_t r = reach(y, dy);
        if (ty < r.tap || ty >= r.tap + r.taps) continue;
        low = dy;
        high = max_i(high, dy + 1);
    }
    for (int32_t tx = 0, end; tx < x->taps; tx = end) {
        end = x->taps;
        for (int32_t cx = 0; cx < x->n; cx++) { /* the next tap at which a class begins or ends */
            const reach_t r = reach(x, cx);
            if (r.taps && r.tap > tx) end = min_i(end, r.tap);
            if (r.taps && r.tap + r.taps > tx) end = min_i(end, r.tap + r.taps);
        }
        const int32_t first_span = p->spans;
        int32_t met = 0;
        for (int32_t cx = 0, start = 0; cx < x->n; cx++) {
            if (!first_of_class(x, cx)) continue;
            const reach_t r = reach(x, cx);
            const int32_t columns = class_size(x, cx);
            if (r.taps && r.tap <= tx && end <= r.tap + r.taps && high > low) {
                if (p->span) p->span[p->spans] = (span_t){start + low * batch * columns, (high - low) * batch * columns};
                p->spans++;
                met += (high - low) * batch * columns;
            }
            start += y->n * batch * columns;
        }
        for (int32_t from = 0; from < (end - tx) * in; from += GROUP, p->strips++) {
            if (p->strip)
                p->strip[p->strips] = (strip_t){(ty * x->sources + tx) * in + from, (ty * x->taps + tx) * in + from,
                                                min_i(GROUP, (end - tx) * in - from), first_span, p->spans - first_span, met};
        }
    }
}

/* Where share `item` of `units` begins in n. */
LOCAL int32_t share_of(int32_t n, int32_t item, int32_t units) { return (int32_t)((int64_t)n * item / units); }

/* Positions row .. of a plan: line dy, the columns of cx's class, in all images: the first image's, shifted for the rest. */
LOCAL void plan_line(plan_t *p, int32_t row, const axis_t *y, const axis_t *x, int32_t dy, int32_t cx, int32_t columns,
                     int32_t batch, int32_t in, int32_t pitch, int32_t out)
{
    int32_t *base = p->base + row, *to = p->to + row;
    const int32_t first = reach(y, dy).first * x->sources;
    for (int32_t dx = cx, i = 0; dx < x->n; dx++) {
        if (!same_class(x, cx, dx)) continue;
        base[i] = (first + reach(x, dx).first) * in; /* in[0, first_y, first_x, 0] */
        to[i++] = (dy * x->n + dx) * out;            /* out[0, dy, dx, 0] */
    }
    for (int32_t i = columns; i < batch * columns; i++) {
        base[i] = base[i - columns] + pitch;
        to[i] = to[i - columns] + y->n * x->n * out;
    }
}

/* Lay out the plan of axes y and x for `batch` images of `in` source and `out` destination channels (as stored),
   source images `pitch` floats apart.
   Called twice: to count (arrays NULL), then to write.  Precondition: every offset fits in int32. */
LOCAL void plan_fill(plan_t *p, const axis_t *y, const axis_t *x, int32_t batch, int32_t in, int32_t pitch, int32_t out)
{
    const int writing = p->base != NULL;
    int32_t rows = 0, runs = 0, tiles = 0;
    for (int32_t cx = 0; cx < x->n; cx++) {
        if (!first_of_class(x, cx)) continue;
        const reach_t rx = reach(x, cx);
        const int32_t columns = class_size(x, cx);
        for (int32_t cy = 0; cy < y->n; cy++) {
            if (!first_of_class(y, cy)) continue;
            const reach_t ry = reach(y, cy);
            const int32_t class_start = rows, class_run = runs, class_runs = rx.taps ? ry.taps : 0;
            for (int32_t dy = cy; dy < y->n; dy++) {
                if (!same_class(y, cy, dy)) continue;
                if (writing) plan_line(p, rows, y, x, dy, cx, columns, batch, in, pitch, out);
                rows += batch * columns;
            }
            for (int32_t i = 0; i < class_runs; i++, runs++) {
                const int32_t ty = ry.tap + i;
                if (writing)
                    p->run[runs] = (run_t){(ty * x->sources + rx.tap) * in, (ty * x->taps + rx.tap) * in, rx.taps * in};
            }
            const int32_t unit = even_unit(rows - class_start, TILE);
            for (int32_t row = class_start; row < rows; row += unit, tiles++)
                if (writing) p->tile[tiles] = (tile_t){class_run, class_runs, row, min_i(unit, rows - row)};
        }
    }
    p->rows = rows;
    p->runs = runs;
    p->tiles = tiles;
    p->strips = p->spans = 0;
    for (int32_t ty = 0; ty < y->taps && !y->adjoint; ty++) plan_strips(p, y, x, batch, in, ty);
}

/* Build a plan in the arena, laid out by classes (plan_fill) or by patches (patches_fill). */
typedef void fill_t(plan_t *p, const axis_t *y, const axis_t *x, int32_t batch, int32_t in, int32_t pitch, int32_t out);
LOCAL plan_t plan_build(arena_t *arena, fill_t *fill, const axis_t *y, const axis_t *x, int32_t batch, int32_t in, int32_t pitch,
                        int32_t out)
{
    plan_t p = {0};
    fill(&p, y, x, batch, in, pitch, out);
    p.base = take(arena, p.rows, sizeof *p.base);
    p.to = take(arena, p.rows, sizeof *p.to);
    p.run = take(arena, p.runs, sizeof *p.run);
    p.tile = take(arena, p.tiles, sizeof *p.tile);
    p.span = take(arena, p.spans, sizeof *p.span);
    p.strip = take(arena, p.strips, sizeof *p.strip);
    p.patch = take(arena, p.patches, sizeof *p.patch);
    p.class = take(arena, p.classes, sizeof *p.class);
    if (arena->base) fill(&p, y, x, batch, in, pitch, out);
    return p;
}

#endif
