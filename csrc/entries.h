/* The entries of rk_table for one instruction set; RK_NAME is its name.  Each unwraps its arguments and runs a team. */

#include "network/hvp.h"
#include "network/mlp.h"
#include "conv/single.h"
#include "network/optimizer.h"

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
