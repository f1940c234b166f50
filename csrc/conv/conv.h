/* A convolution on stored arrays: its two plans, and its three maps as lists of independent items.

   x (B, height, width, in), y (B, out_height, out_width, out), w_bar (kernel_height, kernel_width, in, out), where in and out
   are the stored channels: padded to whole panels, so kernels compute whole panels only.  Packing (pack.h) writes the zeros,
   unpacking drops them.  No two items write the same number, and each sums in a fixed order, so results do not depend on which
   thread runs an item.  */

#ifndef RK_CONV_H
#define RK_CONV_H

#include "conv/direct.h"
#include "conv/winograd.h"
#include "interface.h"

typedef struct {
    rk_conv shape;
    int32_t in, out;       /* stored channels of x and of y; x of a first layer is not padded: in = channels */
    axis_t y, x;           /* forward */
    axis_t back_y, back_x; /* input adjoint */
    plan_t forward, back;
    int32_t depth;         /* weight rows as stored: kernel_height kernel_width in */
    int winograd;          /* all three maps go by Winograd tiles */
    int32_t splits;        /* partial sums of the weight adjoint, if it is split over the positions; else 0 */
    float *partials;       /* (splits, depth, out); by tiles (splits, points, in, out), a point every adjoint_point floats */
    float *packed;         /* (panels of out, taps, in, PANEL); by tiles (panels of out, points, in + 1, PANEL) */
    float *packed_back;    /* input adjoint: (panels of in, taps, out, PANEL); by tiles (panels of in, points, out + 1, PANEL) */
} conv_t;

/* Whether all offsets fit in int32 with `batch` images: those into
   - stored x: all images, the columns to the right of one, and the rows that a kernel reaches above it, or the rows down to its
     last position if these are more;
   - stored y: all images, and the rows that a kernel reaches above one;
   - packed weights. */
LOCAL int conv_fits(const rk_conv *s, int32_t batch)
{
    const double in = 1.0 * s->channels + PANEL, out = 1.0 * s->filters + PANEL, gap = 64.0, largest = INT32_MAX;
    const double outside = 1.0 * s->kernel_height + s->pad_top, x_row = in * s->width, y_row = out * s->out_width;
    const double below = 1.0 * s->stride * (s->out_height - 1);
    const double right = (1.0 * s->stride * (s->out_width - 1) + s->pad_left) * in;
    const double reached = outside > below ? outside : below;
    return batch * (s->height * x_row + gap) + reached * x_row + right <= largest &&
           (1.0 * batch * s->out_height + outside) * y_row <= largest &&
           36.0 * in * out <= largest && s->kernel_height * in * s->kernel_width * out <= largest;
}

/* Whether the weight adjoint gathers its inputs first: if the run of a kernel row would leave half of a micro-kernel empty. */
INLINE int conv_gathers(const conv_t *c) { return 2 * c->x.taps * c->in <= ROWS && c->depth <= STRIP_ROWS; }

INLINE int32_t conv_panels(const conv_t *c) { return padded(c->out) / PANEL; }
INLINE int32_t conv_back_panels(const conv_t *c) { return padded(c->in) / PANEL; }

/* For `channels` inputs: rows of one tap, or point, of a packed panel; rows of the panel; and floats of all panels. */
INLINE int32_t tap_rows(const conv_t *c, int32_t channels) { return c->winograd ? packed_point(channels) : channels; }
INLINE int32_t packed_rows(const conv_t *c, int32_t channels)
{
    return (c->winograd ? plan_points(&c->forward) : c->y.taps * c->x.taps) * tap_rows(c, channels);
}
INLINE size_t packed_size(const conv_t *c, int32_t channels, int32_t columns)
{
    return (size_t)packed_rows(c, channels) * padded(columns);
}
INLINE size_t conv_packed(const conv_t *c) { return packed_size(c, c->in, c->out); }
INLINE size_t conv_packed_back(const conv_t *c) { return packed_size(c, c->out, c->in); }

/* Floats of one partial sum of the weight adjoint. */
INLINE ptrdiff_t partial_size(const conv_t *c)
{
    return c->winograd ? plan_points(&c->forward) * adjoint_point(c->in, c->out) : (ptrdiff_t)packed_rows(c, c->in) * c->out;
}

/* Plan a convolution of `batch` images whose stored channels are `in` and `out`, x's images `gap` floats apart; back: the
   input adjoint is wanted; halved: a large batch is planned in two halves. */
LOCAL conv_t conv_build(arena_t *arena, rk_conv s, int32_t batch, int32_t in, int32_t gap, int32_t out, int back, int halved)
{
    conv_t c = {.shape = s, .in = in, .out = out};
    c.y = (axis_t){s.out_height, s.height, s.kernel_height, s.stride, s.pad_top, 0, 0};
    c.x = (axis_t){s.out_width, s.width, s.kernel_width, s.stride, s.pad_left, 0, 0};
    c.back_y = (axis_t){s.height, s.out_height, s.kernel_height, s.stride, s.pad_top, 1, 0};
    c.back_x = (axis_t){s.width, s.out_width, s.kernel_width, s.stride, s.pad_left, 1, 0};
    c.depth = s.kernel_height * s.kernel_width * in;
    const int32_t positions = batch * s.out_height * s.out_width, enough = s.stride == 2 ? TILED_STRIDE_2 : TILED;
    if (s.large_tiles && positions >= LARGE_POSITIONS && s.stride == 1 && large_pays(&c.y, &c.x))
        c.y.large = c.x.large = c.back_y.large = c.back_x.large = 1;
    c.winograd = positions >= enough && in % PANEL == 0 && out % PANEL == 0 && winograd_pays(&c.y, &c.x);
    append_t *const append = c.winograd ? winograd_plan : plan_direct;
    c.forward = plan_build(arena, append, &c.y, &c.x, batch, halved, in, s.height * s.width * in + gap, out);
    c.packed = take_floats(arena, conv_packed(&c));
    if (c.winograd)
        c.splits = max_i(1, c.y.large ? min_i(SPLITS / 4, c.forward.tiles / (2 * CHUNK_TILES)) /* each has 36 points to add up */
                                      : min_i(SPLITS / 2, c.forward.tiles / (4 * CHUNK_TILES)));
    else if (conv_gathers(&c) || c.forward.positions >= MANY * c.depth)
        c.splits = min_i(SPLITS, max_i(1, c.forward.chunks));
    c.partials = take(arena, (size_t)partial_size(&c), (size_t)c.splits * sizeof(float));
    if (back) {
        c.back = plan_build(arena, append, &c.back_y, &c.back_x, batch, halved, out, s.out_height * s.out_width * out, in);
        c.packed_back = take_floats(arena, conv_packed_back(&c));
    }
    return c;
}

/* An item of the forward map or of the input adjoint: one chunk and one or more of its panels.  With Winograd tiles and more
   than one chunk, an item has as many panels as are transformed at once (CHANNELS / PANEL); otherwise it has one panel. */
typedef struct { int32_t chunk, panel, panels; } item_t;
INLINE int32_t item_panels(const conv_t *c, const plan_t *p) { return c->winograd && p->chunks > 1 ? CHANNELS / PANEL : 1; }
INLINE int32_t item_count(const conv_t *c, const plan_t *p, int32_t panels)
{
    return p->chunks * ceil_div(panels, item_panels(c, p));
}
INLINE item_t item_at(const conv_t *c, const plan_t *p, int32_t i, int32_t panels)
{
    const int32_t width = item_panels(c, p), items = ceil_div(panels, width), panel = i % items * width;
    return (item_t){i / items, panel, min_i(width, panels - panel)};
}

/* out[chunk, panels] of a plan. */
LOCAL void run_item(const conv_t *c, const plan_t *p, item_t item, const float *in, const float *packed, int32_t rows, from_t from,
                    const float *bias, float *out)
{
    const chunk_t *chunk = p->chunk + item.chunk;
    const float *w = packed + (ptrdiff_t)item.panel * rows * PANEL; /* packed[panel] */
    bias = bias ? bias + item.panel * PANEL : NULL;
    out += item.panel * PANEL;
    if (c->winograd)
        winograd_chunk(p, chunk, in, w, item.panels * PANEL, from, bias, out);
    else
        direct_chunk(p, chunk, in, w, from, bias, out);
}

/* Items of the forward map; item i writes y in its chunk and panels, starting from the padded bias (out,). */
INLINE int32_t conv_items(const conv_t *c) { return item_count(c, &c->forward, conv_panels(c)); }
INLINE item_t conv_item_at(const conv_t *c, int32_t i) { return item_at(c, &c->forward, i, conv_panels(c)); }
LOCAL void conv_item(const conv_t *c, int32_t i, const float *x, const float *packed, from_t from, const float *bias, float *y)
{
    run_item(c, &c->forward, conv_item_at(c, i), x, packed, packed_rows(c, c->in), from, bias, y);
}

/* Items of the input adjoint; item i writes x_bar in its chunk and panels. */
INLINE int32_t conv_back_items(const conv_t *c) { return item_count(c, &c->back, conv_back_panels(c)); }
INLINE item_t conv_back_item_at(const conv_t *c, int32_t i) { return item_at(c, &c->back, i, conv_back_panels(c)); }
LOCAL void conv_back_item(const conv_t *c, int32_t i, const float *y_bar, const float *packed_back, from_t from, float *x_bar)
{
    run_item(c, &c->back, conv_back_item_at(c, i), y_bar, packed_back, packed_rows(c, c->out), from, NULL, x_bar);
}

/* The weight adjoint over split i of the positions, into partials[i]: for layers of many positions and few weights, whose arrays
   are then read once only.  low, high: input channels, for Winograd tiles. */
LOCAL void weight_partial(const conv_t *c, int32_t i, int32_t low, int32_t high, const float *x, const float *y_bar, int add)
{
    const plan_t *p = &c->forward;
    const int32_t all = c->winograd ? p->tiles : p->chunks;
    const int32_t from = piece_start(all, i, c->splits), end = piece_start(all, i + 1, c->splits);
    float *w_bar = c->partials + i * partial_size(c);
    if (c->winograd) {
        winograd_weight(p, from, end, low, high, x, y_bar, c->out, add, w_bar);
        return;
    }
    if (!add) memset(w_bar, 0, sizeof(float) * partial_size(c));
    if (conv_gathers(c))
        direct_weight_gathered(p, from, end, c->depth, x, y_bar, c->out, w_bar);
    else
        direct_weight_split(p, from, end, x, y_bar, c->out, w_bar);
}

/* Into how many pieces the input channels are cut in the weight adjoint by Winograd tiles: one, unless the splits are too few for
   the members of a team, because every piece transforms y_bar. */
INLINE int32_t weight_pieces(const conv_t *c, int members) { return c->winograd && c->splits < members ? c->in / PANEL : 1; }

/* Items of the weight adjoint: splits x pieces, or strips x groups of panels.  Together they write w_bar, or add to it; if it is
   split, conv_weight_finish must follow. */
INLINE int32_t conv_weight_items(const conv_t *c, int32_t pieces)
{
    return c->splits ? c->splits * pieces : c->forward.strips * strip_columns(c->out);
}
LOCAL void conv_weight_item(const conv_t *c, int32_t i, int32_t pieces, const float *x, const float *y_bar, int add, float *w_bar)
{
    if (c->splits) {
        weight_partial(c, i / pieces, c->in / pieces * (i % pieces), c->in / pieces * (i % pieces + 1), x, y_bar, add);
        return;
    }
    const strip_item_t s = strip_item_at(&c->forward, i, c->out);
    direct_weight_strip(&c->forward, s, x, y_bar, add, w_bar + (ptrdiff_t)s.row * c->out + s.column, c->out);
}

/* LANES elements of all partial sums, added in order. */
INLINE vec sum_partials(const conv_t *c, ptrdiff_t i)
{
    const ptrdiff_t size = partial_size(c);
    vec sum = load(c->partials + i);
    for (int32_t s = 1; s < c->splits; s++) sum += load(c->partials + s * size + i); /* partials[s, i] */
    return sum;
}

/* LANES elements of w_bar (3, 3, in, out) = G' u_bar G, u_bar being the sum of all partial sums. */
INLINE void finish_tiles(const scheme_t f, const conv_t *c, ptrdiff_t i, float *w_bar)
{
    const int points = TRANSFORMS[f].points;
    vec u_bar[MOST][MOST];
    RK_UNROLL
    for (int t = 0; t < points * points; t++)
        u_bar[t / points][t % points] = sum_partials(c, t * adjoint_point(c->in, c->out) + i);
    filter_transform_transpose(f, u_bar, w_bar + i, (ptrdiff_t)c->in * c->out);
}

/* Add up the partial sums of LANES input channels: item i of pack_items. */
INLINE int32_t pack_items(const conv_t *c) { return ceil_div(c->in, LANES); }
LOCAL void conv_weight_finish(const conv_t *c, int32_t item, float *w_bar)
{
    const ptrdiff_t tap = (ptrdiff_t)c->in * c->out;
    const ptrdiff_t from = (ptrdiff_t)item * LANES * c->out, end = (ptrdiff_t)min_i(item * LANES + LANES, c->in) * c->out;
    for (ptrdiff_t i = from; i < end; i += LANES) {
        if (c->winograd) {
            RK_FORWARD(finish_tiles, c->forward.scheme, c, i, w_bar);
            continue;
        }
        for (int32_t t = 0; t < c->y.taps * c->x.taps; t++) store(w_bar + t * tap + i, sum_partials(c, t * tap + i));
    }
}

#endif
