/* The AVX-512 block (16 lanes, 12 rows) lowered by the compiler to the base instruction set: slow, and there to be
   tested, so that the lane logic of avx512.c is exercised on every machine. */

#define RK_NAME portable16
#define RK_LANES 16
#define RK_ROWS 12
#include "entries.h"
