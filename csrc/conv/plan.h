/* Plans: which inputs meet which weights, worked out once for a shape and a batch size.

   A plan lists the B x height x width output positions of a map, each with its first input and its output, class by class
   (axis.h): the positions of one class share one list of runs (core/gemm.h).  Chunks of positions are what threads claim.
   3 x 3 kernels at strides 1 and 2 are planned by Winograd tiles instead if that needs fewer products (winograd_plan.h).  */

#ifndef RK_PLAN_H
#define RK_PLAN_H

#include "conv/axis.h"
#include "conv/winograd_transforms.h"
#include "core/arena.h"
#include "core/gemm.h"

enum {
    CHUNK = 96,       /* positions in a chunk at most */
    STRIP_ROWS = 48,  /* weight rows in a strip at most ... */
    STRIP_PANELS = 4, /* ... and its panels: a chunk of inputs, of output adjoints and of sums fit in L1 together */
    SPLITS = 16,      /* partial sums of a weight adjoint that is split over the positions ... */
    MANY = 8,         /* ... which it is from this many times more positions than weight rows on */
    LARGE_POSITIONS = 512 /* a network's layers of fewer positions keep the tiles of 2 x 2 outputs */
};

/* Up to CHUNK positions, position .. position + positions - 1, of one class.  first, count: their runs; in a plan by Winograd
   tiles, their tiles. */
typedef struct { int32_t first, count, position, positions; } chunk_t;

/* For the weight adjoint: consecutive positions; and a strip, the weight rows row .. row + rows - 1, which meet the positions
   of some ranges: at a position with first input `base` they meet the inputs from base + in on. */
typedef struct { int32_t position, positions; } range_t;
typedef struct { int32_t in, row, rows, range, ranges, positions; } strip_t;

/* A Winograd tile (winograd_plan.h).  Along one axis: its first source; which of its sources (in_low .. in_high - 1) and of its
   outputs (out_low .. out_high - 1) are inside the image; the products it needs, a bit for each.  Along both: its class, first
   source and first position. */
typedef struct { int32_t first, in_low, in_high, out_low, out_high, products; } tile_axis_t;
typedef struct { int32_t class, base, position; tile_axis_t y, x; } tile_t;

/* A product of both axes: the indices of its transformed input, transformed filter and sum; copy: if the transformed input is
   one source of the tile unchanged, the distance to that source in floats, else -1.
   A class: the products that its tiles need, ordered by sum, and ordered by filter. */
typedef struct { int32_t input, filter, sum, copy; } product_t;
typedef struct { int32_t products; product_t by_sum[MOST * MOST], by_filter[MOST * MOST]; } class_t;

typedef struct {
    int32_t positions, runs, chunks;
    int32_t *base, *to;          /* (positions,) floats: first input (not by tiles) and output of each position */
    run_t *run;                  /* (runs,) */
    chunk_t *chunk;              /* (chunks,) */
    int32_t ranges, strips;      /* forward plans that are not by tiles: for the weight adjoint */
    range_t *range;              /* (ranges,) */
    strip_t *strip;              /* (strips,) */
    scheme_t scheme;             /* by tiles */
    int32_t tiles, classes;
    int32_t pixel, line;         /* floats from a source pixel to the next, and to the next line */
    tile_t *tile;                /* (tiles,) */
    class_t *class;              /* (classes,) */
} plan_t;

/* Cut n into even pieces of at most `limit`, whole micro-kernels if possible: the length of a piece. */
INLINE int32_t even_piece(int32_t n, int32_t limit)
{
    const int32_t piece = ceil_div(n, ceil_div(n, limit));
    return min_i(limit, ceil_div(piece, ROWS) * ROWS);
}

/* The strips of kernel row ty.  Positions lie column class by column class, in each class by rising row, so those that read
   kernel row ty are one range per column class.  Between two taps at which some class begins or ends, all taps meet the same
   ranges; these taps are cut into strips of at most STRIP_ROWS weight rows. */
LOCAL void plan_strips(plan_t *p, const axis_t *y, const axis_t *x, int32_t batch, int32_t in, int32_t ty)
{
    int32_t low = 0, high = 0; /* output rows that read kernel row ty: an interval */
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
        const int32_t first_range = p->ranges;
        int32_t met = 0;
        for (int32_t cx = 0, start = 0; cx < x->n; cx++) {
            if (!first_of_class(x, cx)) continue;
            const reach_t r = reach(x, cx);
            const int32_t columns = class_size(x, cx);
            if (r.taps && r.tap <= tx && end <= r.tap + r.taps && high > low) {
                if (p->range) p->range[p->ranges] = (range_t){start + low * batch * columns, (high - low) * batch * columns};
                p->ranges++;
                met += (high - low) * batch * columns;
            }
            start += y->n * batch * columns;
        }
        for (int32_t from = 0; from < (end - tx) * in; from += STRIP_ROWS, p->strips++) {
            if (!p->strip) continue;
            const int32_t rows = min_i(STRIP_ROWS, (end - tx) * in - from);
            p->strip[p->strips] = (strip_t){(ty * x->sources + tx) * in + from, (ty * x->taps + tx) * in + from, rows, first_range,
                                            p->ranges - first_range, met};
        }
    }
}

/* Where split i of `splits` of n begins. */
INLINE int32_t split_start(int32_t n, int32_t i, int32_t splits) { return (int32_t)((int64_t)n * i / splits); }

/* Positions `position` .. of a plan: line dy, the columns of cx's class, in all images: the first image's, then shifted copies. */
LOCAL void plan_line(plan_t *p, int32_t position, const axis_t *y, const axis_t *x, int32_t dy, int32_t cx, int32_t columns,
                     int32_t batch, int32_t in, int32_t pitch, int32_t out)
{
    int32_t *base = p->base + position, *to = p->to + position;
    const int32_t first = reach(y, dy).first * x->sources;
    for (int32_t dx = cx, i = 0; dx < x->n; dx = next_of_class(x, dx)) {
        base[i] = (first + reach(x, dx).first) * in; /* in[0, first_y, first_x, 0] */
        to[i++] = (dy * x->n + dx) * out;            /* out[0, dy, dx, 0] */
    }
    for (int32_t i = columns; i < batch * columns; i++) {
        base[i] = base[i - columns] + pitch;
        to[i] = to[i - columns] + y->n * x->n * out;
    }
}

/* Lay out the plan of axes y and x for `batch` images of `in` source and `out` destination channels (as stored), source
   images `pitch` floats apart.
   Called twice: to count (arrays NULL), then to write.  Precondition: every offset fits in int32. */
LOCAL void plan_fill(plan_t *p, const axis_t *y, const axis_t *x, int32_t batch, int32_t in, int32_t pitch, int32_t out)
{
    const int writing = p->base != NULL;
    int32_t positions = 0, runs = 0, chunks = 0;
    for (int32_t cx = 0; cx < x->n; cx++) {
        if (!first_of_class(x, cx)) continue;
        const reach_t rx = reach(x, cx);
        const int32_t columns = class_size(x, cx);
        for (int32_t cy = 0; cy < y->n; cy++) {
            if (!first_of_class(y, cy)) continue;
            const reach_t ry = reach(y, cy);
            const int32_t start = positions, first_run = runs, class_runs = rx.taps ? ry.taps : 0;
            for (int32_t dy = cy; dy < y->n; dy = next_of_class(y, dy)) {
                if (writing) plan_line(p, positions, y, x, dy, cx, columns, batch, in, pitch, out);
                positions += batch * columns;
            }
            for (int32_t i = 0; i < class_runs; i++, runs++) {
                const int32_t ty = ry.tap + i;
                if (writing)
                    p->run[runs] = (run_t){(ty * x->sources + rx.tap) * in, (ty * x->taps + rx.tap) * in, rx.taps * in};
            }
            const int32_t piece = even_piece(positions - start, CHUNK);
            for (int32_t from = start; from < positions; from += piece, chunks++)
                if (writing) p->chunk[chunks] = (chunk_t){first_run, class_runs, from, min_i(piece, positions - from)};
        }
    }
    p->positions = positions;
    p->runs = runs;
    p->chunks = chunks;
    p->strips = p->ranges = 0;
    for (int32_t ty = 0; ty < y->taps && !y->adjoint; ty++) plan_strips(p, y, x, batch, in, ty);
}

/* Build a plan in the arena; `fill` lays it out: plan_fill or winograd_plan_fill. */
typedef void fill_t(plan_t *p, const axis_t *y, const axis_t *x, int32_t batch, int32_t in, int32_t pitch, int32_t out);
LOCAL plan_t plan_build(arena_t *arena, fill_t *fill, const axis_t *y, const axis_t *x, int32_t batch, int32_t in, int32_t pitch,
                        int32_t out)
{
    plan_t p = {0};
    fill(&p, y, x, batch, in, pitch, out);
    p.base = take(arena, p.positions, sizeof *p.base);
    p.to = take(arena, p.positions, sizeof *p.to);
    p.run = take(arena, p.runs, sizeof *p.run);
    p.chunk = take(arena, p.chunks, sizeof *p.chunk);
    p.range = take(arena, p.ranges, sizeof *p.range);
    p.strip = take(arena, p.strips, sizeof *p.strip);
    p.tile = take(arena, p.tiles, sizeof *p.tile);
    p.class = take(arena, p.classes, sizeof *p.class);
    if (arena->base) fill(&p, y, x, batch, in, pitch, out);
    return p;
}

#endif
