/* Compare the results of two tables, without Python: for instruction sets that only an emulator may have.

     cc -std=c11 -O3 -ffp-contract=fast -DRK_A=neon -DRK_B=portable \
        -Icsrc csrc/tools/compare_tables.c csrc/variants/neon.c csrc/variants/portable.c csrc/core/team.c \
        -lm -pthread -static -o compare && emulator ./compare

   Convolutions and their adjoints on integers must be exact (against loops written out here); whole networks must agree
   with the other table to TOLERANCE of their largest entry.  Prints a line each; exit code 1 if anything is wrong.
   README.md tells how NEON was run, and AVX-512 without such a processor.  */

#include "interface.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef THREADS
#define THREADS 1
#endif
#define TABLE_OF(name) rk_table_##name
#define TABLE(name) TABLE_OF(name)
extern const rk_table TABLE(RK_A), TABLE(RK_B);

static const double TOLERANCE = 1e-5; /* two orders of summation of up to 10^4 float32 terms */
static int wrong = 0;
static unsigned seed = 1;

static int below(int n) { return (int)((seed = seed * 1664525u + 1013904223u) >> 8) % n; }
static float uniform(void) { return (float)(below(2001) - 1000) / 1000.0f; }

static void *zeros(size_t bytes)
{
    void *block = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (!block) {
        fprintf(stderr, "compare_tables: no memory for %zu bytes\n", bytes);
        exit(2);
    }
    return memset(block, 0, (bytes + 63) / 64 * 64 + 64);
}
static float *integers(int n)
{
    float *a = zeros(sizeof(float) * n);
    for (int i = 0; i < n; i++) a[i] = (float)(below(9) - 4);
    return a;
}
static float *reals(int n, float scale)
{
    float *a = zeros(sizeof(float) * n);
    for (int i = 0; i < n; i++) a[i] = scale * uniform();
    return a;
}

static void judge(const char *what, const float *a, const float *b, int n, double tolerance)
{
    double worst = 0.0, size = 1e-30;
    int differ = 0;
    for (int i = 0; i < n; i++) {
        const double distance = fabs((double)a[i] - b[i]);
        if (!isnan(worst) && !(distance <= worst)) worst = distance; /* a NaN stays */
        size = fmax(size, fabs((double)b[i]));
        differ += memcmp(a + i, b + i, sizeof *a) != 0;
    }
    const int holds = worst <= tolerance * size;
    wrong += !holds;
    if (holds && tolerance == 0.0) return;
    printf("%-5s %s: %d of %d differ in bits, by %.0e at most of %.0e\n", holds ? "ok" : "WRONG", what, differ, n, worst, size);
}

/* Random shapes, strides and paddings: y, x_bar and w_bar exactly as the definition says. */
static void convolutions(int trials)
{
    for (int trial = 0; trial < trials; trial++) {
        rk_conv s = {.kernel_height = 1 + below(3), .kernel_width = 1 + below(3), .stride = 1 + below(2), .pad_top = below(2),
                     .pad_left = below(2), .channels = 1 + below(36), .filters = 1 + below(70)};
        if (trial % 4 == 0) { /* the shapes that Winograd tiles serve */
            s.kernel_height = s.kernel_width = 3;
            s.stride = 1 + trial / 4 % 2;
            s.channels = 32 + 64 * below(2);
            s.filters = 32 + 32 * below(2);
        }
        s.height = s.kernel_height + below(trial % 4 ? 6 : 12);
        s.width = s.kernel_width + below(trial % 4 ? 6 : 12);
        s.out_height = (s.height + s.pad_top + below(2) - s.kernel_height) / s.stride + 1;
        s.out_width = (s.width + s.pad_left + below(2) - s.kernel_width) / s.stride + 1;
        const int batch = 1 + below(trial % 4 ? 5 : 20), nx = batch * s.height * s.width * s.channels;
        const int nw = s.kernel_height * s.kernel_width * s.channels * s.filters;
        const int ny = batch * s.out_height * s.out_width * s.filters;
        float *x = integers(nx), *w = integers(nw), *y_bar = integers(ny);
        float *y = zeros(4 * (size_t)ny), *x_bar = zeros(4 * (size_t)nx), *w_bar = zeros(4 * (size_t)nw);
        for (int i = 0; i < ny; i++) {
            const int f = i % s.filters, ox = i / s.filters % s.out_width, oy = i / s.filters / s.out_width % s.out_height;
            const int b = i / s.filters / s.out_width / s.out_height;
            for (int k = f; k < nw; k += s.filters) {
                const int c = k / s.filters % s.channels, v = k / s.filters / s.channels % s.kernel_width;
                const int u = k / s.filters / s.channels / s.kernel_width;
                const int iy = oy * s.stride + u - s.pad_top, ix = ox * s.stride + v - s.pad_left;
                if (iy < 0 || ix < 0 || iy >= s.height || ix >= s.width) continue;
                const int j = ((b * s.height + iy) * s.width + ix) * s.channels + c;
                y[i] += x[j] * w[k];
                x_bar[j] += y_bar[i] * w[k];
                w_bar[k] += y_bar[i] * x[j];
            }
        }
        float *got[3] = {zeros(4 * (size_t)ny), zeros(4 * (size_t)nx), zeros(4 * (size_t)nw)};
        void *memory = zeros(TABLE(RK_A).conv_size(&s, batch));
        TABLE(RK_A).conv(&s, batch, x, w, got[0], memory, THREADS);
        TABLE(RK_A).conv_input(&s, batch, y_bar, w, got[1], memory, THREADS);
        TABLE(RK_A).conv_weight(&s, batch, x, y_bar, got[2], memory, THREADS);
        judge("convolution", got[0], y, ny, 0.0);
        judge("input adjoint", got[1], x_bar, nx, 0.0);
        judge("weight adjoint", got[2], w_bar, nw, 0.0);
        float *const all[] = {x, w, y_bar, y, x_bar, w_bar, got[0], got[1], got[2], memory};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    }
    printf("%d convolutions with their adjoints on integers\n", trials);
}

static int same_padding(int n, int stride, int taps)
{
    const int total = ((n + stride - 1) / stride - 1) * stride + taps - n;
    return total > 0 ? total / 2 : 0;
}

/* A convolution of square images with a square kernel. */
static rk_conv conv_shape(int side, int channels, int kernel, int filters, int stride, int pad, int out)
{
    return (rk_conv){.height = side, .width = side, .channels = channels, .kernel_height = kernel, .kernel_width = kernel,
                     .filters = filters, .stride = stride, .pad_top = pad, .pad_left = pad, .out_height = out, .out_width = out,
                     .large_tiles = 1};
}

/* What a network has beside convolutions and relus: a pool after or before the norm, or, as Finn's networks have, no gamma, and a
   pool that leaves the last line out or the spatial mean. */
typedef enum { GAMMA = 1, POOL = 2, POOL_FIRST = 4, WHOLE_WINDOWS = 8, SPATIAL_MEAN = 16 } parts_t;

/* Four blocks of 3 x 3 convolutions on square images, then a dense layer. */
static void network(const char *name, int batch, int side, int channels, int filters, int stride, int parts)
{
    enum { WAYS = 5, MOST = 7 };
    rk_network s = {.blocks = 4, .spatial_mean = (parts & SPATIAL_MEAN) != 0};
    float *x = reals(batch * side * side * channels, 1.0f);
    for (int l = 0; l < s.blocks; l++) {
        const int out = (side + stride - 1) / stride, pad = same_padding(side, stride, 3);
        s.block[l] = (rk_block){.conv = conv_shape(side, channels, 3, filters, stride, pad, out), .epsilon = 1e-3f};
        s.block[l].scale = parts & GAMMA;
        side = out;
        channels = filters;
        if (!(parts & POOL)) continue;
        side = (out + !(parts & WHOLE_WINDOWS)) / 2;
        s.block[l].pool = 2;
        s.block[l].pool_first = (parts & POOL_FIRST) != 0;
        s.block[l].pool_height = s.block[l].pool_width = side;
    }
    s.dense = conv_shape(side, channels, side, WAYS, 1, 0, 1);
    const int n = TABLE(RK_A).network.parameters(&s);
    const int32_t labels[MOST] = {0, 3, 4, 1, 2, 0, 3};
    float *phi = reals(n, 0.3f), *v = reals(n, 1.0f), *got[2][7];
    const rk_table *tables[2] = {&TABLE(RK_A), &TABLE(RK_B)};
    for (int t = 0; t < 2; t++) {
        const rk_entries *e = &tables[t]->network;
        void *memory = zeros(e->plan_size(&s, batch, 1));
        float *saved[2];
        e->plan(&s, batch, 1, memory);
        for (int i = 0; i < 2; i++) saved[i] = zeros(e->saved_size(&s, batch));
        for (int i = 0; i < 7; i++) got[t][i] = zeros(sizeof(float) * n);
        e->predict(memory, phi, x, got[t][0], THREADS);
        e->loss_and_grad(memory, phi, x, labels, saved[0], got[t][1], THREADS);
        e->hvp(memory, phi, x, labels, NULL, v, got[t][2], THREADS);
        e->hvp(memory, phi, x, labels, saved[0], v, got[t][3], THREADS);
        const float *const inputs[2] = {x, x};
        const void *const targets[2] = {labels, labels};
        double losses[2];
        rk_optimizer sgd = {.learning_rate = 1e-3};
        float *const ends[2] = {got[t][4], got[t][4]}, *const scratch[1] = {zeros(sizeof(float) * n)};
        const rk_loop loop = {.steps = 2, .x = inputs, .y = targets, .phi_in = phi, .phi = ends, .grad = scratch, .losses = losses};
        e->loop(memory, &sgd, &loop, THREADS);
        float *const phis[2] = {zeros(sizeof(float) * n), got[t][5]}, *const grads[2] = {scratch[0], got[t][6]};
        float *const v_of[2] = {zeros(sizeof(float) * n), zeros(sizeof(float) * n)};
        rk_optimizer adam = {.adam = 1, .learning_rate = 1e-3, .beta2 = 0.9, .epsilon = 1e-2, .v_in = zeros(sizeof(float) * n)};
        const rk_loop kept = {.steps = 2, .keep_grads = 1, .x = inputs, .y = targets, .phi_in = phi, .phi = phis, .grad = grads,
                              .v = v_of, .saved = saved, .losses = losses};
        e->loop(memory, &adam, &kept, THREADS);
    }
    const char *const what[7] = {"logits", "gradient", "Hessian product", "Hessian product from saved residuals",
                                 "parameters after two steps", "parameters after two steps of Adam", "their second gradient"};
    for (int i = 0; i < 7; i++) {
        char line[80];
        snprintf(line, sizeof line, "%s, %s", name, what[i]);
        judge(line, got[0][i], got[1][i], i ? n : batch * WAYS, TOLERANCE);
    }
}

int main(void)
{
    printf("%s beside %s\n", TABLE(RK_A).name, TABLE(RK_B).name);
    convolutions(40);
    network("Omniglot network", 7, 28, 1, 64, 2, GAMMA);
    network("Omniglot network of 20 filters", 3, 28, 1, 20, 2, GAMMA);
    network("pooled network, norm first", 3, 20, 3, 32, 1, GAMMA | POOL);
    network("pooled network, pool first", 3, 20, 3, 32, 1, GAMMA | POOL | POOL_FIRST);
    network("Finn's Omniglot network", 3, 28, 1, 64, 2, SPATIAL_MEAN);
    network("Finn's pooled network", 3, 23, 3, 32, 1, POOL | WHOLE_WINDOWS);
    network("Finn's pooled network, pool first", 3, 23, 3, 32, 1, POOL | POOL_FIRST | WHOLE_WINDOWS);
    printf("%d wrong\n", wrong);
    return wrong > 0;
}
