/* How long a cache line takes from one core to another.

       cc -O2 -std=c11 -pthread core_latency.c -o core_latency && ./core_latency 0 1

   prints nanoseconds, one way: the least of five measurements, in each of which the two cores (Linux numbers them from 0)
   change one number alternately.  Cores that share a cache need some tens of nanoseconds, others some hundreds.  */

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TURNS = 5, ROUNDS = 20000 };

static _Alignas(64) atomic_int number;

static void stay_on(int core)
{
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores)) exit(2);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *answer(void *core)
{
    stay_on(*(int *)core);
    for (int i = 1; i < 2 * TURNS * ROUNDS; i += 2) {
        while (atomic_load_explicit(&number, memory_order_acquire) != i) continue;
        atomic_store_explicit(&number, i + 1, memory_order_release);
    }
    return NULL;
}

int main(int count, char **given)
{
    if (count != 3) return fprintf(stderr, "usage: core_latency CORE CORE\n"), 2;
    int here = atoi(given[1]), there = atoi(given[2]);
    pthread_t other;
    double least = 1.0;
    stay_on(here);
    if (pthread_create(&other, NULL, answer, &there)) return 2;
    for (int turn = 0, i = 0; turn < TURNS; turn++) {
        const double begin = seconds();
        for (int round = 0; round < ROUNDS; round++, i += 2) {
            atomic_store_explicit(&number, i + 1, memory_order_release);
            while (atomic_load_explicit(&number, memory_order_acquire) != i + 2) continue;
        }
        const double one_way = (seconds() - begin) / (2 * ROUNDS);
        if (one_way < least) least = one_way;
    }
    pthread_join(other, NULL);
    printf("%.0f\n", 1e9 * least);
    return 0;
}
