/* Starting and ending a team (team.h). */

#define _GNU_SOURCE /* Linux: affinity */
#include "core/team.h"

#ifdef RK_THREADS
#include <sched.h>

enum { STACK = 1 << 20 }; /* bytes: kernels put up to 0.3 MB there, and some systems give a thread less */

#ifdef __linux__
/* Linux often starts a thread on its parent's core and leaves both there for many calls, other cores idle.  So a helper starts
   elsewhere, and from then on is as free as its parent. */
typedef cpu_set_t cores_t;
static void find_cores(cores_t *cores)
{
    if (sched_getaffinity(0, sizeof *cores, cores) != 0) CPU_ZERO(cores);
}
static void start_elsewhere(pthread_t helper, const cores_t *cores)
{
    cores_t others = *cores;
    CPU_CLR(sched_getcpu(), &others);
    if (CPU_COUNT(&others) > 0) pthread_setaffinity_np(helper, sizeof others, &others);
}
static void run_anywhere(const cores_t *cores)
{
    if (CPU_COUNT(cores) > 0) sched_setaffinity(0, sizeof *cores, cores);
}
#else
typedef int cores_t; /* the system decides */
static void find_cores(cores_t *cores) { *cores = 0; }
static void start_elsewhere(pthread_t helper, const cores_t *cores) { (void)helper, (void)cores; }
static void run_anywhere(const cores_t *cores) { (void)cores; }
#endif

typedef struct {
    body_t *body;
    void *task;
    team_t *team;
    cores_t cores;
    atomic_int go; /* set once every helper has started */
} start_t;

static void *member(void *argument)
{
    start_t *start = argument;
    while (!atomic_load_explicit(&start->go, memory_order_acquire)) sched_yield();
    run_anywhere(&start->cores);
    start->body(start->task, start->team);
    return NULL;
}
#endif

/* Run body(task, team) on `threads` members, this thread one of them; return when all are done.
   Where the system refuses a thread the team is smaller, and the result the same. */
void rk_team_run(int threads, body_t *body, void *task)
{
#ifdef RK_THREADS
    team_t team = {.members = 1, .lock = PTHREAD_MUTEX_INITIALIZER, .begun = PTHREAD_COND_INITIALIZER};
    start_t start = {.body = body, .task = task, .team = &team};
    pthread_t helpers[MAX_THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    int helping = 0;
    if (threads > 1) find_cores(&start.cores);
    while (helping < threads - 1 && helping < MAX_THREADS - 1 && pthread_create(&helpers[helping], &attributes, member, &start) == 0)
        start_elsewhere(helpers[helping++], &start.cores);
    pthread_attr_destroy(&attributes);
    team.members = helping + 1;
    atomic_store_explicit(&start.go, 1, memory_order_release);
    body(task, &team);
    for (int i = 0; i < helping; i++) pthread_join(helpers[i], NULL);
    pthread_cond_destroy(&team.begun);
    pthread_mutex_destroy(&team.lock);
#else
    team_t team = {.members = 1};
    (void)threads;
    body(task, &team);
#endif
}
