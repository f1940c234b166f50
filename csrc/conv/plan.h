/* Plans: which inputs meet which weights, worked out once for a shape and a batch size.

   A plan lists the B x height x width output positions of a map, each with its first input and its output, class by class
   (axis.h): the positions of one class share one list of runs (core/gemm.h).  Chunks of positions are what threads claim.
   In a network a large batch is planned in two halves, one after the other: the first half of the chunks then belongs to the first
   half of the images, in every layer, and the data of one half stay in the cache of one core.
   3 x 3 kernels at strides 1 and 2 are planned by Winograd tiles instead where conv_build says so (conv.h).  */

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
    SPLITS = 16,      /* partial sums of a weight adjoint that is split over the positions */
    MANY = 8,         /* it is split if there are at least this many times as many positions as weight rows */
    HALVED = 256,     /* positions of a batch that is planned in two halves, at least */
    /* With fewer positions, transforming the filter takes more time than Winograd tiles save.  At stride 2 tiles save fewer
       products: with 16 lanes on a Zen 5, Omniglot's step was slower with tiles at 147 positions of its second layer, and
       faster at 196. */
    TILED = 64,
    TILED_STRIDE_2 = LANES < 16 ? 64 : 192,
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
    int32_t *base, *to;          /* (positions,) offsets of each position's first input (not in plans by tiles) and output */
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

/* Cut n into even pieces of at most `limit`, a multiple of ROWS: the length of a piece, whole micro-kernels. */
INLINE int32_t even_piece(int32_t n, int32_t limit)
{
    const int32_t piece = ceil_div(n, ceil_div(n, limit));
    return ceil_div(piece, ROWS) * ROWS;
}
_Static_assert(CHUNK % (4 * RK_ROWS) == 0, "CHUNK and CHUNK_TILES are limits of even_piece");

/* Images first .. first + count - 1 of a batch: all, or one of its parts. */
typedef struct { int32_t first, count; } images_t;
INLINE images_t batch_part(int32_t batch, int32_t parts, int32_t i)
{
    const int32_t first = piece_start(batch, i, parts);
    return (images_t){first, piece_start(batch, i + 1, parts) - first};
}

/* The strips of kernel row ty.  In each part of the batch, positions are sorted by column class, then by row.  So the positions
   that read kernel row ty are one range per part and column class.  Adjacent taps of row ty that are read by the same column
   classes have the same ranges; these taps are cut into strips of at most STRIP_ROWS weight rows. */
LOCAL void plan_strips(plan_t *p, const axis_t *y, const axis_t *x, int32_t batch, int32_t parts, int32_t in, int32_t ty)
{
    int32_t low = 0, high = 0; /* output lines that read kernel row ty: an interval */
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
        for (int32_t i = 0, start = 0; i < parts; i++) {
            for (int32_t cx = 0; cx < x->n; cx++) {
                if (!first_of_class(x, cx)) continue;
                const reach_t r = reach(x, cx);
                const int32_t line = class_size(x, cx) * batch_part(batch, parts, i).count; /* positions of one output line */
                if (r.taps && r.tap <= tx && end <= r.tap + r.taps && high > low) {
                    if (p->range) p->range[p->ranges] = (range_t){start + low * line, (high - low) * line};
                    p->ranges++;
                    met += (high - low) * line;
                }
                start += y->n * line;
            }
        }
        for (int32_t from = 0; from < (end - tx) * in; from += STRIP_ROWS, p->strips++) {
            if (!p->strip) continue;
            const int32_t rows = min_i(STRIP_ROWS, (end - tx) * in - from);
            p->strip[p->strips] = (strip_t){(ty * x->sources + tx) * in + from, (ty * x->taps + tx) * in + from, rows, first_range,
                                            p->ranges - first_range, met};
        }
    }
}

/* The next positions of a plan: line dy, the columns of cx's class, in some images: the first image's, then shifted copies. */
LOCAL void plan_line(plan_t *p, const axis_t *y, const axis_t *x, int32_t dy, int32_t cx, int32_t columns, images_t images,
                     int32_t in, int32_t pitch, int32_t out)
{
    int32_t *base = p->base + p->positions, *to = p->to + p->positions;
    const int32_t first_y = reach(y, dy).first;
    for (int32_t dx = cx, i = 0; dx < x->n; dx = next_of_class(x, dx)) {
        base[i] = images.first * pitch + (first_y * x->sources + reach(x, dx).first) * in; /* in[first, first_y, first_x, 0] */
        to[i++] = ((images.first * y->n + dy) * x->n + dx) * out;                          /* out[first, dy, dx, 0] */
    }
    for (int32_t i = columns; i < images.count * columns; i++) {
        base[i] = base[i - columns] + pitch;
        to[i] = to[i - columns] + y->n * x->n * out;
    }
}

/* Append some images of a batch to the plan of axes y and x: `in` source and `out` destination channels (as stored), source images
   `pitch` floats apart.  All parts of the batch share their runs.  While arrays are NULL, count only.  Precondition: every offset
   fits in int32. */
typedef void append_t(plan_t *p, const axis_t *y, const axis_t *x, images_t images, int32_t in, int32_t pitch, int32_t out);
LOCAL void plan_direct(plan_t *p, const axis_t *y, const axis_t *x, images_t images, int32_t in, int32_t pitch, int32_t out)
{
    const int writing = p->base != NULL;
    p->runs = 0;
    for (int32_t cx = 0; cx < x->n; cx++) {
        if (!first_of_class(x, cx)) continue;
        const reach_t rx = reach(x, cx);
        const int32_t columns = class_size(x, cx);
        for (int32_t cy = 0; cy < y->n; cy++) {
            if (!first_of_class(y, cy)) continue;
            const reach_t ry = reach(y, cy);
            const int32_t start = p->positions, first_run = p->runs, class_runs = rx.taps ? ry.taps : 0;
            for (int32_t dy = cy; dy < y->n; dy = next_of_class(y, dy)) {
                if (writing) plan_line(p, y, x, dy, cx, columns, images, in, pitch, out);
                p->positions += images.count * columns;
            }
            for (int32_t i = 0; i < class_runs; i++, p->runs++) {
                const int32_t ty = ry.tap + i;
                if (writing)
                    p->run[p->runs] = (run_t){(ty * x->sources + rx.tap) * in, (ty * x->taps + rx.tap) * in, rx.taps * in};
            }
            const int32_t piece = even_piece(p->positions - start, CHUNK);
            for (int32_t from = start; from < p->positions; from += piece, p->chunks++)
                if (writing) p->chunk[p->chunks] = (chunk_t){first_run, class_runs, from, min_i(piece, p->positions - from)};
        }
    }
}

/* Lay out a plan, part by part of the batch.  Called twice: to count, then to write. */
LOCAL void plan_fill(plan_t *p, append_t *append, const axis_t *y, const axis_t *x, int32_t batch, int32_t parts, int32_t in,
                     int32_t pitch, int32_t out)
{
    p->positions = p->runs = p->chunks = p->ranges = p->strips = p->tiles = p->classes = 0;
    for (int32_t i = 0; i < parts; i++) append(p, y, x, batch_part(batch, parts, i), in, pitch, out);
    for (int32_t ty = 0; append == plan_direct && !y->adjoint && ty < y->taps; ty++) plan_strips(p, y, x, batch, parts, in, ty);
}

/* Build a plan in the arena; append: plan_direct or winograd_plan; halved: in two parts, if the batch is large. */
LOCAL plan_t plan_build(arena_t *arena, append_t *append, const axis_t *y, const axis_t *x, int32_t batch, int halved, int32_t in,
                        int32_t pitch, int32_t out)
{
    const int32_t parts = halved && batch > 1 && y->n * x->n * batch >= HALVED ? 2 : 1;
    plan_t p = {0};
    plan_fill(&p, append, y, x, batch, parts, in, pitch, out);
    p.base = take(arena, p.positions, sizeof *p.base);
    p.to = take(arena, p.positions, sizeof *p.to);
    p.run = take(arena, p.runs, sizeof *p.run);
    p.chunk = take(arena, p.chunks, sizeof *p.chunk);
    p.range = take(arena, p.ranges, sizeof *p.range);
    p.strip = take(arena, p.strips, sizeof *p.strip);
    p.tile = take(arena, p.tiles, sizeof *p.tile);
    p.class = take(arena, p.classes, sizeof *p.class);
    if (arena->base) plan_fill(&p, append, y, x, batch, parts, in, pitch, out);
    return p;
}

#endif
