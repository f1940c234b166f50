/* Convolutions tap by tap, without transforms: the forward map and the input adjoint of a chunk, and three ways to the weight
   adjoint.

   in, x: source images as stored; y_bar (positions, out): rows at p->to; w_bar (weight rows, out).  */

#ifndef RK_DIRECT_H
#define RK_DIRECT_H

#include "conv/plan.h"

/* out[the chunk's positions, one panel]; w (weight rows, PANEL): that panel.  Micro-kernels of even size. */
LOCAL void direct_chunk(const plan_t *p, const chunk_t *chunk, const float *in, const float *w, from_t from, const float *bias,
                        float *out)
{
    const int32_t pieces = ceil_div(chunk->positions, ROWS);
    for (int32_t b = 0, row = 0; b < pieces; b++) {
        const int32_t end = piece_start(chunk->positions, b + 1, pieces), position = chunk->position + row;
        gemm(end - row, in, p->base + position, p->run + chunk->first, chunk->count, w, from, bias, out, p->to + position);
        row = end;
    }
}

/* Copy n floats, four at a time; the last four may overlap the four before.  Fewer than four are copied one by one, in a loop of
   length 3: the compiler would turn a loop of length n into a vector loop with code before and after it. */
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

/* Copy everything that a chunk's positions read: columns (positions, depth), zeros in the padding. */
LOCAL void gather_columns(const plan_t *p, const chunk_t *chunk, int32_t depth, const float *x, float *columns)
{
    const int32_t *base = p->base + chunk->position, positions = chunk->positions;
    int32_t met = 0;
    for (int32_t r = chunk->first; r < chunk->first + chunk->count; r++) met += p->run[r].len;
    if (met < depth) memset(columns, 0, sizeof(float) * positions * depth);
    for (int32_t r = chunk->first; r < chunk->first + chunk->count; r++) {
        const run_t run = p->run[r];
        for (int32_t i = 0; i < positions; i++)
            copy_run(columns + i * depth + run.k, x + ((ptrdiff_t)base[i] + run.in), run.len); /* x[base_i + in] */
    }
}

/* w_bar += the products of the chunks from .. end - 1; `depth` <= STRIP_ROWS weight rows, all inputs gathered first. */
LOCAL void direct_weight_gathered(const plan_t *p, int32_t from, int32_t end, int32_t depth, const float *x, const float *y_bar,
                                  int32_t out, float *w_bar)
{
    float columns[CHUNK * STRIP_ROWS];
    int32_t base[CHUNK];
    for (const chunk_t *chunk = p->chunk + from; chunk < p->chunk + end; chunk++) {
        gather_columns(p, chunk, depth, x, columns);
        for (int32_t k = 0; k < chunk->positions; k++) base[k] = k * depth;
        gemm_transpose(depth, columns, base, y_bar, out, p->to + chunk->position, chunk->positions, FROM_OUT, w_bar, out);
    }
}

/* The same, run by run. */
LOCAL void direct_weight_split(const plan_t *p, int32_t from, int32_t end, const float *x, const float *y_bar, int32_t out,
                               float *w_bar)
{
    int32_t base[CHUNK];
    for (const chunk_t *chunk = p->chunk + from; chunk < p->chunk + end; chunk++) {
        for (const run_t *run = p->run + chunk->first; run < p->run + chunk->first + chunk->count; run++) {
            for (int32_t k = 0; k < chunk->positions; k++) base[k] = p->base[chunk->position + k] + run->in;
            gemm_transpose(run->len, x, base, y_bar, out, p->to + chunk->position, chunk->positions, FROM_OUT,
                           w_bar + (ptrdiff_t)run->k * out, out);
        }
    }
}

/* An item of the weight adjoint: one strip and at most STRIP_PANELS panels, over all positions. */
typedef struct { const strip_t *strip; int32_t row, rows, column, columns; } strip_item_t;
INLINE int32_t strip_columns(int32_t out) { return ceil_div(out, STRIP_PANELS * PANEL); }
INLINE strip_item_t strip_item_at(const plan_t *p, int32_t i, int32_t out)
{
    const strip_t *s = p->strip + i / strip_columns(out);
    const int32_t column = i % strip_columns(out) * STRIP_PANELS * PANEL;
    return (strip_item_t){s, s->row, s->rows, column, min_i(STRIP_PANELS * PANEL, out - column)};
}

/* to (rows, columns), rows `stride` floats apart = or += the item's products.  The positions come a chunk at a time, so that their
   inputs and their output adjoints stay in L1 until every pair of them has met. */
LOCAL void direct_weight_strip(const plan_t *p, strip_item_t item, const float *x, const float *y_bar, int add, float *to,
                               ptrdiff_t stride)
{
    const strip_t *s = item.strip;
    int32_t base[CHUNK], y_bar_row[CHUNK], count = 0, left = s->positions;
    const int32_t piece = even_piece(max_i(left, 1), CHUNK);
    from_t from = add ? FROM_OUT : FROM_ZERO;
    for (const range_t *range = p->range + s->range; range < p->range + s->range + s->ranges; range++) {
        for (int32_t k = 0, n; k < range->positions; k += n) {
            const int32_t *base_k = p->base + range->position + k, *to_k = p->to + range->position + k;
            n = min_i(piece - count, range->positions - k);
            RK_INDEPENDENT
            for (int32_t i = 0; i < n; i++) {
                base[count + i] = base_k[i] + s->in;
                y_bar_row[count + i] = to_k[i];
            }
            count += n;
            left -= n;
            if (count < piece && left > 0) continue;
            gemm_transpose(s->rows, x, base, y_bar + item.column, item.columns, y_bar_row, count, from, to, stride);
            from = FROM_OUT;
            count = 0;
        }
    }
    for (int32_t k = 0; from == FROM_ZERO && k < s->rows; k++) memset(to + k * stride, 0, sizeof(float) * item.columns);
}

#endif
