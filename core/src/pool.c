/* Threads wait in two steps. Layers follow each other within microseconds, so a waiting thread first looks again and again,
 * and soon offers its core to others at every look, since the thread that it waits for may be one of them. When nothing came
 * for a while it sleeps, and costs nothing. Sleeping counts itself before it looks a last time, waking changes the number
 * before it looks for sleepers: so none sleeps through it. For that order all numbers here are sequentially consistent. */
#if !defined(_WIN32) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "pool.h"

#include <stdlib.h>

enum { MOST_THREADS = 256 };

#ifdef OB_NO_THREADS

struct ob_pool {
    int threads;
};

ob_status ob_pool_create(int threads, ob_pool **pool) {
    if (!pool || threads < 1 || threads > MOST_THREADS)
        return OB_ERROR_ARGUMENT;
    *pool = calloc(1, sizeof **pool);
    if (!*pool)
        return OB_ERROR_MEMORY;
    (*pool)->threads = 1;
    return OB_OK;
}

void ob_pool_free(ob_pool *pool) { free(pool); }

int ob_pool_threads(const ob_pool *pool) { return pool ? pool->threads : 1; }

void ob_pool_run(ob_pool *pool, ob_task *task, void *context) {
    (void)pool;
    task(context, 0, 1);
}

#else

/* -- what the system offers ---------------------------------------------------------------------------------------- */

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

typedef HANDLE system_thread;
typedef SRWLOCK system_lock;
typedef CONDITION_VARIABLE system_bell;

#define THREAD_RESULT DWORD WINAPI
static int thread_start(system_thread *thread, LPTHREAD_START_ROUTINE run, void *argument) {
    *thread = CreateThread(NULL, 0, run, argument, 0, NULL);
    return *thread != NULL;
}
static void thread_join(system_thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}
static void give_way(void) { SwitchToThread(); }
static int lock_make(system_lock *lock) { return InitializeSRWLock(lock), 1; }
static void lock_free(system_lock *lock) { (void)lock; }
static void lock_take(system_lock *lock) { AcquireSRWLockExclusive(lock); }
static void lock_give(system_lock *lock) { ReleaseSRWLockExclusive(lock); }
static int bell_make(system_bell *bell) { return InitializeConditionVariable(bell), 1; }
static void bell_free(system_bell *bell) { (void)bell; }
static void bell_wait(system_bell *bell, system_lock *lock) { SleepConditionVariableSRW(bell, lock, INFINITE, 0); }
static void bell_ring(system_bell *bell) { WakeAllConditionVariable(bell); }

#else

#include <pthread.h>
#include <sched.h>

typedef pthread_t system_thread;
typedef pthread_mutex_t system_lock;
typedef pthread_cond_t system_bell;

#define THREAD_RESULT void *
static int thread_start(system_thread *thread, void *(*run)(void *), void *argument) {
    return pthread_create(thread, NULL, run, argument) == 0;
}
static void thread_join(system_thread thread) { pthread_join(thread, NULL); }
static void give_way(void) { sched_yield(); }
static int lock_make(system_lock *lock) { return pthread_mutex_init(lock, NULL) == 0; }
static void lock_free(system_lock *lock) { pthread_mutex_destroy(lock); }
static void lock_take(system_lock *lock) { pthread_mutex_lock(lock); }
static void lock_give(system_lock *lock) { pthread_mutex_unlock(lock); }
static int bell_make(system_bell *bell) { return pthread_cond_init(bell, NULL) == 0; }
static void bell_free(system_bell *bell) { pthread_cond_destroy(bell); }
static void bell_wait(system_bell *bell, system_lock *lock) { pthread_cond_wait(bell, lock); }
static void bell_ring(system_bell *bell) { pthread_cond_broadcast(bell); }

#endif

/* -- numbers that threads share ------------------------------------------------------------------------------------ */

/* They count modulo 2^32: UINT32_MAX is -1; 0 is what memory of zeros holds. `add` returns the new number. */
#if defined(_MSC_VER) && !defined(__clang__)

typedef volatile LONG number;
static uint32_t get(number *n) { return (uint32_t)InterlockedOr(n, 0); }
static uint32_t add(number *n, uint32_t by) { return (uint32_t)InterlockedExchangeAdd(n, (LONG)by) + by; }

#else

#include <stdatomic.h>

typedef _Atomic uint32_t number;
static uint32_t get(number *n) { return atomic_load(n); }
static uint32_t add(number *n, uint32_t by) { return atomic_fetch_add(n, by) + by; }

#endif

/* Tell the core that this thread only waits. */
static void rest(void) {
#if defined(_MSC_VER) && !defined(__clang__)
    YieldProcessor();
#elif defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
    __asm__ volatile("yield");
#endif
}

/* -- the pool ------------------------------------------------------------------------------------------------------ */

typedef struct worker {
    ob_pool *pool;
    int part;
    system_thread thread;
} worker;

struct ob_pool {
    int threads;   /* the caller is one of them: there are threads - 1 workers */
    ob_task *task; /* NULL: go home */
    void *context;
    system_lock lock;
    system_bell bell;
    char apart[64]; /* lines of the cache that nobody else writes to */
    number begun; /* tasks */
    number sleepers;
    char apart2[64];
    number busy; /* workers that have not finished the task */
    number done; /* tasks that all workers have finished */
    char apart3[64];
    worker workers[];
};

enum { LOOKS = 100, OFFERS = 100 }; /* a few microseconds, then about 50 if nobody else wants the core */

static void wait_while(ob_pool *pool, number *n, uint32_t is) {
    for (int i = 0; i < LOOKS + OFFERS; i++) {
        if (get(n) != is)
            return;
        if (i < LOOKS)
            rest();
        else
            give_way();
    }
    lock_take(&pool->lock);
    add(&pool->sleepers, 1);
    while (get(n) == is)
        bell_wait(&pool->bell, &pool->lock);
    add(&pool->sleepers, UINT32_MAX);
    lock_give(&pool->lock);
}

/* Count n up, for all who wait for it. */
static void advance(ob_pool *pool, number *n) {
    add(n, 1);
    if (get(&pool->sleepers)) {
        lock_take(&pool->lock);
        bell_ring(&pool->bell);
        lock_give(&pool->lock);
    }
}

static THREAD_RESULT work(void *argument) {
    const worker *self = argument;
    ob_pool *pool = self->pool;
    for (uint32_t seen = 0;; seen++) {
        wait_while(pool, &pool->begun, seen);
        if (!pool->task)
            return 0;
        pool->task(pool->context, self->part, pool->threads);
        if (add(&pool->busy, UINT32_MAX) == 0)
            advance(pool, &pool->done);
    }
}

/* End the first `count` workers. */
static void dismiss(ob_pool *pool, int count) {
    pool->task = NULL;
    advance(pool, &pool->begun);
    for (int i = 0; i < count; i++)
        thread_join(pool->workers[i].thread);
}

static ob_status start(ob_pool *pool) {
    if (!lock_make(&pool->lock))
        return OB_ERROR_THREADS;
    if (bell_make(&pool->bell)) {
        int started = 0;
        for (; started < pool->threads - 1; started++) {
            worker *next = &pool->workers[started];
            next->pool = pool;
            next->part = started + 1;
            if (!thread_start(&next->thread, work, next))
                break;
        }
        if (started == pool->threads - 1)
            return OB_OK;
        dismiss(pool, started);
        bell_free(&pool->bell);
    }
    lock_free(&pool->lock);
    return OB_ERROR_THREADS;
}

ob_status ob_pool_create(int threads, ob_pool **pool) {
    if (!pool || threads < 1 || threads > MOST_THREADS)
        return OB_ERROR_ARGUMENT;
    *pool = calloc(1, sizeof(ob_pool) + (size_t)(threads - 1) * sizeof(worker));
    if (!*pool)
        return OB_ERROR_MEMORY;
    (*pool)->threads = threads;
    const ob_status status = start(*pool);
    if (status != OB_OK) {
        free(*pool);
        *pool = NULL;
    }
    return status;
}

void ob_pool_free(ob_pool *pool) {
    if (!pool)
        return;
    dismiss(pool, pool->threads - 1);
    bell_free(&pool->bell);
    lock_free(&pool->lock);
    free(pool);
}

int ob_pool_threads(const ob_pool *pool) { return pool ? pool->threads : 1; }

void ob_pool_run(ob_pool *pool, ob_task *task, void *context) {
    if (!pool || pool->threads == 1) {
        task(context, 0, 1);
        return;
    }
    const uint32_t before = get(&pool->done);
    pool->task = task;
    pool->context = context;
    add(&pool->busy, (uint32_t)pool->threads - 1);
    advance(pool, &pool->begun);
    task(context, 0, pool->threads);
    wait_while(pool, &pool->done, before);
}

#endif
