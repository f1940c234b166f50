/* Threads that live for one call.

   Every member of a team runs the same body.  Work comes in phases: members claim items until none is left, then meet
   at a barrier.  Which member runs an item is left to chance; what an item computes is not, so results are bitwise the
   same for any number of members.  A team is made when a call starts and is gone when it returns: nothing spins between
   calls, nothing survives into a forked process, and there is no global state.  */

#ifndef RK_TEAM_H
#define RK_TEAM_H

#include <stdint.h>

#if !defined(_WIN32)
#define RK_THREADS 1
#include <pthread.h>
#include <stdatomic.h>
#endif

enum { MAX_THREADS = 64, SPINS = 1000 }; /* SPINS: some ten microseconds; after that a waiting member sleeps */

typedef struct {
    int members;
#ifdef RK_THREADS
    atomic_int next, waiting, phase;
    pthread_mutex_t lock;
    pthread_cond_t begun; /* a new phase */
#else
    int next;
#endif
} team_t;

typedef void body_t(void *task, team_t *team);

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

/* Wait until every member is here; what any of them wrote before is then seen by all, and claims start again from 0. */
static inline void barrier(team_t *t)
{
#ifdef RK_THREADS
    if (t->members > 1) {
        const int phase = atomic_load_explicit(&t->phase, memory_order_relaxed);
        if (atomic_fetch_add_explicit(&t->waiting, 1, memory_order_acq_rel) < t->members - 1) {
            for (int spin = 0; spin < SPINS && atomic_load_explicit(&t->phase, memory_order_acquire) == phase; spin++) {
#if defined(__x86_64__) || defined(__i386__)
                __builtin_ia32_pause();
#endif
            }
            if (atomic_load_explicit(&t->phase, memory_order_acquire) != phase) return;
            pthread_mutex_lock(&t->lock); /* another process has a member's core: sleep, so that the member may have this one */
            while (atomic_load_explicit(&t->phase, memory_order_acquire) == phase) pthread_cond_wait(&t->begun, &t->lock);
            pthread_mutex_unlock(&t->lock);
            return;
        }
        atomic_store_explicit(&t->waiting, 0, memory_order_relaxed);
        atomic_store_explicit(&t->next, 0, memory_order_relaxed);
        pthread_mutex_lock(&t->lock);
        atomic_store_explicit(&t->phase, phase + 1, memory_order_release);
        pthread_cond_broadcast(&t->begun);
        pthread_mutex_unlock(&t->lock);
        return;
    }
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
#else
    t->next = 0;
#endif
}

void rk_team_run(int threads, body_t *body, void *task);

#endif
