/* The entries of rk_table for one instruction set; RK_NAME is its name.  Each unwraps its arguments and runs a team. */

#include "curvature.h"
#include "mlp.h"
#include "update.h"

typedef struct {
    conv_t conv;
    int32_t batch;
    const float *x, *w, *y_bar;
    float *out, *scratch;
} conv_task_t;

/* Copy rows of `from` floats into rows of `to`: zeros fill, or the surplus is dropped. */
LOCAL void restride(const float *in, int32_t from, float *out, int32_t to, ptrdiff_t rows)
{
    const int32_t n = min_i(from, to);
    for (ptrdiff_t i = 0; i < rows; i++) {
        memcpy(out + i * to, in + i * from, sizeof(float) * n);
        memset(out + i * to + n, 0, sizeof(float) * (to - n));
    }
}

LOCAL ptrdiff_t rows_of_x(const rk_conv *s, int32_t batch) { return (ptrdiff_t)batch * s->height * s->width; }
LOCAL ptrdiff_t rows_of_y(const rk_conv *s, int32_t batch) { return (ptrdiff_t)batch * s->out_height * s->out_width; }

/* Memory of a single convolution, whichever of its maps is called: plans, packed weights, stored (padded) forms. */
static size_t conv_size(const rk_conv *s, int32_t batch)
{
    const int32_t in = padded(s->channels), out = padded(s->filters);
    const size_t y = (size_t)rows_of_y(s, batch) * out;
    arena_t input = {0}, weight = {0}; /* the forward map needs no more than the weight adjoint */
    conv_build(&input, *s, batch, in, 0, out, 1);
    take_floats(&input, y);
    take_floats(&input, (size_t)rows_of_x(s, batch) * in);
    conv_build(&weight, *s, batch, s->channels, 0, out, 0);
    take_floats(&weight, y);
    take_floats(&weight, (size_t)s->kernel_height * s->kernel_width * s->channels * out);
    return input.used > weight.used ? input.used : weight.used;
}

static void conv_body(void *argument, team_t *team)
{
    conv_task_t *t = argument;
    EACH(i, conv_panels(&t->conv)) conv_pack(&t->conv, t->w, t->conv.packed, i);
    barrier(team);
    EACH(i, conv_items(&t->conv)) conv_item(&t->conv, i, t->x, t->conv.packed, FROM_ZERO, NULL, t->scratch);
    barrier(team);
}

static void conv(const rk_conv *s, int32_t batch, const float *x, const float *w, float *y, void *memory, int32_t threads)
{
    arena_t arena = {memory, 0};
    conv_task_t t = {.batch = batch, .x = x, .w = w};
    t.conv = conv_build(&arena, *s, batch, s->channels, 0, padded(s->filters), 0);
    const int whole = s->filters == t.conv.out;
    t.scratch = whole ? y : take_floats(&arena, (size_t)rows_of_y(s, batch) * t.conv.out);
    rk_team_run(threads, conv_body, &t);
    if (!whole) restride(t.scratch, t.conv.out, y, s->filters, rows_of_y(s, batch));
}

static void conv_input_body(void *argument, team_t *team)
{
    conv_task_t *t = argument;
    EACH(i, conv_back_panels(&t->conv)) conv_pack_back(&t->conv, t->w, t->conv.packed_back, i);
    barrier(team);
    EACH(i, conv_back_items(&t->conv))
        conv_back_item(&t->conv, i, t->y_bar, t->conv.packed_back, FROM_ZERO, t->scratch);
    barrier(team);
}

static void conv_input(const rk_conv *s, int32_t batch, const float *y_bar, const float *w, float *x_bar, void *memory,
                       int32_t threads)
{
    arena_t arena = {memory, 0};
    conv_task_t t = {.batch = batch, .y_bar = y_bar, .w = w};
    t.conv = conv_build(&arena, *s, batch, padded(s->channels), 0, padded(s->filters), 1);
    const int whole_x = s->channels == t.conv.in, whole_y = s->filters == t.conv.out;
    if (!whole_y) {
        float *stored = take_floats(&arena, (size_t)rows_of_y(s, batch) * t.conv.out);
        restride(y_bar, s->filters, stored, t.conv.out, rows_of_y(s, batch));
        t.y_bar = stored;
    }
    t.scratch = whole_x ? x_bar : take_floats(&arena, (size_t)rows_of_x(s, batch) * t.conv.in);
    rk_team_run(threads, conv_input_body, &t);
    if (!whole_x) restride(t.scratch, t.conv.in, x_bar, s->channels, rows_of_x(s, batch));
}

static void conv_weight_body(void *argument, team_t *team)
{
    conv_task_t *t = argument;
    EACH(i, conv_weight_items(&t->conv)) conv_weight_item(&t->conv, i, t->x, t->y_bar, 0, t->scratch);
    barrier(team);
    EACH(i, 1) conv_weight_finish(&t->conv, t->scratch);
    barrier(team);
}

static void conv_weight(const rk_conv *s, int32_t batch, const float *x, const float *y_bar, float *w_bar, void *memory,
                        int32_t threads)
{
    arena_t arena = {memory, 0};
    conv_task_t t = {.batch = batch, .x = x, .y_bar = y_bar};
    t.conv = conv_build(&arena, *s, batch, s->channels, 0, padded(s->filters), 0);
    const int whole = s->filters == t.conv.out;
    if (!whole) {
        float *stored = take_floats(&arena, (size_t)rows_of_y(s, batch) * t.conv.out);
        restride(y_bar, s->filters, stored, t.conv.out, rows_of_y(s, batch));
        t.y_bar = stored;
    }
    const ptrdiff_t depth = (ptrdiff_t)s->kernel_height * s->kernel_width * s->channels;
    t.scratch = whole ? w_bar : take_floats(&arena, (size_t)depth * t.conv.out);
    rk_team_run(threads, conv_weight_body, &t);
    if (!whole) restride(t.scratch, t.conv.out, w_bar, s->filters, depth);
}

static int32_t network_parameters(const rk_network *shape)
{
    arena_t arena = {0};
    network_t n;
    network_build(&arena, &n, shape, 1, 0);
    return n.parameters;
}

static int32_t network_widest(const rk_network *shape)
{
    int32_t widest = padded(shape->dense.filters);
    for (int32_t l = 0; l < shape->blocks; l++) {
        const rk_conv *s = &shape->block[l].conv;
        widest = max_i(widest, s->out_height * s->out_width * padded(s->filters));
        widest = max_i(widest, s->height * s->width * s->channels);
    }
    return widest;
}

static size_t network_size(const rk_network *shape, int32_t batch, int32_t hessian)
{
    arena_t arena = {0};
    network_t n;
    network_build(&arena, &n, shape, batch, hessian);
    return arena.used;
}

static size_t network_point(const rk_network *shape, int32_t batch)
{
    arena_t arena = {0}, point = {0};
    network_t n;
    network_build(&arena, &n, shape, batch, 1);
    network_place(&n, &point);
    return point.used;
}

static void network_plan(const rk_network *shape, int32_t batch, int32_t hessian, void *memory)
{
    arena_t arena = {memory, 0};
    network_t n;
    network_t *place = network_build(&arena, &n, shape, batch, hessian);
    *place = n;
}

typedef struct {
    network_t *network;
    const float *phi, *x, *v, *point;
    const int32_t *labels;
    float *out;
    rk_optimizer *optimizer;
    const rk_loop *loop;
} network_task_t;

static void predict_body(void *argument, team_t *team)
{
    network_task_t *t = argument;
    network_pack(t->network, t->phi, 0, team);
    network_forward(t->network, t->x, team);
}

static void network_predict(void *memory, const float *phi, const float *x, float *logits, int32_t threads)
{
    network_task_t t = {.network = memory, .phi = phi, .x = x};
    rk_team_run(threads, predict_body, &t);
    restride(t.network->logits, t.network->dense.out, logits, t.network->dense.shape.filters, t.network->batch);
}

static void gradient_body(void *argument, team_t *team)
{
    network_task_t *t = argument;
    network_gradient(t->network, t->phi, t->x, t->labels, t->out, team);
}

static double network_loss_and_grad(void *memory, const float *phi, const float *x, const void *targets, float *point,
                                    float *grad, int32_t threads)
{
    network_task_t t = {.network = memory, .phi = phi, .x = x, .labels = targets, .out = grad};
    network_move(memory, point);
    rk_team_run(threads, gradient_body, &t);
    return t.network->loss;
}

static void hvp_body(void *argument, team_t *team)
{
    network_task_t *t = argument;
    if (t->point) {
        network_pack(t->network, t->phi, 1, team);
        network_revisit(t->network, team);
    } else {
        network_gradient(t->network, t->phi, t->x, t->labels, NULL, team);
    }
    network_curvature(t->network, t->x, t->labels, t->v, t->out, team);
}

static void network_hvp(void *memory, const float *phi, const float *x, const void *targets, float *point, const float *v,
                        float *hv, int32_t threads)
{
    network_task_t t = {.network = memory, .phi = phi, .x = x, .labels = targets, .point = point, .v = v, .out = hv};
    network_move(memory, point);
    rk_team_run(threads, hvp_body, &t);
}

static void loop_body(void *argument, team_t *team)
{
    network_task_t *t = argument;
    const rk_loop *loop = t->loop;
    for (int32_t i = 0; i < loop->steps; i++) {
        const float *phi = i == 0 ? loop->phi_in : loop->phi;
        network_gradient(t->network, phi, loop->x[i], loop->y[i], loop->grad, team);
        EACH(once, 1) loop->losses[i] = t->network->loss;
        barrier(team);
        update_all(t->optimizer, t->optimizer->t + i + 1, i == 0, phi, loop->phi, loop->grad,
                   i == loop->steps - 1 ? loop->before_last : NULL, t->network->parameters, team);
    }
}

static void network_loop(void *memory, rk_optimizer *optimizer, const rk_loop *loop, int32_t threads)
{
    network_task_t t = {.network = memory, .optimizer = optimizer, .loop = loop};
    rk_team_run(threads, loop_body, &t);
    optimizer->t += loop->steps;
}

static int32_t mlp_parameters(const rk_mlp *shape)
{
    int32_t total = 0;
    for (int32_t l = 0; l < shape->layers; l++) total += (shape->units[l] + 1) * shape->units[l + 1];
    return total;
}

static int32_t mlp_widest(const rk_mlp *shape)
{
    int32_t widest = shape->units[0];
    for (int32_t l = 1; l <= shape->layers; l++) widest = max_i(widest, padded(shape->units[l]));
    return widest;
}

static size_t mlp_point(const rk_mlp *shape, int32_t batch)
{
    arena_t arena = {0}, point = {0};
    mlp_t m;
    mlp_build(&arena, &m, shape, batch, 1);
    mlp_place(&m, &point);
    return point.used;
}

static size_t mlp_size(const rk_mlp *shape, int32_t batch, int32_t hessian)
{
    arena_t arena = {0};
    mlp_t m;
    mlp_build(&arena, &m, shape, batch, hessian);
    return arena.used;
}

static void mlp_plan(const rk_mlp *shape, int32_t batch, int32_t hessian, void *memory)
{
    arena_t arena = {memory, 0};
    mlp_t m;
    mlp_t *place = mlp_build(&arena, &m, shape, batch, hessian);
    *place = m;
}

static void mlp_predict(void *memory, const float *phi, const float *x, float *y, int32_t threads)
{
    mlp_t *m = memory;
    const dense_t *last = &m->layer[m->shape.layers - 1];
    (void)threads;
    mlp_forward(m, phi, x);
    restride(last->y, last->conv.out, y, last->conv.shape.filters, m->batch);
}

static double mlp_loss_and_grad(void *memory, const float *phi, const float *x, const void *targets, float *point, float *grad,
                                int32_t threads)
{
    mlp_t *m = memory;
    (void)threads;
    mlp_move(m, point);
    mlp_gradient(m, phi, x, targets, grad);
    return m->loss;
}

static void mlp_hvp(void *memory, const float *phi, const float *x, const void *targets, float *point, const float *v, float *hv,
                    int32_t threads)
{
    mlp_t *m = memory;
    (void)threads;
    mlp_move(m, point);
    if (point)
        mlp_pack(m, phi);
    else
        mlp_gradient(m, phi, x, targets, NULL);
    mlp_curvature(m, x, v, hv);
}

static void mlp_loop(void *memory, rk_optimizer *optimizer, const rk_loop *loop, int32_t threads)
{
    mlp_t *m = memory;
    (void)threads;
    for (int32_t i = 0; i < loop->steps; i++) {
        const float *phi = i == 0 ? loop->phi_in : loop->phi;
        mlp_gradient(m, phi, loop->x[i], loop->y[i], loop->grad);
        loop->losses[i] = m->loss;
        update_stretch(optimizer, ++optimizer->t, i == 0, phi, loop->phi, loop->grad,
                       i == loop->steps - 1 ? loop->before_last : NULL, 0, m->parameters);
    }
}

static void update(const rk_optimizer *optimizer, const float *phi_in, float *phi, const float *grad, int32_t n)
{
    update_stretch(optimizer, optimizer->t + 1, 1, phi_in, phi, grad, NULL, 0, n);
}

/* Keep every multiply-add unit busy: 12 independent sums (24 where there are 32 registers). */
static double fma_peak(int64_t rounds, float *sink)
{
    enum { SUMS = 2 * RK_ROWS < 24 ? 12 : 24 };
    vec sum[SUMS];
    const vec a = splat(0.999f), b = splat(1e-3f);
    RK_UNROLL
    for (int i = 0; i < SUMS; i++) sum[i] = splat((float)i);
    for (int64_t k = 0; k < rounds; k++) {
        RK_UNROLL
        for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * a + b;
    }
    vec total = zero();
    RK_UNROLL
    for (int i = 0; i < SUMS; i++) total += sum[i];
    *sink = sum_lanes(total);
    return 2.0 * SUMS * LANES * (double)rounds;
}

#define RK_PASTE(name) rk_table_##name
#define RK_TABLE(name) RK_PASTE(name)
const rk_table RK_TABLE(RK_NAME) = {
    RK_STRING(RK_NAME), LANES, ROWS, conv_size, conv, conv_input, conv_weight,
    network_parameters, network_widest, network_size, network_point, network_plan, network_predict, network_loss_and_grad,
    network_hvp, network_loop,
    mlp_parameters, mlp_widest, mlp_size, mlp_point, mlp_plan, mlp_predict, mlp_loss_and_grad, mlp_hvp, mlp_loop,
    update, fma_peak,
};
