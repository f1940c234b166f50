/* Which tables this build and this processor have. */

#include "interface.h"

#include <string.h>

extern const rk_table rk_table_portable;
#if defined(RK_PORTABLE16)
extern const rk_table rk_table_portable16;
#endif
#if defined(__x86_64__)
extern const rk_table rk_table_avx2, rk_table_avx512;
#elif defined(__aarch64__)
extern const rk_table rk_table_neon;
#endif

/* The table called `name`, or NULL. */
const rk_table *rk_dispatch(const char *name)
{
#if defined(__x86_64__)
    if (strcmp(name, "avx512") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma") ? &rk_table_avx512 : NULL;
    if (strcmp(name, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &rk_table_avx2 : NULL;
#elif defined(__aarch64__)
    if (strcmp(name, "neon") == 0) return &rk_table_neon;
#endif
    if (strcmp(name, "portable") == 0) return &rk_table_portable;
#if defined(RK_PORTABLE16)
    if (strcmp(name, "portable16") == 0) return &rk_table_portable16;
#endif
    return NULL;
}
