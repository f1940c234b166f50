/* The micro-kernel of AVX-512 (16 lanes, 12 rows), compiled for the base instruction set.  It is slow and serves tests
   only: with it the lane logic of avx512.c is tested on every machine. */

#if defined(__GNUC__) && !defined(__clang__)
/* These two passes of the compiler take half of the time to compile this file, and gain nothing. */
#pragma GCC optimize("no-gcse", "no-gcse-after-reload")
#endif

#define RK_NAME portable16
#define RK_LANES 16
#define RK_ROWS 12
#include "entries.h"
