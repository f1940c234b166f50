/* The micro-kernel of AVX-512 (16 lanes, 12 rows), compiled for the base instruction set.  It is slow and serves tests
   only: with it the lane logic of avx512.c is tested on every machine.  Compiling it takes almost as long as all other
   files together, so the extension has it only if CFLAGS holds -DRK_PORTABLE16. */

#if defined(RK_PORTABLE16)

#if defined(__GNUC__) && !defined(__clang__)
/* These two passes of the compiler take half of the time to compile this file, and gain nothing. */
#pragma GCC optimize("no-gcse", "no-gcse-after-reload")
#endif

#define RK_NAME portable16
#define RK_LANES 16
#define RK_ROWS 12
#include "entries.h"

#endif
