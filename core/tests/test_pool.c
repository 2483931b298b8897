/* The pool of threads: every part of every task runs once, memory is seen, nothing is burnt, and each thing that a system
 * can refuse is refused in turn. pool.c is included, so that its calls of the system can be counted. */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int refuse;              /* the call with this number fails; 0: none */
static _Atomic int calls;       /* that may fail */
static _Atomic int outstanding; /* things made and not yet given back */

static int refused(void) { return ++calls == refuse; }

static void *counted_calloc(size_t n, size_t size) {
    void *memory = refused() ? NULL : calloc(n, size);
    outstanding += memory != NULL;
    return memory;
}
static void counted_free(void *memory) {
    outstanding -= memory != NULL;
    free(memory);
}
static int counted_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *argument) {
    const int failed = refused() || pthread_create(thread, how, run, argument);
    outstanding += !failed;
    return failed;
}
static int counted_join(pthread_t thread, void **result) {
    outstanding--;
    return pthread_join(thread, result);
}
static int counted_mutex(pthread_mutex_t *mutex, const pthread_mutexattr_t *how) {
    const int failed = refused() || pthread_mutex_init(mutex, how);
    outstanding += !failed;
    return failed;
}
static int counted_mutex_destroy(pthread_mutex_t *mutex) {
    outstanding--;
    return pthread_mutex_destroy(mutex);
}
static int counted_cond(pthread_cond_t *cond, const pthread_condattr_t *how) {
    const int failed = refused() || pthread_cond_init(cond, how);
    outstanding += !failed;
    return failed;
}
static int counted_cond_destroy(pthread_cond_t *cond) {
    outstanding--;
    return pthread_cond_destroy(cond);
}

#define calloc counted_calloc
#define free counted_free
#define pthread_create counted_create
#define pthread_join counted_join
#define pthread_mutex_init counted_mutex
#define pthread_mutex_destroy counted_mutex_destroy
#define pthread_cond_init counted_cond
#define pthread_cond_destroy counted_cond_destroy
#include "../src/pool.c"
#undef calloc
#undef free
#undef pthread_create
#undef pthread_join

#define CHECK(condition) \
    do \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    while (0)

static void wait_ms(long ms) {
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* -- every part once ----------------------------------------------------------------------------------------------- */

typedef struct job {
    int round; /* what the caller wrote before the task */
    int rounds[256]; /* what each part wrote of it */
    int parts;
    long pause; /* of parts with odd numbers, in ms: others then sleep */
} job;

static void note(void *context, int part, int parts) {
    job *j = context;
    if (part % 2 && j->pause)
        wait_ms(j->pause);
    CHECK(part >= 0 && part < parts && parts == j->parts);
    CHECK(j->rounds[part] == j->round - 1); /* once, and the round before is over */
    j->rounds[part] = j->round;
}

static void run_rounds(ob_pool *pool, int rounds) {
    job j;
    memset(&j, 0, sizeof j);
    j.parts = ob_pool_threads(pool);
    for (j.round = 1; j.round <= rounds; j.round++) {
        j.pause = j.round % 512 == 7 ? 2 : 0;
        if (j.round % 512 == 9)
            wait_ms(2); /* now the workers sleep */
        ob_pool_run(pool, note, &j);
        for (int part = 0; part < j.parts; part++)
            CHECK(j.rounds[part] == j.round);
    }
}

static void *run_pool(void *threads) {
    ob_pool *pool = NULL;
    CHECK(ob_pool_create(*(int *)threads, &pool) == OB_OK);
    run_rounds(pool, 1000);
    ob_pool_free(pool);
    return NULL;
}

static void test_every_part_runs_once(int rounds) {
    run_rounds(NULL, 3);
    for (int threads = 1; threads <= 8; threads += 1 + threads / 3) {
        ob_pool *pool = NULL;
        CHECK(ob_pool_create(threads, &pool) == OB_OK && pool);
#ifdef OB_NO_THREADS
        CHECK(ob_pool_threads(pool) == 1);
#else
        CHECK(ob_pool_threads(pool) == threads);
#endif
        run_rounds(pool, rounds / threads);
        ob_pool_free(pool);
    }
    ob_pool *pool = NULL; /* the largest, unused and used once */
    CHECK(ob_pool_create(256, &pool) == OB_OK);
    ob_pool_free(pool);
    CHECK(ob_pool_create(256, &pool) == OB_OK);
    run_rounds(pool, 2);
    ob_pool_free(pool);
    CHECK(outstanding == 0);
}

static void test_pools_do_not_meet(void) {
    pthread_t callers[3];
    int threads[3] = {2, 3, 2};
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&callers[i], NULL, run_pool, &threads[i]) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(callers[i], NULL);
}

/* -- what can go wrong --------------------------------------------------------------------------------------------- */

static void test_arguments(void) {
    ob_pool *pool = NULL;
    CHECK(ob_pool_create(0, &pool) == OB_ERROR_ARGUMENT && !pool);
    CHECK(ob_pool_create(-1, &pool) == OB_ERROR_ARGUMENT && !pool);
    CHECK(ob_pool_create(257, &pool) == OB_ERROR_ARGUMENT && !pool);
    CHECK(ob_pool_create(2, NULL) == OB_ERROR_ARGUMENT);
    CHECK(ob_pool_threads(NULL) == 1);
    ob_pool_free(NULL);
}

static void test_each_refusal(void) {
    int failures = 0;
    for (refuse = 1;; refuse++) {
        ob_pool *pool = NULL;
        calls = 0;
        const ob_status status = ob_pool_create(5, &pool);
        if (status == OB_OK) {
            ob_pool_free(pool);
            CHECK(outstanding == 0);
            break;
        }
        CHECK(status == (refuse == 1 ? OB_ERROR_MEMORY : OB_ERROR_THREADS));
        CHECK(!pool && outstanding == 0);
        failures++;
    }
    refuse = 0;
#ifdef OB_NO_THREADS
    CHECK(failures == 1);
#else
    CHECK(failures == 1 + 2 + 4); /* memory, lock and bell, threads */
#endif
}

static void test_idle_threads_cost_nothing(void) {
    ob_pool *pool = NULL;
    CHECK(ob_pool_create(4, &pool) == OB_OK);
    run_rounds(pool, 5);
    wait_ms(20);
    const clock_t before = clock(); /* of all threads of the process */
    wait_ms(200);
    CHECK(clock() - before < CLOCKS_PER_SEC / 50);
    ob_pool_free(pool);
}

static void nothing(void *context, int part, int parts) { (void)context, (void)part, (void)parts; }

static double microseconds_a_task(int threads) {
    ob_pool *pool = NULL;
    CHECK(ob_pool_create(threads, &pool) == OB_OK);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < 2000; i++)
        ob_pool_run(pool, nothing, NULL);
    clock_gettime(CLOCK_MONOTONIC, &to);
    ob_pool_free(pool);
    return ((double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) * 1e-3) / 2000;
}

int main(int count, char **arguments) {
    const int rounds = count > 1 ? atoi(arguments[1]) : 20000;
    test_arguments();
    test_each_refusal();
    test_every_part_runs_once(rounds);
    test_idle_threads_cost_nothing();
    printf("microseconds a task: %.2f with 1 thread, %.2f with 2, %.2f with 3, %.2f with 8\n", microseconds_a_task(1),
           microseconds_a_task(2), microseconds_a_task(3), microseconds_a_task(8));
    test_pools_do_not_meet();
    CHECK(outstanding == 0);
    return 0;
}
