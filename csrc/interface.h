/* The contract between reptile_np/nn/native/__init__.py and the kernels.

   build_ffi.py hands this file to cffi without its # lines, so it is plain declarations.  One table per instruction
   set, all with the same signatures and the same meaning; rk_dispatch finds one by name.

   Everybody promises: arrays are C-contiguous float32 (labels int32), described sizes are true, every offset inside an
   array fits in int32, labels lie in 0..ways-1, outputs do not overlap inputs.  native.py checks this; kernels trust.
   Kernels never allocate: `memory` is the caller's, 64-byte aligned, of the size the matching *_size function gives,
   and used by one call at a time.  `threads` >= 1; results are bitwise the same for any number.
   Where an input is infinite, results near it may be NaN instead: sums are formed in other orders, and with padding's zeros.  */

#ifndef RK_KERNELS_H
#define RK_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* y[b,i,j,:] = sum_{u,v,c} x[b, stride i + u - pad_top, stride j + v - pad_left, c] w[u,v,c,:] */
typedef struct {
    int32_t height, width, channels;                /* of one image of x */
    int32_t kernel_height, kernel_width, filters;   /* w (kernel_height, kernel_width, channels, filters) */
    int32_t stride, pad_top, pad_left;
    int32_t out_height, out_width;                  /* of one image of y */
} rk_conv;

/* conv -> batch norm -> [pool] -> relu, or conv -> [pool] -> batch norm -> relu where pool_first.
   Windows of pool x pool tile the image: stride = pool, the first starts at -pool_top, -pool_left; 0: no pooling. */
typedef struct {
    rk_conv conv;
    int32_t pool, pool_first, pool_top, pool_left, pool_height, pool_width;
    float epsilon;
} rk_block;

/* 1..8 blocks, then a dense layer: a convolution whose kernel is its whole image.
   phi: per block kernel, bias, gamma, beta; dense kernel, dense bias.  Loss: softmax cross-entropy, summed or averaged. */
typedef struct {
    int32_t blocks, mean_loss;
    rk_block block[8];
    rk_conv dense;
} rk_network;

/* 1..7 tanh layers and a linear one: units[0] inputs ... units[layers] outputs; phi: kernel, bias per layer.
   Loss: squared error averaged over the outputs, summed or averaged over the examples. */
typedef struct {
    int32_t layers, mean_loss;
    int32_t units[9];
} rk_mlp;

/* One optimiser step: Sgd, or Adam in TensorFlow's form.  The step count t is the number already taken. */
typedef struct {
    int32_t adam;
    int32_t t;
    double learning_rate, beta1, beta2, epsilon;
    const float *m_in, *v_in; /* (n,) the moments before the first step; m_in, m: NULL where beta1 = 0 */
    float *m, *v;             /* (n,) out; may be m_in, v_in */
} rk_optimizer;

/* What an inner loop is given and leaves: steps minibatches x[i], y[i] (labels, or float targets for the MLP). */
typedef struct {
    int32_t steps;
    const float *const *x;
    const void *const *y;
    const float *phi_in; /* (n,) where the loop starts */
    float *phi;          /* (n,) out: where it ends; may be phi_in */
    float *before_last;  /* (n,) out: phi before the last step; NULL where it is not wanted */
    float *grad;         /* (n,) scratch */
    double *losses;      /* (steps,) out */
} rk_loop;

typedef struct {
    const char *name;
    int32_t lanes, rows; /* floats in a register; rows of a register block (its columns are 2 lanes) */

    size_t (*conv_size)(const rk_conv *shape, int32_t batch);
    void (*conv)(const rk_conv *shape, int32_t batch, const float *x, const float *w, float *y, void *memory, int32_t threads);
    void (*conv_input)(const rk_conv *shape, int32_t batch, const float *y_bar, const float *w, float *x_bar, void *memory,
                       int32_t threads);
    void (*conv_weight)(const rk_conv *shape, int32_t batch, const float *x, const float *y_bar, float *w_bar, void *memory,
                        int32_t threads);

    /* Memory is planned once for a batch size; hessian: hvp is wanted too.  Targets: int32 labels (b,).
       A point is what a Hessian product reads of the gradient's passes, in 64-byte aligned memory of the caller's:
       loss_and_grad of a plan with hessian leaves it there, any number of hvp at the same phi and minibatch read it.  Given
       NULL, loss_and_grad leaves none, and hvp goes through those passes itself. */
    int32_t (*network_parameters)(const rk_network *shape);
    int32_t (*network_widest)(const rk_network *shape); /* elements of the largest work array, for a batch of one */
    size_t (*network_size)(const rk_network *shape, int32_t batch, int32_t hessian);
    size_t (*network_point)(const rk_network *shape, int32_t batch); /* bytes of a point */
    void (*network_plan)(const rk_network *shape, int32_t batch, int32_t hessian, void *memory);
    void (*network_predict)(void *memory, const float *phi, const float *x, float *y, int32_t threads);
    double (*network_loss_and_grad)(void *memory, const float *phi, const float *x, const void *targets, float *point,
                                    float *grad, int32_t threads);
    void (*network_hvp)(void *memory, const float *phi, const float *x, const void *targets, float *point, const float *v,
                        float *hv, int32_t threads);
    void (*network_loop)(void *memory, rk_optimizer *optimizer, const rk_loop *loop, int32_t threads);

    /* The same for tanh layers; targets: float (b, outputs).  Too small for threads: uses one. */
    int32_t (*mlp_parameters)(const rk_mlp *shape);
    int32_t (*mlp_widest)(const rk_mlp *shape); /* elements of the largest work array, for a batch of one */
    size_t (*mlp_size)(const rk_mlp *shape, int32_t batch, int32_t hessian);
    size_t (*mlp_point)(const rk_mlp *shape, int32_t batch);
    void (*mlp_plan)(const rk_mlp *shape, int32_t batch, int32_t hessian, void *memory);
    void (*mlp_predict)(void *memory, const float *phi, const float *x, float *y, int32_t threads);
    double (*mlp_loss_and_grad)(void *memory, const float *phi, const float *x, const void *targets, float *point,
                                float *grad, int32_t threads);
    void (*mlp_hvp)(void *memory, const float *phi, const float *x, const void *targets, float *point, const float *v,
                    float *hv, int32_t threads);
    void (*mlp_loop)(void *memory, rk_optimizer *optimizer, const rk_loop *loop, int32_t threads);

    /* One optimiser step of n parameters: from phi_in to phi, which may be phi_in.  Sgd at rate epsilon on phi - W is the outer
       loop's interpolation phi + epsilon (W - phi). */
    void (*update)(const rk_optimizer *optimizer, const float *phi_in, float *phi, const float *grad, int32_t n);

    double (*fma_peak)(int64_t rounds, float *sink); /* floating-point operations done by `rounds` of independent FMAs */
} rk_table;

/* The table of an instruction set, or NULL where this processor or this build does not have it. */
const rk_table *rk_dispatch(const char *name);

#endif
