/* A convolution on stored arrays: the two plans, and the three maps as lists of independent work items.

   Stored channels are padded to whole panels (`padded`), so no kernel below meets a ragged edge: packing (pack.h)
   writes the zeros, unpacking drops them.  Every item owns what it writes and sums in a fixed order, so results do not depend
   on which thread runs it.  */

#ifndef RK_CONV_H
#define RK_CONV_H

#include "interface.h"
#include "conv/winograd.h"

typedef struct {
    rk_conv shape;
    int32_t in, out;         /* stored channels of x and of y */
    axis_t y, x;             /* forward axes */
    axis_t back_y, back_x;   /* adjoint axes */
    plan_t forward, back;
    int32_t depth;           /* weight rows as stored: kh kw in */
    int winograd;            /* the three maps go by patches (winograd.h) */
    int32_t units;           /* shares of the positions in the weight adjoint, where it is cut that way; else 0 */
    float *shares;           /* (units, packed depth, out) their sums */
    float *packed;           /* (panels of out, kh, kw, in, PANEL)               w, for the forward map, or w's transform */
    float *packed_back;      /* (panels of in, packed kh, packed kw, out, PANEL) w transposed, for the input adjoint */
} conv_t;

/* Whether the weight adjoint gathers its inputs first: where the run of a kernel row would leave half of a block empty. */
LOCAL int conv_gathers(const conv_t *c) { return 2 * c->x.taps * c->in <= ROWS && c->depth <= GROUP; }

LOCAL int32_t conv_panels(const conv_t *c) { return padded(c->out) / PANEL; }
LOCAL int32_t conv_back_panels(const conv_t *c) { return padded(c->in) / PANEL; }

/* Rows of a packed panel for `channels` inputs, and floats of all panels. */
LOCAL int32_t packed_depth(const conv_t *c, int32_t channels)
{
    return (c->winograd ? PLACES : c->y.taps * c->x.taps) * channels;
}
LOCAL size_t packed_size(const conv_t *c, int32_t channels, int32_t columns)
{
    return (size_t)packed_depth(c, channels) * padded(columns);
}
LOCAL size_t conv_packed(const conv_t *c) { return packed_size(c, c->in, c->out); }
LOCAL size_t conv_packed_back(const conv_t *c) { return packed_size(c, c->out, c->in); }

/* Floats of one share of the weight adjoint. */
LOCAL ptrdiff_t share_size(const conv_t *c) { return (ptrdiff_t)packed_depth(c, c->in) * c->out; }

/* Plan a convolution of `batch` images whose stored channels are `in` and `out`, x's images `gap` floats apart; back: the
   input adjoint is wanted. */
LOCAL conv_t conv_build(arena_t *arena, rk_conv s, int32_t batch, int32_t in, int32_t gap, int32_t out, int back)
{
    conv_t c = {.shape = s, .in = in, .out = out};
    c.y = (axis_t){s.out_height, s.height, s.kernel_height, s.stride, s.pad_top, 0};
    c.x = (axis_t){s.out_width, s.width, s.kernel_width, s.stride, s.pad_left, 0};
    c.back_y = (axis_t){s.height, s.out_height, s.kernel_height, s.stride, s.pad_top, 1};
    c.back_x = (axis_t){s.width, s.out_width, s.kernel_width, s.stride, s.pad_left, 1};
    c.depth = s.kernel_height * s.kernel_width * in;
    const int many = batch * s.out_height * s.out_width >= 4 * PLACES; /* positions enough to pay for transforming the weights */
    c.winograd = many && in % PANEL == 0 && out % PANEL == 0 && patches_pay(&c.y, &c.x);
    fill_t *const fill = c.winograd ? patches_fill : plan_fill;
    c.forward = plan_build(arena, fill, &c.y, &c.x, batch, in, s.height * s.width * in + gap, out);
    c.packed = take_floats(arena, conv_packed(&c));
    if (c.winograd)
        c.units = max_i(1, min_i(UNITS / 2, c.forward.patches / TILE));
    else if (conv_gathers(&c) || c.forward.rows >= MANY * c.depth)
        c.units = UNITS;
    c.shares = take_floats(arena, c.units * share_size(&c));
    if (back) {
        c.back = plan_build(arena, fill, &c.back_y, &c.back_x, batch, out, s.out_height * s.out_width * out, in);
        c.packed_back = take_floats(arena, conv_packed_back(&c));
    }
    return c;
}

/* out[tile's positions, panel] of a plan: even blocks of at most ROWS positions. */
LOCAL void run_tile(const plan_t *p, const tile_t *tile, const float *in, const float *w_panel, start_t start, const float *bias,
                    float *out)
{
    const int32_t blocks = ceil_div(tile->rows, ROWS);
    for (int32_t b = 0, row = 0; b < blocks; b++) {
        const int32_t end = tile->rows * (b + 1) / blocks;
        contract_block(end - row, in, p->base + tile->row + row, p->run + tile->run, tile->runs, w_panel, start, bias, out,
                       p->to + tile->row + row);
        row = end;
    }
}

/* An item of a map: one tile and some of its panels; one, or WIDE together where a patch is transformed once for all of them. */
typedef struct { int32_t tile, panel, panels; } area_t;
LOCAL int32_t area_panels(const conv_t *c) { return c->winograd ? WIDE / PANEL : 1; }
LOCAL int32_t area_count(const conv_t *c, const plan_t *p, int32_t panels) { return p->tiles * ceil_div(panels, area_panels(c)); }
LOCAL area_t area_of(const conv_t *c, int32_t item, int32_t panels)
{
    const int32_t width = area_panels(c), areas = ceil_div(panels, width), panel = item % areas * width;
    return (area_t){item / areas, panel, min_i(width, panels - panel)};
}

/* out[tile, panels] of a plan. */
LOCAL void run_area(const conv_t *c, const plan_t *p, area_t a, const float *in, const float *packed, int32_t depth, start_t start,
                    const float *bias, float *out)
{
    const tile_t *tile = p->tile + a.tile;
    const float *w = packed + (ptrdiff_t)a.panel * depth * PANEL;
    bias = bias ? bias + a.panel * PANEL : NULL;
    out += a.panel * PANEL;
    if (c->winograd)
        winograd_tile(p, tile, in, w, a.panels * PANEL, start, bias, out);
    else
        run_tile(p, tile, in, w, start, bias, out);
}

/* Items of the forward map; item i writes y in its area, starting from the padded bias (out,). */
LOCAL int32_t conv_items(const conv_t *c) { return area_count(c, &c->forward, conv_panels(c)); }
LOCAL area_t conv_area(const conv_t *c, int32_t item) { return area_of(c, item, conv_panels(c)); }
LOCAL void conv_item(const conv_t *c, int32_t i, const float *x, const float *packed, start_t start, const float *bias, float *y)
{
    run_area(c, &c->forward, conv_area(c, i), x, packed, packed_depth(c, c->in), start, bias, y);
}

/* Items of the input adjoint; item i writes x_bar in its area. */
LOCAL int32_t conv_back_items(const conv_t *c) { return area_count(c, &c->back, conv_back_panels(c)); }
LOCAL area_t conv_back_area(const conv_t *c, int32_t item) { return area_of(c, item, conv_back_panels(c)); }
LOCAL void conv_back_item(const conv_t *c, int32_t i, const float *y_bar, const float *packed_back, start_t start, float *x_bar)
{
    run_area(c, &c->back, conv_back_area(c, i), y_bar, packed_back, packed_depth(c, c->out), start, NULL, x_bar);
}

/* Copy n floats, four at a time; the last four may overlap the four before.  Fewer than four one by one: written as a loop
   to 3, which the compiler does not turn into a vector loop with its own beginning and end. */
INLINE void copy_run(float *to, const float *from, int32_t n)
{
    if (n < 4) {
        for (int32_t j = 0; j < 3; j++)
            if (j < n) to[j] = from[j];
        return;
    }
    for (int32_t j = 0; j + 4 < n; j += 4) memcpy(to + j, from + j, sizeof(float[4]));
    memcpy(to + n - 4, from + n - 4, sizeof(float[4]));
}

/* Gather everything that a tile's positions read: patches (rows, depth), zeros in the padding. */
LOCAL void gather_patches(const conv_t *c, const tile_t *tile, const float *x, float *patches)
{
    const plan_t *p = &c->forward;
    const int32_t *base = p->base + tile->row, depth = c->depth, rows = tile->rows;
    int32_t met = 0;
    for (int32_t r = tile->run; r < tile->run + tile->runs; r++) met += p->run[r].len;
    if (met < depth) memset(patches, 0, sizeof(float) * rows * depth);
    for (int32_t r = tile->run; r < tile->run + tile->runs; r++) {
        const run_t run = p->run[r];
        for (int32_t i = 0; i < rows; i++)
            copy_run(patches + i * depth + run.k, x + ((ptrdiff_t)base[i] + run.in), run.len); /* x[base_i + in] */
    }
}

/* The weight adjoint over one share of the positions, into shares[item]: for layers of many positions and few weights,
   whose arrays are read once this way. */
LOCAL void weight_share(const conv_t *c, int32_t item, const float *x, const float *y_bar, int add)
{
    const plan_t *p = &c->forward;
    const ptrdiff_t size = share_size(c);
    float patches[TILE * GROUP], *w_bar = c->shares + item * size;
    int32_t base[TILE];
    if (!add) memset(w_bar, 0, sizeof(float) * size);
    if (c->winograd) {
        winograd_weight(p, share_of(p->patches, item, c->units), share_of(p->patches, item + 1, c->units), x, y_bar, c->out, w_bar);
        return;
    }
    for (int32_t i = share_of(p->tiles, item, c->units); i < share_of(p->tiles, item + 1, c->units); i++) {
        const tile_t *tile = p->tile + i;
        const int32_t *to = p->to + tile->row;
        if (conv_gathers(c)) {
            gather_patches(c, tile, x, patches);
            for (int32_t k = 0; k < tile->rows; k++) base[k] = k * c->depth;
            weight_rows(c->depth, patches, base, y_bar, c->out, to, tile->rows, w_bar, c->out);
            continue;
        }
        for (const run_t *run = p->run + tile->run; run < p->run + tile->run + tile->runs; run++) {
            for (int32_t k = 0; k < tile->rows; k++) base[k] = p->base[tile->row + k] + run->in;
            weight_rows(run->len, x, base, y_bar, c->out, to, tile->rows, w_bar + (ptrdiff_t)run->k * c->out, c->out);
        }
    }
}

/* The weight adjoint of one strip of weight rows and at most SPREAD panels of columns, over all positions.  They come a
   tile at a time, so that neither their inputs nor their output adjoints leave L1 before every pair of them has met. */
LOCAL int32_t conv_spreads(const conv_t *c) { return ceil_div(conv_panels(c), SPREAD); }
LOCAL void weight_strip(const conv_t *c, int32_t item, const float *x, const float *y_bar, int add, float *w_bar)
{
    const plan_t *p = &c->forward;
    const strip_t *s = p->strip + item / conv_spreads(c);
    const int32_t column = item % conv_spreads(c) * SPREAD * PANEL, columns = min_i(SPREAD * PANEL, c->out - column);
    int32_t base[TILE], to[TILE], count = 0, left = s->rows;
    const int32_t unit = even_unit(max_i(left, 1), TILE);
    w_bar += (ptrdiff_t)s->row * c->out + column; /* w_bar[row, column] */
    for (int32_t i = 0; !add && i < s->width; i++) memset(w_bar + (ptrdiff_t)i * c->out, 0, sizeof(float) * columns);
    for (const span_t *span = p->span + s->span; span < p->span + s->span + s->spans; span++) {
        for (int32_t row = span->row; row < span->row + span->rows; row++) {
            base[count] = p->base[row] + s->in;
            to[count++] = p->to[row];
            left--;
            if (count < unit && left > 0) continue;
            weight_rows(s->width, x, base, y_bar + column, columns, to, count, w_bar, c->out);
            count = 0;
        }
    }
}

/* Items of the weight adjoint: shares, or strips x spreads.  Together they write w_bar (kh kw in, out), or add to it;
   where there are shares, conv_weight_finish must follow. */
LOCAL int32_t conv_weight_items(const conv_t *c) { return c->units ? c->units : c->forward.strips * conv_spreads(c); }
LOCAL void conv_weight_item(const conv_t *c, int32_t item, const float *x, const float *y_bar, int add, float *w_bar)
{
    if (c->units)
        weight_share(c, item, x, y_bar, add);
    else
        weight_strip(c, item, x, y_bar, add, w_bar);
}

/* LANES elements of all shares, added in order. */
INLINE vec sum_shares(const conv_t *c, ptrdiff_t i)
{
    const ptrdiff_t size = share_size(c);
    vec sum = load(c->shares + i);
    for (int32_t u = 1; u < c->units; u++) sum += load(c->shares + u * size + i); /* shares[u, i] */
    return sum;
}

/* Add the shares up. */
LOCAL void conv_weight_finish(const conv_t *c, float *w_bar)
{
    const ptrdiff_t tap = (ptrdiff_t)c->in * c->out; /* size of one tap, or place */
    if (!c->units) return;
    if (c->winograd) {
        for (ptrdiff_t i = 0; i < tap; i += LANES) {
            vec u_bar[WEIGHTS][WEIGHTS];
            for (int place = 0; place < PLACES; place++) u_bar[place / WEIGHTS][place % WEIGHTS] = sum_shares(c, place * tap + i);
            winograd_weights_back(c->forward.filtering, u_bar, w_bar + i, tap);
        }
    } else {
        for (ptrdiff_t i = 0; i < c->depth * (ptrdiff_t)c->out; i += LANES) store(w_bar + i, sum_shares(c, i));
    }
}

#endif
