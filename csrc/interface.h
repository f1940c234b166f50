/* The interface between reptile_np/nn/native and the kernels.

   build_ffi.py hands this file to cffi without its # lines, so it holds plain declarations only.  There is one table of
   functions per instruction set; all tables have the same signatures and the same meaning; rk_dispatch finds one by name.

   What the caller guarantees (Python checks it, the kernels do not): arrays are C-contiguous float32 (labels int32), the
   shapes are those of the arrays, labels lie in 0..ways-1, outputs do not overlap inputs (where a comment allows it, an output
   may be an input, but not overlap it partly).
   Kernels never allocate: `memory` belongs to the caller, is 64-byte aligned, has the size that the matching *_size
   function returns, and is used by one call at a time.  The calling thread needs 1 MB of stack.
   A size of 0 means that an offset does not fit in int32, or the size in size_t: do not call then.
   `threads` >= 1; results are bitwise identical for any number.
   An infinite input may give NaN in its neighbourhood: sums are formed in other orders, and with the padding's zeros.

   Letters in the comments below: B = batch (images or examples of a call), n = number of parameters.  */

#ifndef RK_INTERFACE_H
#define RK_INTERFACE_H

#include <stddef.h>
#include <stdint.h>

enum {
    RK_MAX_BLOCKS = 8,  /* convolution blocks of a network */
    RK_MAX_DENSE = 8,   /* dense layers of an MLP */
    RK_MAX_THREADS = 64 /* threads that share a call; more are not used */
};

/* y[b,i,j,:] = sum_{u,v,c} x[b, stride i + u - pad_top, stride j + v - pad_left, c] w[u,v,c,:]
   x (B, height, width, channels), w (kernel_height, kernel_width, channels, filters), y (B, out_height, out_width, filters) */
typedef struct {
    int32_t height, width, channels;
    int32_t kernel_height, kernel_width, filters;
    int32_t stride, pad_top, pad_left;
    int32_t out_height, out_width;
    int32_t large_tiles; /* 1: Winograd tiles of 4 x 4 outputs may be used at stride 1, which are not exact on integers */
} rk_conv;

/* conv -> batch norm -> [pool] -> relu; or, if pool_first, conv -> pool -> batch norm -> relu.
   scale: 1: the norm has gamma; 0: gamma is 1, and no parameter.
   pool: side of the pooling window and its stride, 0: no pooling.  The first window starts at (-pool_top, -pool_left); there are
   pool_height x pool_width windows, each with a pixel of the image; fewer than `pool` last rows and columns are in no window. */
typedef struct {
    rk_conv conv;
    int32_t scale;
    int32_t pool, pool_first, pool_top, pool_left, pool_height, pool_width;
    float epsilon; /* added to the variance */
} rk_block;

/* Blocks, then a dense layer, described as a convolution whose kernel is its whole image.
   spatial_mean: 1: the dense layer reads the mean of the last block's rows and columns, so its kernel in phi is (channels, ways).
   phi: for each block kernel, bias, gamma if scale, beta; then dense kernel, dense bias.
   Loss: softmax cross-entropy, summed over the examples, or averaged if mean_loss. */
typedef struct {
    int32_t blocks, mean_loss, spatial_mean; /* blocks: 1..RK_MAX_BLOCKS */
    rk_block block[RK_MAX_BLOCKS];
    rk_conv dense;
} rk_network;

/* Dense layers with tanh between them: units[0] inputs, ..., units[layers] outputs.  phi: for each layer kernel, bias.
   Loss: squared error averaged over the outputs, summed over the examples, or averaged if mean_loss. */
typedef struct {
    int32_t layers, mean_loss; /* layers: 1..RK_MAX_DENSE */
    int32_t units[RK_MAX_DENSE + 1];
} rk_mlp;

/* An optimiser: Sgd, or Adam in TensorFlow's form. */
typedef struct {
    int32_t adam;             /* 0: Sgd, which reads learning_rate or rates only */
    int32_t t;                /* number of steps already taken; a loop adds its own, but leaves m_in and v_in as they are */
    double learning_rate, beta1, beta2, epsilon;
    const float *rates;       /* (n,) a rate of Sgd for each parameter; NULL: learning_rate for all */
    const float *m_in, *v_in; /* (n,) moments before the first step; m_in and m are NULL if beta1 = 0 */
    float *m, *v;             /* (n,) moments after an `update`; may be m_in, v_in */
} rk_optimizer;

/* An inner loop: one optimiser step per minibatch.  Several steps may share one vector (n,); it then holds what the last of these
   steps wrote. */
typedef struct {
    int32_t steps;
    int32_t keep_grads;    /* 0: grad has one vector, which is scratch */
    const float *const *x; /* (steps,) inputs of each minibatch */
    const void *const *y;  /* (steps,) labels int32, or targets float32 for an MLP */
    const float *phi_in;   /* (n,) phi before the first step */
    float *const *phi;     /* (steps,) out: phi after each step; may be phi_in */
    float *const *grad;    /* (steps,) out: the gradient of each step; (1,) if keep_grads is 0 */
    float *const *m;       /* (steps,) out: Adam's moments after each step; may be the optimiser's m_in and v_in */
    float *const *v;       /* m is NULL if beta1 = 0, both are NULL for Sgd */
    float *const *saved;   /* (steps,) out: the residuals of each gradient; NULL: not wanted */
    double *losses;        /* (steps,) out */
} rk_loop;

/* The functions for one kind of network; `shape` points to its rk_network or rk_mlp.

   The memory of a plan is laid out once for a batch size by `plan`.  hessian: the plan also serves hvp, and gradients
   and loops that save residuals.
   plan_size and saved_size return bytes; 0 if an offset of this shape and batch does not fit in int32, or the size in size_t: then
   nothing else may be called.

   targets: labels int32 (B,), or for an MLP float32 (B, outputs).
   saved: residuals, that is activations and adjoints that loss_and_grad or a loop writes for later hvp calls at the same phi and
   minibatch.  Its memory belongs to the caller, is 64-byte aligned and has saved_size bytes.  loss_and_grad with NULL keeps
   nothing; hvp with NULL runs the passes of the gradient first.  An MLP uses one thread: the
   work of the sine network is too small for more. */
typedef struct {
    int64_t (*parameters)(const void *shape);
    size_t (*plan_size)(const void *shape, int32_t batch, int32_t hessian);
    size_t (*saved_size)(const void *shape, int32_t batch);
    void (*plan)(const void *shape, int32_t batch, int32_t hessian, void *memory);
    void (*predict)(void *memory, const float *phi, const float *x, float *y, int32_t threads);
    double (*loss_and_grad)(void *memory, const float *phi, const float *x, const void *targets, float *saved, float *grad,
                            int32_t threads);
    void (*hvp)(void *memory, const float *phi, const float *x, const void *targets, float *saved, const float *v, float *hv,
                int32_t threads);
    void (*loop)(void *memory, rk_optimizer *optimizer, const rk_loop *loop, int32_t threads);
} rk_entries;

typedef struct {
    const char *name;
    /* One convolution, its input adjoint x_bar and its weight adjoint w_bar; conv_size: bytes of memory for any of the three. */
    size_t (*conv_size)(const rk_conv *shape, int32_t batch);
    void (*conv)(const rk_conv *shape, int32_t batch, const float *x, const float *w, float *y, void *memory, int32_t threads);
    void (*conv_input)(const rk_conv *shape, int32_t batch, const float *y_bar, const float *w, float *x_bar, void *memory,
                       int32_t threads);
    void (*conv_weight)(const rk_conv *shape, int32_t batch, const float *x, const float *y_bar, float *w_bar, void *memory,
                        int32_t threads);

    rk_entries network, mlp;

    /* One optimiser step, from phi_in to phi, which may be phi_in.  Sgd at rate epsilon on phi - W is the outer loop's
       interpolation phi + epsilon (W - phi). */
    void (*update)(const rk_optimizer *optimizer, const float *phi_in, float *phi, const float *grad, int64_t n);

    /* Run `rounds` rounds of independent multiply-adds in registers; return the number of floating-point operations. */
    double (*fma_peak)(int64_t rounds, float *sink);
} rk_table;

/* The table of an instruction set, or NULL if this processor or this build does not have it. */
const rk_table *rk_dispatch(const char *name);

/* End the threads that wait for the next call with `threads` > 1; such a call starts new ones. */
void rk_team_close(void);

#endif
