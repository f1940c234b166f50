/* A convolution on stored arrays: packed weights, the two plans, and the three maps as lists of independent work items.

   Stored channels are padded to whole panels (`padded`), so no kernel below meets a ragged edge: packing writes the
   zeros, unpacking drops them.  Every item owns what it writes and sums in a fixed order, so results do not depend
   on which thread runs it.  */

#ifndef RK_CONV_H
#define RK_CONV_H

#include "kernels.h"
#include "plan.h"

typedef struct {
    rk_conv shape;
    int32_t in, out;         /* stored channels of x and of y */
    axis_t y, x;             /* forward axes */
    axis_t back_y, back_x;   /* adjoint axes */
    plan_t forward, back;
    int32_t depth;           /* weight rows as stored: kh kw in */
    float *shares;           /* (UNITS, depth, out) partial weight adjoints, where work is shared out by positions; else NULL */
    float *packed;           /* (panels of out, kh, kw, in, PANEL)               w, for the forward map */
    float *packed_back;      /* (panels of in, packed kh, packed kw, out, PANEL) w transposed, for the input adjoint */
} conv_t;

/* Whether the weight adjoint gathers its inputs first: where the run of a kernel row would leave half of a block empty. */
LOCAL int conv_gathers(const conv_t *c) { return 2 * c->x.taps * c->in <= ROWS && c->depth <= GROUP; }

/* Plan a convolution of `batch` images whose stored channels are `in` and `out`, x's images `gap` floats apart; back: the
   input adjoint is wanted. */
LOCAL conv_t conv_build(arena_t *arena, rk_conv s, int32_t batch, int32_t in, int32_t gap, int32_t out, int back)
{
    conv_t c = {.shape = s, .in = in, .out = out};
    c.y = (axis_t){s.out_height, s.height, s.kernel_height, s.stride, s.pad_top, 0};
    c.x = (axis_t){s.out_width, s.width, s.kernel_width, s.stride, s.pad_left, 0};
    c.back_y = (axis_t){s.height, s.out_height, s.kernel_height, s.stride, s.pad_top, 1};
    c.back_x = (axis_t){s.width, s.out_width, s.kernel_width, s.stride, s.pad_left, 1};
    const size_t taps = (size_t)s.kernel_height * s.kernel_width;
    c.forward = plan_build(arena, &c.y, &c.x, batch, in, s.height * s.width * in + gap, out);
    c.packed = take_floats(arena, taps * in * padded(out));
    c.depth = (int32_t)taps * in;
    if (conv_gathers(&c) || c.forward.rows >= MANY * c.depth) c.shares = take_floats(arena, (size_t)UNITS * c.depth * out);
    if (back) {
        c.back = plan_build(arena, &c.back_y, &c.back_x, batch, out, s.out_height * s.out_width * out, in);
        c.packed_back = take_floats(arena, taps * out * padded(in));
    }
    return c;
}

LOCAL int32_t conv_panels(const conv_t *c) { return padded(c->out) / PANEL; }
LOCAL int32_t conv_back_panels(const conv_t *c) { return padded(c->in) / PANEL; }

/* Pack panel `panel` of w (kh, kw, channels, filters) for the forward map. */
LOCAL void conv_pack(const conv_t *c, const float *w, float *packed, int32_t panel)
{
    const int32_t channels = c->shape.channels, filters = c->shape.filters, taps = c->y.taps * c->x.taps;
    const int32_t columns = max_i(0, min_i(PANEL, filters - panel * PANEL));
    float *to = packed + (ptrdiff_t)panel * c->depth * PANEL;
    for (int32_t t = 0; t < taps; t++) {
        for (int32_t i = 0; i < c->in; i++, to += PANEL) { /* packed[panel, t, i, :] */
            const float *from = w + ((ptrdiff_t)t * channels + i) * filters + panel * PANEL;
            if (i < channels && columns == PANEL) {
                store(to, load(from));
                store(to + LANES, load(from + LANES));
            } else {
                store(to, zero());
                store(to + LANES, zero());
                for (int32_t j = 0; j < columns && i < channels; j++) to[j] = from[j];
            }
        }
    }
}

/* Pack panel `panel` of w for the input adjoint: taps in packed order, channels and filters exchanged.
   Whole LANES x LANES squares are transposed in registers. */
LOCAL void conv_pack_back(const conv_t *c, const float *w, float *packed, int32_t panel)
{
    const int32_t channels = c->shape.channels, filters = c->shape.filters;
    float *to = packed + (ptrdiff_t)panel * c->y.taps * c->x.taps * c->out * PANEL;
    for (int32_t ty = 0; ty < c->y.taps; ty++) {
        for (int32_t tx = 0; tx < c->x.taps; tx++) {
            const int32_t tap = tap_of(&c->back_y, ty) * c->x.taps + tap_of(&c->back_x, tx);
            for (int32_t o = 0; o < c->out; o += LANES, to += LANES * PANEL) { /* packed[panel, ty, tx, o:, :] */
                for (int32_t half = 0; half < PANEL; half += LANES) {
                    const int32_t i = panel * PANEL + half;
                    const float *from = w + ((ptrdiff_t)tap * channels + i) * filters + o; /* w[tap, i:, o:] */
                    if (i + LANES <= channels && o + LANES <= filters) {
                        vec square[LANES];
                        RK_UNROLL
                        for (int k = 0; k < LANES; k++) square[k] = load(from + (ptrdiff_t)k * filters);
                        transpose(square);
                        RK_UNROLL
                        for (int k = 0; k < LANES; k++) store(to + k * PANEL + half, square[k]);
                    } else {
                        for (int32_t k = 0; k < LANES; k++) {
                            store(to + k * PANEL + half, zero());
                            for (int32_t j = 0; j < min_i(LANES, channels - i) && o + k < filters; j++)
                                to[k * PANEL + half + j] = from[(ptrdiff_t)j * filters + k];
                        }
                    }
                }
            }
        }
    }
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

/* Items of the forward map: tiles x panels; item i writes y[its tile, its panel] starting from the padded bias (out,). */
LOCAL int32_t conv_items(const conv_t *c) { return c->forward.tiles * conv_panels(c); }
LOCAL void conv_item(const conv_t *c, int32_t i, const float *x, const float *packed, start_t start, const float *bias, float *y)
{
    const int32_t panel = i % conv_panels(c);
    run_tile(&c->forward, c->forward.tile + i / conv_panels(c), x, packed + (ptrdiff_t)panel * c->depth * PANEL, start,
             bias ? bias + panel * PANEL : NULL, y + panel * PANEL);
}

/* Items of the input adjoint: tiles x panels; item i writes x_bar[its tile, its panel]. */
LOCAL int32_t conv_back_items(const conv_t *c) { return c->back.tiles * conv_back_panels(c); }
LOCAL void conv_back_item(const conv_t *c, int32_t i, const float *y_bar, const float *packed_back, start_t start, float *x_bar)
{
    const int32_t panel = i % conv_back_panels(c);
    const ptrdiff_t depth = (ptrdiff_t)c->y.taps * c->x.taps * c->out;
    run_tile(&c->back, c->back.tile + i / conv_back_panels(c), y_bar, packed_back + panel * depth * PANEL, start, NULL,
             x_bar + panel * PANEL);
}

/* w_bar[0..width) += the products of n positions, in even blocks of weight rows: x at the first row's inputs, position
   p's at x + base[p], y_bar's rows at to[p]; rows of w_bar are `stride` apart. */
LOCAL void weight_rows(int32_t width, const float *x, const int32_t *base, const float *y_bar, int32_t columns, const int32_t *to,
                       int32_t n, float *w_bar, ptrdiff_t stride)
{
    const int32_t blocks = ceil_div(width, ROWS);
    for (int32_t b = 0, from = 0, end; b < blocks; b++, from = end) {
        end = width * (b + 1) / blocks;
        contract_weight_block(end - from, x + from, base, y_bar, columns, to, n, w_bar + from * stride, stride);
    }
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
    float patches[TILE * GROUP], *w_bar = c->shares + (ptrdiff_t)item * c->depth * c->out;
    int32_t base[TILE];
    if (!add) memset(w_bar, 0, sizeof(float) * c->depth * c->out);
    for (int32_t i = share_of(p->tiles, item, UNITS); i < share_of(p->tiles, item + 1, UNITS); i++) {
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

/* Items of the weight adjoint: UNITS shares, or strips x spreads.  Together they write w_bar (kh kw in, out), or add to it;
   where there are shares, conv_weight_finish must follow. */
LOCAL int32_t conv_weight_items(const conv_t *c) { return c->shares ? UNITS : c->forward.strips * conv_spreads(c); }
LOCAL void conv_weight_item(const conv_t *c, int32_t item, const float *x, const float *y_bar, int add, float *w_bar)
{
    if (c->shares)
        weight_share(c, item, x, y_bar, add);
    else
        weight_strip(c, item, x, y_bar, add, w_bar);
}

/* Add the shares up, in order. */
LOCAL void conv_weight_finish(const conv_t *c, float *w_bar)
{
    for (int32_t i = 0; c->shares && i < c->depth * c->out; i += LANES) {
        vec sum = load(c->shares + i);
        for (int32_t u = 1; u < UNITS; u++) sum += load(c->shares + (ptrdiff_t)u * c->depth * c->out + i); /* shares[u, i] */
        store(w_bar + i, sum);
    }
}

/* Elements of a kernel. */
LOCAL int32_t kernel_size(const rk_conv *s) { return s->kernel_height * s->kernel_width * s->channels * s->filters; }

/* Copy n values and zeros up to the padded length. */
LOCAL void pad_vector(float *to, const float *from, int32_t n, int32_t length)
{
    memcpy(to, from, sizeof(float) * n);
    memset(to + n, 0, sizeof(float) * (length - n));
}

/* Drop the padding of w_bar (kh kw in, out): to (kh kw channels, filters). */
LOCAL void unpad_kernel(const conv_t *c, const float *from, float *to)
{
    const int32_t channels = c->shape.channels, filters = c->shape.filters;
    for (int32_t t = 0; t < c->y.taps * c->x.taps; t++)
        for (int32_t i = 0; i < channels; i++) /* w_bar[t, i, :] */
            memcpy(to + ((ptrdiff_t)t * channels + i) * filters, from + ((ptrdiff_t)t * c->in + i) * c->out, sizeof(float) * filters);
}

/* A dense layer's kernel and bias gradient, at `grad`, from w_bar (in, out) as stored (which may
   be there already) and the adjoint (batch, out) of its output. */
LOCAL void dense_emit(const conv_t *c, const float *w_bar, const float *y_bar, int32_t batch, float *grad)
{
    const int32_t units = c->shape.filters;
    float *bias_bar = grad + kernel_size(&c->shape);
    if (w_bar != grad) unpad_kernel(c, w_bar, grad);
    memset(bias_bar, 0, sizeof(float) * units);
    for (int32_t b = 0; b < batch; b++)
        for (int32_t j = 0; j < units; j++) bias_bar[j] += y_bar[(ptrdiff_t)b * c->out + j]; /* y_bar[b, j] */
}

#endif
