/* AVX-512: 32 registers of 16 floats; a micro-kernel of 12 rows x 32 columns is 24 sums, 2 weights, 1 input. */

#if defined(__x86_64__) /* empty elsewhere, so that one source list serves every processor */

#define RK_NAME avx512
#define RK_LANES 16
#define RK_ROWS 12
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC target("avx512f,avx2,fma,prefer-vector-width=512")
#endif
#include "entries.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
