/* The micro-kernel of AVX-512 (16 lanes, 12 rows), compiled for the base instruction set: slow, and there so that the
   lane logic of avx512.c is tested on every machine. */

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-gcse", "no-gcse-after-reload") /* half of the time to compile this file, and no gain */
#endif

#define RK_NAME portable16
#define RK_LANES 16
#define RK_ROWS 12
#include "entries.h"
