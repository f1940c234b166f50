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
    int32_t narrow;          /* all weight rows, where they are so few that gathering them pays (the first layer); else 0 */
    float *patches_w;        /* (UNITS, narrow, out) partial sums of the narrow weight adjoint */
    float *packed;           /* (panels of out, kh, kw, in, PANEL)               w, for the forward map */
    float *packed_back;      /* (panels of in, packed kh, packed kw, out, PANEL) w transposed, for the input adjoint */
} conv_t;

/* Plan a convolution of `batch` images whose stored channels are `in` and `out`; back: the input adjoint is wanted. */
LOCAL conv_t conv_build(arena_t *arena, rk_conv s, int32_t batch, int32_t in, int32_t out, int back)
{
    conv_t c = {.shape = s, .in = in, .out = out};
    c.y = (axis_t){s.out_height, s.height, s.kernel_height, s.stride, s.pad_top, 0};
    c.x = (axis_t){s.out_width, s.width, s.kernel_width, s.stride, s.pad_left, 0};
    c.back_y = (axis_t){s.height, s.out_height, s.kernel_height, s.stride, s.pad_top, 1};
    c.back_x = (axis_t){s.width, s.out_width, s.kernel_width, s.stride, s.pad_left, 1};
    const size_t taps = (size_t)s.kernel_height * s.kernel_width;
    c.forward = plan_build(arena, &c.y, &c.x, batch, in, out);
    c.packed = take_floats(arena, taps * in * padded(out));
    if (!back && taps * in <= GROUP) {
        c.narrow = (int32_t)taps * in;
        c.patches_w = take_floats(arena, (size_t)UNITS * c.narrow * out);
    }
    if (back) {
        c.back = plan_build(arena, &c.back_y, &c.back_x, batch, out, in);
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
    float *to = packed + (ptrdiff_t)panel * taps * c->in * PANEL;
    for (int32_t t = 0; t < taps; t++) {
        for (int32_t i = 0; i < c->in; i++, to += PANEL) { /* packed[panel, t, i, :] */
            const float *from = w + ((ptrdiff_t)t * channels + i) * filters + panel * PANEL;
            if (i < channels && columns == PANEL) {
                store(to, load(from));
                store(to + LANES, load(from + LANES));
            } else {
                for (int32_t j = 0; j < PANEL; j++) to[j] = i < channels && j < columns ? from[j] : 0.0f;
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
                        for (int32_t k = 0; k < LANES; k++)
                            for (int32_t j = 0; j < LANES; j++)
                                to[k * PANEL + half + j] =
                                    i + j < channels && o + k < filters ? from[(ptrdiff_t)j * filters + k] : 0.0f;
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
    const ptrdiff_t depth = (ptrdiff_t)c->y.taps * c->x.taps * c->in;
    run_tile(&c->forward, c->forward.tile + i / conv_panels(c), x, packed + panel * depth * PANEL, start,
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

/* A strip of weight rows against some panels of y_bar: sums (blocks, panels, rows of a block, PANEL), in L1 all along. */
typedef struct { int32_t width, blocks, panels; float sums[GROUP * SPREAD * PANEL]; } strip_sums_t;

LOCAL void strip_start(strip_sums_t *s, int32_t width, int32_t panels)
{
    s->width = width;
    s->blocks = ceil_div(width, ROWS);
    s->panels = panels;
    memset(s->sums, 0, sizeof(float) * width * panels * PANEL);
}

/* Add the products of n positions: x at the strip's first input, with position p's at x + base[p]. */
LOCAL void strip_add(strip_sums_t *s, const float *x, const int32_t *base, const float *y_bar, const int32_t *to, int32_t n)
{
    float *sums = s->sums;
    for (int32_t b = 0, from = 0, end; b < s->blocks; b++, from = end) {
        end = s->width * (b + 1) / s->blocks;
        contract_weight_block(end - from, x + from, base, y_bar, s->panels, to, n, sums);
        sums += (end - from) * s->panels * PANEL;
    }
}

/* Write the sums to w_bar's rows (width, stride), or add them. */
LOCAL void strip_write(const strip_sums_t *s, float *w_bar, ptrdiff_t stride, int add)
{
    const float *sums = s->sums;
    for (int32_t b = 0, from = 0, end; b < s->blocks; b++, from = end) {
        end = s->width * (b + 1) / s->blocks;
        for (int32_t j = 0; j < s->panels; j++) {
            for (int32_t i = from; i < end; i++, sums += PANEL) {
                float *to = w_bar + i * stride + j * PANEL; /* w_bar[i, panel j] */
                store(to, add ? load(to) + load(sums) : load(sums));
                store(to + LANES, add ? load(to + LANES) + load(sums + LANES) : load(sums + LANES));
            }
        }
    }
}

/* Gather everything that a tile's positions read: patches (rows, narrow), zeros in the padding. */
LOCAL void gather_patches(const conv_t *c, const tile_t *tile, const float *x, float *patches)
{
    const plan_t *p = &c->forward;
    memset(patches, 0, sizeof(float) * tile->rows * c->narrow);
    for (const run_t *run = p->run + tile->run; run < p->run + tile->run + tile->runs; run++) {
        for (int32_t i = 0; i < tile->rows; i++) {
            const float *from = x + ((ptrdiff_t)p->base[tile->row + i] + run->in); /* x[base_i + in] */
            float *to = patches + i * c->narrow + run->k;
            for (int32_t j = 0; j < run->len; j++) to[j] = from[j];
        }
    }
}

/* A narrow layer's weight adjoint over a fixed share of the tiles, into patches_w[item]. */
LOCAL void conv_narrow_item(const conv_t *c, int32_t item, const float *x, const float *y_bar)
{
    const plan_t *p = &c->forward;
    float patches[TILE * GROUP];
    int32_t base[TILE];
    strip_sums_t sums;
    for (int32_t panel = 0; panel < conv_panels(c); panel += SPREAD) {
        strip_start(&sums, c->narrow, min_i(SPREAD, conv_panels(c) - panel));
        for (int32_t i = share_of(p->tiles, item, UNITS); i < share_of(p->tiles, item + 1, UNITS); i++) {
            const tile_t *tile = p->tile + i;
            gather_patches(c, tile, x, patches);
            for (int32_t k = 0; k < tile->rows; k++) base[k] = k * c->narrow;
            strip_add(&sums, patches, base, y_bar + panel * PANEL, p->to + tile->row, tile->rows);
        }
        strip_write(&sums, c->patches_w + (ptrdiff_t)item * c->narrow * c->out + panel * PANEL, c->out, 0);
    }
}

/* Items of the weight adjoint: strips x spreads of at most SPREAD panels, or UNITS shares where narrow.  Item i writes its
   rows and columns of w_bar (kh kw in, out), or adds to them.  Positions come a tile at a time, so that neither their
   inputs nor their output adjoints leave L1 before every pair of them has met. */
LOCAL int32_t conv_spreads(const conv_t *c) { return ceil_div(conv_panels(c), SPREAD); }
LOCAL int32_t conv_weight_items(const conv_t *c) { return c->narrow ? UNITS : c->forward.strips * conv_spreads(c); }
LOCAL void conv_weight_item(const conv_t *c, int32_t item, const float *x, const float *y_bar, int add, float *w_bar)
{
    if (c->narrow) {
        conv_narrow_item(c, item, x, y_bar);
        return;
    }
    const plan_t *p = &c->forward;
    const strip_t *s = p->strip + item / conv_spreads(c);
    const int32_t panel = item % conv_spreads(c) * SPREAD;
    int32_t base[TILE], to[TILE], count = 0, left = s->rows;
    strip_sums_t sums;
    strip_start(&sums, s->width, min_i(SPREAD, conv_panels(c) - panel));
    const int32_t unit = even_unit(max_i(left, 1), TILE);
    for (const span_t *span = p->span + s->span; span < p->span + s->span + s->spans; span++) {
        for (int32_t row = span->row; row < span->row + span->rows; row++) {
            base[count] = p->base[row] + s->in;
            to[count++] = p->to[row];
            left--;
            if (count < unit && left > 0) continue;
            strip_add(&sums, x, base, y_bar + panel * PANEL, to, count);
            count = 0;
        }
    }
    strip_write(&sums, w_bar + (ptrdiff_t)s->row * c->out + panel * PANEL, c->out, add);
}

/* After all items of a narrow layer: add the shares up, in order. */
LOCAL void conv_weight_finish(const conv_t *c, float *w_bar)
{
    for (int32_t i = 0; i < c->narrow * c->out; i += LANES) {
        vec sum = load(c->patches_w + i);
        for (int32_t u = 1; u < UNITS; u++) sum += load(c->patches_w + (ptrdiff_t)u * c->narrow * c->out + i); /* patches_w[u, i] */
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

/* A dense layer's kernel and bias gradient, at `grad`, from w_bar (in, out) as stored and the adjoint (batch, out) of its output. */
LOCAL void dense_emit(const conv_t *c, const float *w_bar, const float *y_bar, int32_t batch, float *grad)
{
    const int32_t units = c->shape.filters;
    float *bias_bar = grad + kernel_size(&c->shape);
    unpad_kernel(c, w_bar, grad);
    memset(bias_bar, 0, sizeof(float) * units);
    for (int32_t b = 0; b < batch; b++)
        for (int32_t j = 0; j < units; j++) bias_bar[j] += y_bar[(ptrdiff_t)b * c->out + j]; /* y_bar[b, j] */
}

#endif
