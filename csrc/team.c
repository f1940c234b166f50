/* Starting and ending a team (team.h). */

#include "team.h"

#ifdef RK_THREADS
#include <sched.h>

enum { STACK = 1 << 20 }; /* bytes: kernels put up to 0.3 MB there, and some systems give a thread less */

typedef struct {
    body_t *body;
    void *task;
    team_t *team;
    atomic_int go; /* set once the team's size is known */
} start_t;

static void *member(void *argument)
{
    start_t *start = argument;
    while (!atomic_load_explicit(&start->go, memory_order_acquire)) sched_yield();
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
    start_t start = {body, task, &team, 0};
    pthread_t helpers[MAX_THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    int helping = 0;
    while (helping < threads - 1 && helping < MAX_THREADS - 1 && pthread_create(&helpers[helping], &attributes, member, &start) == 0)
        helping++;
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
