/* A team: the threads that share one call.

   Every member of a team runs the same body.  Work comes in phases: members claim items until none is left, then meet at a
   barrier.  Which member runs an item is left to chance, what an item computes is not, so results are bitwise identical for
   any number of members.

   The calling thread is a member; the others are helpers, threads that are started once, wait between calls, and are shared by
   all calls of the process (team.c).  A waiting thread spins for some ten microseconds and then sleeps.  */

#ifndef RK_TEAM_H
#define RK_TEAM_H

#include <stddef.h>
#include <stdint.h>

#if !defined(_WIN32)
#define RK_THREADS 1
#include <pthread.h>
#include <stdatomic.h>

/* Threads that sleep until a number changes. */
typedef struct {
    atomic_int sleepers;
    pthread_mutex_t lock;
    pthread_cond_t rung;
} bell_t;

/* Wait while *number is `old`: spin, then sleep (team.c).  Whoever changes the number rings the bell afterwards. */
void rk_wait_while(atomic_int *number, int old, int spins, bell_t *bell);
void rk_ring(bell_t *bell);
#endif

typedef struct {
    int members;
#ifdef RK_THREADS
    int spins;                    /* how often a waiting member looks before it sleeps */
    _Alignas(64) atomic_int next; /* the first item that nobody has claimed */
    _Alignas(64) atomic_int waiting; /* members at the barrier */
    _Alignas(64) atomic_int phase;
    bell_t bell;                  /* for a new phase */
#else
    int next;
#endif
} team_t;

typedef void body_t(void *task, team_t *team);

/* Run body(task, team) on up to `threads` members; return when all are done.  If the system refuses a thread the team is smaller,
   and the result the same. */
void rk_team_run(int threads, body_t *body, void *task);

/* body for every item of this phase that this member of `team` claims */
#define EACH(i, items) for (int32_t i; (i = claim(team)) < (items);)

/* The next unclaimed item of this phase. */
static inline int claim(team_t *t)
{
#ifdef RK_THREADS
    if (t->members > 1) return atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
    const int item = atomic_load_explicit(&t->next, memory_order_relaxed);
    atomic_store_explicit(&t->next, item + 1, memory_order_relaxed);
    return item;
#else
    return t->next++;
#endif
}

/* Wait until every member is here; the last to arrive runs finish(argument), unless finish is NULL, while the others wait.  All that
   any of them wrote before is then seen by all, and claims start from 0 again. */
static inline void barrier_then(team_t *t, void (*finish)(void *argument), void *argument)
{
#ifdef RK_THREADS
    if (t->members > 1) {
        const int phase = atomic_load_explicit(&t->phase, memory_order_relaxed);
        if (atomic_fetch_add_explicit(&t->waiting, 1, memory_order_acq_rel) < t->members - 1) {
            rk_wait_while(&t->phase, phase, t->spins, &t->bell);
            return;
        }
        if (finish) finish(argument);
        atomic_store_explicit(&t->waiting, 0, memory_order_relaxed);
        atomic_store_explicit(&t->next, 0, memory_order_relaxed);
        atomic_store(&t->phase, phase + 1);
        rk_ring(&t->bell);
        return;
    }
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
#else
    t->next = 0;
#endif
    if (finish) finish(argument);
}
static inline void barrier(team_t *t) { barrier_then(t, NULL, NULL); }

#endif
