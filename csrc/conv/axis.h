/* One axis of a convolution: which sources and taps each destination reads.

   Forward, destinations are outputs and sources are inputs.  For the input adjoint it is the other way round: destinations
   are inputs, sources are output adjoints.  Destination d reads the sources first + t for a range of taps t, those inside
   the image.  Destinations with the same range of taps form a class; a position of the image belongs to a class of rows and
   to a class of columns, so a direct convolution forms no product with padding.

   The input adjoint's taps are renumbered, stride phase by stride phase, in falling order so that sources rise: `tap_of`
   gives the kernel's own number.  Every function below takes constant time, but `class_size`, which counts.  */

#ifndef RK_AXIS_H
#define RK_AXIS_H

#include "core/vec.h"

/* n destinations that read from `sources` sources; large: with Winograd tiles of 4 x 4 outputs */
typedef struct { int32_t n, sources, taps, stride, pad, adjoint, large; } axis_t;
typedef struct { int32_t first, tap, taps; } reach_t; /* sources first + t for taps t = tap .. tap + taps - 1 */

/* The number of taps in stride phase f, which are f, f + stride, ... below taps; and in all phases before f. */
INLINE int32_t phase_taps(const axis_t *a, int32_t f) { return f < a->taps ? (a->taps - 1 - f) / a->stride + 1 : 0; }
INLINE int32_t taps_before(const axis_t *a, int32_t f) { return a->taps / a->stride * f + min_i(f, a->taps % a->stride); }

/* The kernel's own number of tap t. */
INLINE int32_t tap_of(const axis_t *a, int32_t t)
{
    if (!a->adjoint) return t;
    const int32_t shorter = a->taps / a->stride, longer = a->taps % a->stride * (shorter + 1); /* taps in the longer phases */
    const int32_t f = t < longer ? t / (shorter + 1) : a->taps % a->stride + (t - longer) / shorter;
    return f + a->stride * (phase_taps(a, f) - 1 - (t - taps_before(a, f)));
}

/* The stride phase of destination d of an adjoint axis. */
INLINE int32_t phase_of(const axis_t *a, int32_t d) { return (d + a->pad) % a->stride; }

/* What destination d reads. */
INLINE reach_t reach(const axis_t *a, int32_t d)
{
    reach_t r;
    int32_t start = 0, end = a->taps;
    if (a->adjoint) { /* source (d + pad - k) / stride for the taps k of d's phase */
        start = taps_before(a, phase_of(a, d));
        end = start + phase_taps(a, phase_of(a, d));
        r.first = (d + a->pad) / a->stride - (end - 1);
    } else {
        r.first = d * a->stride - a->pad;
    }
    r.tap = max_i(start, -r.first);
    r.taps = max_i(0, min_i(end, a->sources - r.first) - r.tap);
    return r;
}

/* The nearest destination after d (direction 1) or before d (-1) that may belong to d's class; it may be outside 0..n-1.
   In the input adjoint, destinations that differ by a multiple of the stride read the same kernel taps: they are one phase.  In
   each phase `first` rises with d, so the members of a class are neighbours in their phase.  Phases beyond the kernel have no taps;
   all their destinations are one class. */
INLINE int32_t neighbour(const axis_t *a, int32_t d, int32_t direction)
{
    if (!a->adjoint) return d + direction;
    if (phase_of(a, d) < a->taps) return d + direction * a->stride;
    const int32_t next = d + direction;
    if (next < 0 || phase_of(a, next) >= a->taps) return next;
    return next + direction * a->taps; /* over the phases that have taps */
}

INLINE int same_class(const axis_t *a, int32_t d, int32_t e)
{
    const reach_t r = reach(a, d), s = reach(a, e);
    return r.tap == s.tap && r.taps == s.taps;
}

/* Whether no destination before d belongs to d's class. */
LOCAL int first_of_class(const axis_t *a, int32_t d)
{
    const int32_t before = neighbour(a, d, -1);
    return before < 0 || !same_class(a, d, before);
}

/* The member of d's class after d, or n. */
LOCAL int32_t next_of_class(const axis_t *a, int32_t d)
{
    const int32_t next = neighbour(a, d, 1);
    return next < a->n && same_class(a, d, next) ? next : a->n;
}

/* The number of members of d's class from d on. */
LOCAL int32_t class_size(const axis_t *a, int32_t d)
{
    int32_t size = 0;
    for (; d < a->n; d = next_of_class(a, d)) size++;
    return size;
}

#endif
