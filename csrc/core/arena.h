/* Memory handed in by the caller, cut into pieces one after the other. */

#ifndef RK_ARENA_H
#define RK_ARENA_H

#include "core/vec.h"

/* With AddressSanitizer a gap lies behind every piece; an access to it ends the program.  Otherwise the sanitizer would not see
   that one piece is written beyond its end into the next.  (NumPy uses smaller blocks than LEAST_BYTES again without telling the
   sanitizer.) */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
enum { GAP_BYTES = 128, LEAST_BYTES = 1024 };
#else
enum { GAP_BYTES = 0, LEAST_BYTES = 0 };
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)0)
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)0)
#endif

/* base NULL: measuring.  Nothing is written then, and `used` ends as the number of bytes needed. */
typedef struct { char *base; uint64_t used; } arena_t;

/* The next `count` items of `size` bytes, aligned to a cache line; NULL while measuring. */
INLINE void *take(arena_t *arena, size_t count, size_t size)
{
    const uint64_t start = arena->used, end = start + (uint64_t)count * size;
    arena->used = (end + GAP_BYTES + 63) / 64 * 64;
    if (!arena->base) return NULL;
    ASAN_UNPOISON_MEMORY_REGION(arena->base + start, end - start);
    ASAN_POISON_MEMORY_REGION(arena->base + end, arena->used - end);
    return arena->base + start;
}
/* The bytes that were measured, or 0 if this system cannot address so many. */
INLINE size_t measured(const arena_t *arena)
{
    const uint64_t bytes = arena->used + LEAST_BYTES;
    return bytes <= SIZE_MAX ? (size_t)bytes : 0;
}
INLINE float *take_floats(arena_t *arena, size_t count) { return take(arena, count, sizeof(float)); }

#endif
