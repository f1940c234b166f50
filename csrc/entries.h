/* The entries of rk_table for one instruction set, RK_NAME.  Each unwraps its arguments and, for networks, runs a team. */

#include "conv/single.h"
#include "core/fma_peak.h"
#include "network/hvp.h"
#include "network/inner_loop.h"

static int64_t ISA(network_parameters)(const void *shape)
{
    const rk_network *s = shape;
    int64_t total = dense_kernel_size(s) + s->dense.filters;
    for (int32_t l = 0; l < s->blocks; l++) total += block_parameters(&s->block[l]);
    return total;
}

static size_t ISA(network_plan_size)(const void *shape, int32_t batch, int32_t hessian)
{
    arena_t arena = {0};
    network_t n;
    if (!network_fits(shape, batch)) return 0;
    network_build(&arena, &n, shape, batch, hessian);
    return measured(&arena);
}

static size_t ISA(network_saved_size)(const void *shape, int32_t batch)
{
    arena_t arena = {0}, residuals = {0};
    network_t n;
    if (!network_fits(shape, batch)) return 0;
    network_build(&arena, &n, shape, batch, 1);
    network_layout_saved(&n, &residuals);
    return measured(&residuals);
}

static void ISA(network_plan)(const void *shape, int32_t batch, int32_t hessian, void *memory)
{
    arena_t arena = {memory, 0};
    network_t n;
    network_t *stored = network_build(&arena, &n, shape, batch, hessian);
    *stored = n;
}

typedef struct {
    network_t *network;
    const float *phi, *x, *v;
    const int32_t *labels;
    int saved; /* residuals are there */
    float *out;
    rk_optimizer *optimizer;
    const rk_loop *loop;
} network_task_t;

static void ISA(predict_body)(void *argument, team_t *team)
{
    network_task_t *t = argument;
    network_pack(t->network, t->phi, 0, team);
    network_forward(t->network, t->x, team, NULL, NULL);
}

static void ISA(network_predict)(void *memory, const float *phi, const float *x, float *logits, int32_t threads)
{
    network_task_t t = {.network = memory, .phi = phi, .x = x};
    network_use_saved(memory, NULL);
    rk_team_run(threads, ISA(predict_body), &t);
    restride(t.network->logits, t.network->dense.out, logits, t.network->dense.shape.filters, t.network->batch);
}

static void ISA(gradient_body)(void *argument, team_t *team)
{
    network_task_t *t = argument;
    network_pack(t->network, t->phi, 1, team);
    network_gradient(t->network, t->x, t->labels, t->out, NULL, team);
}

static double ISA(network_loss_and_grad)(void *memory, const float *phi, const float *x, const void *targets, float *saved,
                                         float *grad, int32_t threads)
{
    network_task_t t = {.network = memory, .phi = phi, .x = x, .labels = targets, .out = grad};
    network_use_saved(memory, saved);
    rk_team_run(threads, ISA(gradient_body), &t);
    return t.network->loss;
}

static void ISA(hvp_body)(void *argument, team_t *team)
{
    network_task_t *t = argument;
    network_pack(t->network, t->phi, 1, team);
    if (t->saved)
        network_recompute(t->network, team);
    else
        network_gradient(t->network, t->x, t->labels, NULL, NULL, team);
    network_hessian_product(t->network, t->x, t->labels, t->v, t->out, team);
}

static void ISA(network_hvp)(void *memory, const float *phi, const float *x, const void *targets, float *saved, const float *v,
                             float *hv, int32_t threads)
{
    network_task_t t = {.network = memory, .phi = phi, .x = x, .labels = targets, .saved = saved != NULL, .v = v, .out = hv};
    network_use_saved(memory, saved);
    rk_team_run(threads, ISA(hvp_body), &t);
}

static void ISA(loop_body)(void *argument, team_t *team)
{
    network_task_t *t = argument;
    network_inner_loop(t->network, t->optimizer, t->loop, team);
}

static void ISA(network_loop)(void *memory, rk_optimizer *optimizer, const rk_loop *loop, int32_t threads)
{
    network_task_t t = {.network = memory, .optimizer = optimizer, .loop = loop};
    network_use_saved(memory, NULL);
    rk_team_run(threads, ISA(loop_body), &t);
    optimizer->t += loop->steps;
}

static int64_t ISA(mlp_parameters)(const void *shape)
{
    const rk_mlp *s = shape;
    int64_t total = 0;
    for (int32_t l = 0; l < s->layers; l++) total += (s->units[l] + (int64_t)1) * s->units[l + 1];
    return total;
}

static size_t ISA(mlp_saved_size)(const void *shape, int32_t batch)
{
    arena_t arena = {0}, residuals = {0};
    mlp_t m;
    if (!mlp_fits(shape, batch)) return 0;
    mlp_build(&arena, &m, shape, batch, 1);
    mlp_layout_saved(&m, &residuals);
    return measured(&residuals);
}

static size_t ISA(mlp_plan_size)(const void *shape, int32_t batch, int32_t hessian)
{
    arena_t arena = {0};
    mlp_t m;
    if (!mlp_fits(shape, batch)) return 0;
    mlp_build(&arena, &m, shape, batch, hessian);
    return measured(&arena);
}

static void ISA(mlp_plan)(const void *shape, int32_t batch, int32_t hessian, void *memory)
{
    arena_t arena = {memory, 0};
    mlp_t m;
    mlp_t *stored = mlp_build(&arena, &m, shape, batch, hessian);
    *stored = m;
}

static void ISA(mlp_predict)(void *memory, const float *phi, const float *x, float *y, int32_t threads)
{
    mlp_t *m = memory;
    const dense_t *last = &m->layer[m->shape.layers - 1];
    (void)threads;
    mlp_use_saved(m, NULL);
    mlp_pack(m, phi);
    mlp_forward(m, x);
    restride(last->y, last->out_stored, y, last->out, m->batch);
}

static double ISA(mlp_loss_and_grad)(void *memory, const float *phi, const float *x, const void *targets, float *saved, float *grad,
                                     int32_t threads)
{
    mlp_t *m = memory;
    (void)threads;
    mlp_use_saved(m, saved);
    mlp_pack(m, phi);
    mlp_gradient(m, x, targets, grad);
    return m->loss;
}

static void ISA(mlp_hvp)(void *memory, const float *phi, const float *x, const void *targets, float *saved, const float *v,
                         float *hv, int32_t threads)
{
    mlp_t *m = memory;
    (void)threads;
    mlp_use_saved(m, saved);
    mlp_pack(m, phi);
    if (!saved) mlp_gradient(m, x, targets, NULL);
    mlp_hessian_product(m, x, v, hv);
}

static void ISA(mlp_loop)(void *memory, rk_optimizer *optimizer, const rk_loop *loop, int32_t threads)
{
    (void)threads;
    mlp_inner_loop(memory, optimizer, loop);
    optimizer->t += loop->steps;
}

static void ISA(update)(const rk_optimizer *optimizer, const float *phi_in, float *phi, const float *grad, int64_t n)
{
    const step_t step = step_of(optimizer, optimizer->t + 1, phi_in, phi);
    update_range(&step, 0, n, grad);
}

const rk_table ISA(rk_table) = {
    .name = RK_STRING(RK_NAME),
    .conv_size = single_size, .conv = single_forward, .conv_input = single_input, .conv_weight = single_weight,
    .network = {
        .parameters = ISA(network_parameters), .plan_size = ISA(network_plan_size), .saved_size = ISA(network_saved_size),
        .plan = ISA(network_plan), .predict = ISA(network_predict), .loss_and_grad = ISA(network_loss_and_grad),
        .hvp = ISA(network_hvp), .loop = ISA(network_loop),
    },
    .mlp = {
        .parameters = ISA(mlp_parameters), .plan_size = ISA(mlp_plan_size), .saved_size = ISA(mlp_saved_size),
        .plan = ISA(mlp_plan), .predict = ISA(mlp_predict), .loss_and_grad = ISA(mlp_loss_and_grad), .hvp = ISA(mlp_hvp),
        .loop = ISA(mlp_loop),
    },
    .update = ISA(update), .fma_peak = multiply_adds,
};
