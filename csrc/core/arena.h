/* Memory handed in by the caller, cut into pieces one after the other. */

#ifndef RK_ARENA_H
#define RK_ARENA_H

#include "core/vec.h"

/* base NULL: measuring.  Nothing is written then, and `used` ends as the number of bytes needed. */
typedef struct { char *base; uint64_t used; } arena_t;

/* The next `count` items of `size` bytes, aligned to a cache line; NULL while measuring. */
INLINE void *take(arena_t *arena, size_t count, size_t size)
{
    const uint64_t start = arena->used;
    arena->used = (start + (uint64_t)count * size + 63) / 64 * 64;
    return arena->base ? arena->base + start : NULL;
}
/* The bytes that were measured, or 0 if this system cannot address so many. */
INLINE size_t measured(const arena_t *arena) { return arena->used <= SIZE_MAX ? (size_t)arena->used : 0; }
INLINE float *take_floats(arena_t *arena, size_t count) { return take(arena, count, sizeof(float)); }

#endif
