/* Single convolutions and their adjoints, as calls of their own: plan, pack, run a team, convert from and to stored (padded)
   forms.  Shapes as in rk_conv: x, x_bar (B, height, width, channels), w, w_bar (taps, channels, filters),
   y, y_bar (B, out_height, out_width, filters).  */

#ifndef RK_SINGLE_H
#define RK_SINGLE_H

#include "conv/pack.h"
#include "core/team.h"

typedef struct {
    conv_t conv;
    const float *x, *w, *y_bar;
    float *out; /* the result in stored form, which may be the caller's own array */
} conv_task_t;

INLINE ptrdiff_t rows_of_x(const rk_conv *s, int32_t batch) { return (ptrdiff_t)batch * s->height * s->width; }
INLINE ptrdiff_t rows_of_y(const rk_conv *s, int32_t batch) { return (ptrdiff_t)batch * s->out_height * s->out_width; }

/* Bytes of memory of a single convolution, whichever of its maps is called: plans, packed weights, stored forms; 0 if an offset
   does not fit in int32, or the memory in size_t. */
LOCAL size_t single_size(const rk_conv *s, int32_t batch)
{
    if (!conv_fits(s, batch)) return 0;
    const int32_t in = padded(s->channels), out = padded(s->filters);
    const size_t y = (size_t)rows_of_y(s, batch) * out;
    arena_t input = {0}, weight = {0}; /* the forward map needs no more than the weight adjoint */
    conv_build(&input, *s, batch, in, 0, out, 1, 0);
    take_floats(&input, y);
    take_floats(&input, (size_t)rows_of_x(s, batch) * in);
    conv_build(&weight, *s, batch, s->channels, 0, out, 0, 0);
    take_floats(&weight, y);
    take_floats(&weight, (size_t)s->kernel_height * s->kernel_width * s->channels * out);
    return measured(input.used > weight.used ? &input : &weight);
}

LOCAL void forward_body(void *argument, team_t *team)
{
    conv_task_t *t = argument;
    EACH(i, pack_items(&t->conv)) conv_pack(&t->conv, t->w, i, t->conv.packed);
    barrier(team);
    EACH(i, conv_items(&t->conv)) conv_item(&t->conv, i, t->x, t->conv.packed, FROM_ZERO, NULL, t->out);
    barrier(team);
}

LOCAL void single_forward(const rk_conv *s, int32_t batch, const float *x, const float *w, float *y, void *memory, int32_t threads)
{
    arena_t arena = {memory, 0};
    conv_task_t t = {.x = x, .w = w};
    t.conv = conv_build(&arena, *s, batch, s->channels, 0, padded(s->filters), 0, 0);
    const int whole = s->filters == t.conv.out;
    t.out = whole ? y : take_floats(&arena, (size_t)rows_of_y(s, batch) * t.conv.out);
    rk_team_run(threads, forward_body, &t);
    if (!whole) restride(t.out, t.conv.out, y, s->filters, rows_of_y(s, batch));
}

LOCAL void input_body(void *argument, team_t *team)
{
    conv_task_t *t = argument;
    EACH(i, pack_items(&t->conv)) conv_pack_back(&t->conv, t->w, i, t->conv.packed_back);
    barrier(team);
    EACH(i, conv_back_items(&t->conv))
        conv_back_item(&t->conv, i, t->y_bar, t->conv.packed_back, FROM_ZERO, t->out);
    barrier(team);
}

LOCAL void single_input(const rk_conv *s, int32_t batch, const float *y_bar, const float *w, float *x_bar, void *memory,
                       int32_t threads)
{
    arena_t arena = {memory, 0};
    conv_task_t t = {.y_bar = y_bar, .w = w};
    t.conv = conv_build(&arena, *s, batch, padded(s->channels), 0, padded(s->filters), 1, 0);
    const int whole_x = s->channels == t.conv.in, whole_y = s->filters == t.conv.out;
    if (!whole_y) {
        float *stored = take_floats(&arena, (size_t)rows_of_y(s, batch) * t.conv.out);
        restride(y_bar, s->filters, stored, t.conv.out, rows_of_y(s, batch));
        t.y_bar = stored;
    }
    t.out = whole_x ? x_bar : take_floats(&arena, (size_t)rows_of_x(s, batch) * t.conv.in);
    rk_team_run(threads, input_body, &t);
    if (!whole_x) restride(t.out, t.conv.in, x_bar, s->channels, rows_of_x(s, batch));
}

LOCAL void weight_body(void *argument, team_t *team)
{
    conv_task_t *t = argument;
    const int32_t pieces = weight_pieces(&t->conv, team->shared->members);
    EACH(i, conv_weight_items(&t->conv, pieces)) conv_weight_item(&t->conv, i, pieces, t->x, t->y_bar, 0, t->out);
    barrier(team);
    EACH(i, t->conv.splits ? pack_items(&t->conv) : 0) conv_weight_finish(&t->conv, i, t->out);
    barrier(team);
}

LOCAL void single_weight(const rk_conv *s, int32_t batch, const float *x, const float *y_bar, float *w_bar, void *memory,
                        int32_t threads)
{
    arena_t arena = {memory, 0};
    conv_task_t t = {.x = x, .y_bar = y_bar};
    t.conv = conv_build(&arena, *s, batch, s->channels, 0, padded(s->filters), 0, 0);
    const int whole = s->filters == t.conv.out;
    if (!whole) {
        float *stored = take_floats(&arena, (size_t)rows_of_y(s, batch) * t.conv.out);
        restride(y_bar, s->filters, stored, t.conv.out, rows_of_y(s, batch));
        t.y_bar = stored;
    }
    const ptrdiff_t depth = (ptrdiff_t)s->kernel_height * s->kernel_width * s->channels;
    t.out = whole ? w_bar : take_floats(&arena, (size_t)depth * t.conv.out);
    rk_team_run(threads, weight_body, &t);
    if (!whole) restride(t.out, t.conv.out, w_bar, s->filters, depth);
}

#endif
