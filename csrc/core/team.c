/* Helpers: threads that are started once and wait between calls (team.h).

   A call takes idle helpers from a list that all calls of the process share, starts more if there are too few, and puts them
   back when it is done; so several Python threads may call at once.

   Before a fork the idle helpers are ended: they do not exist in the child, and Python does not warn about a fork of a process
   with threads.  Both processes start new helpers when they need them.  A helper that is busy during a fork does not exist in the
   child, whose list is emptied.  rk_team_close ends the idle helpers, and is called when the process exits.  */

#define _GNU_SOURCE /* Linux: affinity */
#include "core/team.h"

#include <sched.h>
#include <signal.h>
#include <time.h>

enum {
    STACK = 4 << 20, /* bytes: kernels use up to 0.46 MB, thread-local variables of all libraries come on top */
    SPINS = 2000,           /* 20 to 100 microseconds: at a barrier, and for the next job if it is not expected soon */
    JOB_SPINS = 10 * SPINS, /* 0.5 ms on Zen 5: for the next job if it is expected soon */
    SOON = 500000           /* nanoseconds; between two tasks of a meta-batch Python needs half of that */
};

typedef struct helper {
    pthread_t thread;
    struct helper *next; /* in the list of idle helpers, or among those of a call */
    _Alignas(64) atomic_int given; /* number of jobs given to it */
    bell_t bell;         /* for a job */
    body_t *body;        /* NULL: end */
    void *task;
    team_t team;
    _Alignas(64) atomic_int done; /* number of jobs done */
    bell_t done_bell;
#ifdef __linux__
    cpu_set_t cores;     /* those it may run on */
#endif
} helper_t;

static helper_t helpers[4 * RK_MAX_THREADS]; /* all that there may be at once; a call that finds too few has a smaller team */
static helper_t *idle, *unused;              /* started and waiting; not started */
static atomic_int at_work; /* calls that have more than one member */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

void rk_wait_while(atomic_int *number, int old, int spins, bell_t *bell)
{
    for (int i = 0; i < spins; i++) {
        if (atomic_load_explicit(number, memory_order_acquire) != old) return;
        pause_briefly();
    }
    pthread_mutex_lock(&bell->lock); /* sleep: whoever changes the number may need this core */
    atomic_fetch_add(&bell->sleepers, 1);
    while (atomic_load(number) == old) pthread_cond_wait(&bell->rung, &bell->lock);
    atomic_fetch_sub(&bell->sleepers, 1);
    pthread_mutex_unlock(&bell->lock);
}

/* The number was changed before: a thread that counts itself among the sleepers after this load sees the change. */
void rk_ring(bell_t *bell)
{
    if (atomic_load(&bell->sleepers) == 0) return;
    pthread_mutex_lock(&bell->lock);
    pthread_cond_broadcast(&bell->rung);
    pthread_mutex_unlock(&bell->lock);
}

static void bell_init(bell_t *bell)
{
    atomic_store(&bell->sleepers, 0);
    pthread_mutex_init(&bell->lock, NULL);
    pthread_cond_init(&bell->rung, NULL);
}
static void bell_destroy(bell_t *bell)
{
    pthread_cond_destroy(&bell->rung);
    pthread_mutex_destroy(&bell->lock);
}

static void give(helper_t *h, body_t *body, void *task, team_t team)
{
    h->body = body;
    h->task = task;
    h->team = team;
    atomic_fetch_add(&h->given, 1);
    rk_ring(&h->bell);
}

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A job that came soon after the last one is probably followed by another: a program then calls in a loop.  Other calls that are at
   work may need this core. */
static void *help(void *argument)
{
    helper_t *h = argument;
    int spins = SPINS;
    for (unsigned job = 0;; job++) {
        const int64_t begin = nanoseconds();
        rk_wait_while(&h->given, (int)job, spins, &h->bell);
        if (!h->body) return NULL;
        const shared_t *shared = h->team.shared;
        const int alone = atomic_load_explicit(&at_work, memory_order_relaxed) == 1;
        spins = shared->spins && alone && nanoseconds() - begin < SOON ? JOB_SPINS : shared->spins;
        fesetenv(&shared->environment);
        h->body(h->task, &h->team);
        atomic_store(&h->done, (int)(job + 1)); /* from here on the shared memory may be gone */
        rk_ring(&h->done_bell);
    }
}

#ifdef __linux__
/* Linux often starts a thread on its parent's core and leaves both there for many calls while other cores are idle.  So a
   helper starts on another core; from its first job on it has the affinity of its caller. */
static void start_elsewhere(helper_t *h)
{
    if (sched_getaffinity(0, sizeof h->cores, &h->cores) != 0) CPU_ZERO(&h->cores);
    const int cpu = sched_getcpu();
    if (cpu >= 0) CPU_CLR(cpu, &h->cores);
    if (CPU_COUNT(&h->cores) > 0) pthread_setaffinity_np(h->thread, sizeof h->cores, &h->cores);
}
static void run_where_caller_may(helper_t *h, const cpu_set_t *cores)
{
    if (CPU_EQUAL(&h->cores, cores)) return;
    h->cores = *cores;
    pthread_setaffinity_np(h->thread, sizeof h->cores, &h->cores);
}
#endif

/* Start helper h; return 0, or the system's error. */
static int start(helper_t *h)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    bell_init(&h->bell);
    bell_init(&h->done_bell);
    atomic_store(&h->given, 0);
    atomic_store(&h->done, 0);
    sigset_t all, before; /* the program's own threads get the signals, but not faults: a blocked one calls no handler */
    sigfillset(&all);
    const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}; /* raised by a helper */
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    const int error = pthread_create(&h->thread, &attributes, help, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error) {
        bell_destroy(&h->bell);
        bell_destroy(&h->done_bell);
    }
#ifdef __linux__
    if (!error) start_elsewhere(h);
#endif
    return error;
}

static void push(helper_t **list, helper_t *h)
{
    h->next = *list;
    *list = h;
}
static helper_t *pop(helper_t **list)
{
    helper_t *h = *list;
    if (h) *list = h->next;
    return h;
}

/* End the idle helpers; the caller holds list_lock. */
static void end_idle(void)
{
    for (helper_t *h; (h = pop(&idle)); push(&unused, h)) {
        give(h, NULL, NULL, (team_t){0});
        pthread_join(h->thread, NULL);
        bell_destroy(&h->bell);
        bell_destroy(&h->done_bell);
    }
}

void rk_team_close(void)
{
    pthread_mutex_lock(&list_lock);
    end_idle();
    pthread_mutex_unlock(&list_lock);
}
__attribute__((destructor)) static void at_exit(void) { rk_team_close(); }

static void all_unused(void)
{
    idle = unused = NULL;
    for (size_t i = 0; i < sizeof helpers / sizeof *helpers; i++) push(&unused, &helpers[i]);
}
static void before_fork(void)
{
    pthread_mutex_lock(&list_lock);
    end_idle();
}
static void after_fork_in_parent(void) { pthread_mutex_unlock(&list_lock); }
static void after_fork_in_child(void)
{
    all_unused();
    atomic_store(&at_work, 0); /* the calls of the parent's other threads do not exist here */
    pthread_mutex_init(&list_lock, NULL);
}
/* When the library is loaded, not at the first call, during which another thread may fork. */
__attribute__((constructor)) static void at_load(void)
{
    all_unused();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* Take up to `wanted` helpers, idle ones first; return how many; *taken is their list. */
static int take_helpers(int wanted, helper_t **taken)
{
    int count = 0;
    *taken = NULL;
    pthread_mutex_lock(&list_lock);
    for (; count < wanted; count++) {
        helper_t *h = pop(&idle);
        if (!h && (h = pop(&unused)) && start(h) != 0) {
            push(&unused, h);
            break;
        }
        if (!h) break;
        push(taken, h);
    }
    pthread_mutex_unlock(&list_lock);
    return count;
}

/* Wait until the helpers are done and put them back. */
static void put_back(helper_t *taken, int spins)
{
    for (helper_t *h = taken; h; h = h->next) {
        const unsigned before = (unsigned)atomic_load_explicit(&h->given, memory_order_relaxed) - 1;
        rk_wait_while(&h->done, (int)before, spins, &h->done_bell);
    }
    pthread_mutex_lock(&list_lock);
    for (helper_t *h; (h = pop(&taken));) push(&idle, h);
    pthread_mutex_unlock(&list_lock);
}

void rk_team_run(int threads, body_t *body, void *task)
{
    shared_t shared = {.members = 1, .spins = SPINS};
    team_t team = {.shared = &shared};
    helper_t *taken = NULL;
    if (threads > 1) shared.members += take_helpers((threads < RK_MAX_THREADS ? threads : RK_MAX_THREADS) - 1, &taken);
    if (!taken) {
        body(task, &team);
        return;
    }
    bell_init(&shared.bell);
    fegetenv(&shared.environment);
    atomic_fetch_add_explicit(&at_work, 1, memory_order_relaxed);
#ifdef __linux__
    cpu_set_t cores;
    const int known = sched_getaffinity(0, sizeof cores, &cores) == 0;
    if (known && CPU_COUNT(&cores) < shared.members) shared.spins = 0; /* a thread that spins would keep another from running */
#endif
    int member = 1;
    for (helper_t *h = taken; h; h = h->next) {
#ifdef __linux__
        if (known) run_where_caller_may(h, &cores);
#endif
        give(h, body, task, (team_t){.shared = &shared, .member = member++});
    }
    body(task, &team);
    put_back(taken, shared.spins);
    atomic_fetch_sub_explicit(&at_work, 1, memory_order_relaxed);
    bell_destroy(&shared.bell);
}
