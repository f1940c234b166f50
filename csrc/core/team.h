/* A team: the threads that share one call.

   Every member of a team runs the same body.  Work comes in phases: members claim items until none is left, then meet at a
   barrier.  A member claims the items of its own share first, then what is left of the others' shares.  The shares are the same in
   every phase and every step, so that the data of a share stay in the cache of one core.  Which thread runs an item is not fixed,
   but what the item computes is, so results are bitwise identical for any number of members.

   The calling thread is a member; the others are helpers, threads that are started once, wait between calls, and are shared by
   all calls of the process (team.c).  A waiting thread spins for some tens of microseconds and then sleeps; a helper that waits for
   a call may spin for half a millisecond.  */

#ifndef RK_TEAM_H
#define RK_TEAM_H

#include "interface.h"

#include <stddef.h>
#include <stdint.h>

#include <fenv.h>
#include <pthread.h>
#include <stdatomic.h>

/* What threads sleep on until a number changes: how many sleep, and a lock and a condition variable; rk_ring wakes them. */
typedef struct {
    atomic_int sleepers;
    pthread_mutex_t lock;
    pthread_cond_t rung;
} bell_t;

/* Wait while *number is `old`: spin, then sleep (team.c).  The thread that changes the number must call rk_ring afterwards. */
void rk_wait_while(atomic_int *number, int old, int spins, bell_t *bell);
void rk_ring(bell_t *bell);

enum { LISTS = 2 }; /* lists of items in a phase */

/* What all members share. */
typedef struct {
    int members;
    int spins;                       /* how often a waiting member looks before it sleeps */
    fenv_t environment;              /* the caller's floating-point environment: helpers round as it does */
    _Alignas(64) atomic_int waiting; /* members at the barrier */
    _Alignas(64) atomic_int phase;
    bell_t bell;                     /* for a new phase */
    struct { _Alignas(64) atomic_int claimed[LISTS]; } share[RK_MAX_THREADS]; /* items claimed of each member's share */
} shared_t;

/* One member's view: its own number, and for a team of one the items claimed. */
typedef struct {
    shared_t *shared;
    int member;
    int claimed[LISTS];
} team_t;

typedef void body_t(void *task, team_t *team);

/* Run body(task, team) on up to `threads` members; return when all are done.  If the system refuses a thread the team is smaller,
   and the result the same. */
void rk_team_run(int threads, body_t *body, void *task);

/* body for every item of this phase that this member of `team` claims; EACH_ALSO: of the phase's second list */
#define EACH(i, items) for (int32_t i; (i = claim(team, 0, items)) >= 0;)
#define EACH_ALSO(i, items) for (int32_t i; (i = claim(team, 1, items)) >= 0;)

/* An item of a list that nobody has claimed, or -1. */
static inline int32_t claim(team_t *t, int list, int32_t items)
{
    shared_t *s = t->shared;
    for (int k = 0; s->members > 1 && k < s->members; k++) {
        const int owner = (t->member + k) % s->members;
        const int32_t first = (int32_t)((int64_t)items * owner / s->members);
        const int32_t end = (int32_t)((int64_t)items * (owner + 1) / s->members);
        atomic_int *claimed = &s->share[owner].claimed[list];
        if (k > 0 && first + atomic_load_explicit(claimed, memory_order_relaxed) >= end) continue; /* do not take the cache line */
        const int32_t item = first + atomic_fetch_add_explicit(claimed, 1, memory_order_relaxed);
        if (item < end) return item;
    }
    if (s->members > 1) return -1;
    return t->claimed[list] < items ? t->claimed[list]++ : -1;
}

/* Wait until every member is here; the last to arrive runs finish(argument), unless finish is NULL, while the others wait.  All
   that any of them wrote before is then seen by all, and no item of the next phase is claimed. */
static inline void barrier_then(team_t *t, void (*finish)(void *argument), void *argument)
{
    shared_t *s = t->shared;
    if (s->members > 1) {
        const int phase = atomic_load_explicit(&s->phase, memory_order_relaxed);
        if (atomic_fetch_add_explicit(&s->waiting, 1, memory_order_acq_rel) < s->members - 1) {
            rk_wait_while(&s->phase, phase, s->spins, &s->bell);
            return;
        }
        if (finish) finish(argument);
        for (int i = 0; i < s->members * LISTS; i++)
            atomic_store_explicit(&s->share[i / LISTS].claimed[i % LISTS], 0, memory_order_relaxed);
        atomic_store_explicit(&s->waiting, 0, memory_order_relaxed);
        atomic_store(&s->phase, phase + 1);
        rk_ring(&s->bell);
        return;
    }
    for (int i = 0; i < LISTS; i++) t->claimed[i] = 0;
    if (finish) finish(argument);
}
static inline void barrier(team_t *t) { barrier_then(t, NULL, NULL); }

#endif
