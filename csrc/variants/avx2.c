/* AVX2 + FMA: 16 registers of 8 floats; a micro-kernel of 6 rows x 16 columns is 12 sums, 2 weights, 1 input. */

#if defined(__x86_64__) /* empty elsewhere, so that one source list serves every processor */

#define RK_NAME avx2
#define RK_LANES 8
#define RK_ROWS 6
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC target("avx2,fma")
#endif
#include "entries.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
