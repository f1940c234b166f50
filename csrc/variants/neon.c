/* NEON: 32 registers of 4 floats; a micro-kernel of 12 rows x 8 columns is 24 sums, 2 weights, 1 input.  AArch64 always has it. */

#if defined(__aarch64__) /* empty elsewhere, so that one source list serves every processor */

#define RK_NAME neon
#define RK_LANES 4
#define RK_ROWS 12
#include "entries.h"

#endif
