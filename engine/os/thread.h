/*
 * Threads, mutexes and conditions. The only user of pthreads.
 */
#ifndef SKV_OS_THREAD_H
#define SKV_OS_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/util/err.h"

typedef struct skv_mutex {
  pthread_mutex_t mutex;
} skv_mutex;

typedef struct skv_cond {
  pthread_cond_t cond; /* on the monotonic clock */
} skv_cond;

typedef struct skv_thread {
  pthread_t thread;
} skv_thread;

void skv_mutex_init(skv_mutex *mutex);
void skv_mutex_clear(skv_mutex *mutex);
void skv_mutex_lock(skv_mutex *mutex);
bool skv_mutex_try(skv_mutex *mutex);
void skv_mutex_unlock(skv_mutex *mutex);

void skv_cond_init(skv_cond *cond);
void skv_cond_clear(skv_cond *cond);
void skv_cond_wait(skv_cond *cond, skv_mutex *mutex);
/* False if timeout_ns passed without a signal. */
bool skv_cond_wait_for(skv_cond *cond, skv_mutex *mutex, uint64_t timeout_ns);
void skv_cond_signal(skv_cond *cond);
void skv_cond_broadcast(skv_cond *cond);

/* Start a thread that blocks every signal, with a small stack (256 KiB) and a
 * name of at most 15 bytes. */
int skv_thread_start(skv_thread *thread, const char *name, void *(*run)(void *),
                     void *arg, skv_err *err);
void skv_thread_join(skv_thread *thread);

#endif
