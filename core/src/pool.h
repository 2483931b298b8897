/* A few threads that wait for work. Nobody but pool.c knows what a thread is; a build without threads (OB_NO_THREADS)
 * has pools of one. */
#ifndef OB_POOL_H
#define OB_POOL_H

#include "../include/onebit.h"

/* Part `part` of `parts` of some work; parts is the number of threads of the pool. */
typedef void ob_task(void *context, int part, int parts);

/* Run the task once on every thread, the caller's included, and return when all are done. pool NULL: the caller alone. */
void ob_pool_run(ob_pool *pool, ob_task *task, void *context);

#endif
