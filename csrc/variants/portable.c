/* Portable: vectors of 4 floats, which every x86-64 (SSE2) and every AArch64 (NEON) has; elsewhere plain C. */

#define RK_NAME portable
#define RK_LANES 4
#define RK_ROWS 6
#include "entries.h"
