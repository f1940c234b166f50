/* Vectors.  Other files do not depend on the width of a register, except for one constant of conv/plan.h.

   The files in variants define RK_LANES (floats in a register: 4, 8 or 16) and RK_ROWS (rows of the micro-kernel, core/gemm.h).
   All kernels are written in terms of

     vec            LANES floats               ivec     LANES int32 (comparison masks, indices)
     PANEL          2 LANES: the columns of the micro-kernel; ROWS x PANEL sums are held in registers
     load/store     at any address             splat    one float in every lane

   a + b * c is one rounding where the instruction set has it (-ffp-contract=fast).  */

#ifndef RK_VEC_H
#define RK_VEC_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/symbols.h"

#if defined(__clang__)
#define RK_UNROLL _Pragma("clang loop unroll(full)")
#define RK_ROLLED _Pragma("clang loop unroll(disable)")
#define RK_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)") /* no iteration of this loop reads what another wrote */
#else
#define RK_UNROLL _Pragma("GCC unroll 32")
#define RK_ROLLED _Pragma("GCC unroll 1")
#define RK_INDEPENDENT _Pragma("GCC ivdep")
#endif
#define INLINE static inline __attribute__((always_inline, unused))
#define LOCAL static __attribute__((unused))

enum { LANES = RK_LANES, PANEL = 2 * RK_LANES, ROWS = RK_ROWS };

typedef float vec __attribute__((vector_size(4 * RK_LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * RK_LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * RK_LANES))); /* for sums that may wrap around */
typedef float vec_at __attribute__((vector_size(4 * RK_LANES), aligned(4), may_alias));
typedef int32_t ivec_at __attribute__((vector_size(4 * RK_LANES), aligned(4), may_alias));

INLINE vec load(const float *p) { return *(const vec_at *)p; }
INLINE void store(float *p, vec v) { *(vec_at *)p = v; }
INLINE ivec load_i(const int32_t *p) { return *(const ivec_at *)p; }
INLINE void store_i(int32_t *p, ivec v) { *(ivec_at *)p = v; }

#if RK_LANES == 4
#define RK_EACH(s) s, s, s, s
#define RK_LOW 0, 4, 1, 5
#define RK_HIGH 2, 6, 3, 7
#elif RK_LANES == 8
#define RK_EACH(s) s, s, s, s, s, s, s, s
#define RK_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define RK_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif RK_LANES == 16
#define RK_EACH(s) s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s
#define RK_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define RK_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif

INLINE vec splat(float s) { return (vec){RK_EACH(s)}; }
INLINE ivec splat_i(int32_t s) { return (ivec){RK_EACH(s)}; }
INLINE vec zero(void) { return splat(0.0f); }

/* mask ? a : b, lane by lane; mask is all ones or all zeros in each lane. */
INLINE vec choose(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }
/* a where mask is all ones, 0 elsewhere. */
INLINE vec keep(ivec mask, vec a) { return (vec)(mask & (ivec)a); }

/* The LANES floats of v, added from the first to the last. */
INLINE float sum_lanes(vec v)
{
    float total = 0.0f;
    for (int i = 0; i < LANES; i++) total += v[i];
    return total;
}

/* Transpose rows[LANES] in registers: log2(LANES) perfect shuffles of row i with row i + LANES/2. */
INLINE void transpose(vec *rows)
{
    RK_UNROLL
    for (int stage = 1; stage < LANES; stage *= 2) {
        vec next[LANES];
        RK_UNROLL
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], RK_LOW);
            next[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], RK_HIGH);
        }
        RK_UNROLL
        for (int i = 0; i < LANES; i++) rows[i] = next[i];
    }
}

INLINE int32_t min_i(int32_t a, int32_t b) { return a < b ? a : b; }
INLINE int32_t max_i(int32_t a, int32_t b) { return a > b ? a : b; }
INLINE int32_t ceil_div(int32_t a, int32_t b) { return (a + b - 1) / b; }
/* Where piece i begins if n is cut into `pieces` as evenly as possible. */
INLINE int32_t piece_start(int32_t n, int32_t i, int32_t pieces) { return (int32_t)((int64_t)n * i / pieces); }
/* Channels as stored: padded to whole panels. */
INLINE int32_t padded(int32_t channels) { return ceil_div(channels, PANEL) * PANEL; }

#endif
