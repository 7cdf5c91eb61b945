/*
 * Threads on pthreads. See thread.h.
 *
 * A failing mutex or condition call is a bug of ours, so it is asserted.
 */
#include "engine/os/thread.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "engine/util/alloc.h"

#define THREAD_STACK_SIZE (256 * 1024)
#define THREAD_NAME_SIZE 16 /* the kernel's limit, with the NUL */

void skv_mutex_init(skv_mutex *mutex) {
  pthread_mutex_init(&mutex->mutex, NULL);
}

void skv_mutex_clear(skv_mutex *mutex) { pthread_mutex_destroy(&mutex->mutex); }

void skv_mutex_lock(skv_mutex *mutex) {
  int failed = pthread_mutex_lock(&mutex->mutex);
  assert(failed == 0);
  SKV_UNUSED(failed);
}

bool skv_mutex_try(skv_mutex *mutex) {
  return pthread_mutex_trylock(&mutex->mutex) == 0;
}

void skv_mutex_unlock(skv_mutex *mutex) {
  int failed = pthread_mutex_unlock(&mutex->mutex);
  assert(failed == 0);
  SKV_UNUSED(failed);
}

void skv_cond_init(skv_cond *cond) {
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&cond->cond, &attr);
  pthread_condattr_destroy(&attr);
}

void skv_cond_clear(skv_cond *cond) { pthread_cond_destroy(&cond->cond); }

void skv_cond_wait(skv_cond *cond, skv_mutex *mutex) {
  pthread_cond_wait(&cond->cond, &mutex->mutex);
}

bool skv_cond_wait_for(skv_cond *cond, skv_mutex *mutex, uint64_t timeout_ns) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  uint64_t nsec = (uint64_t)t.tv_nsec + timeout_ns % 1000000000u;
  t.tv_sec += (time_t)(timeout_ns / 1000000000u + nsec / 1000000000u);
  t.tv_nsec = (long)(nsec % 1000000000u);
  return pthread_cond_timedwait(&cond->cond, &mutex->mutex, &t) != ETIMEDOUT;
}

void skv_cond_signal(skv_cond *cond) { pthread_cond_signal(&cond->cond); }

void skv_cond_broadcast(skv_cond *cond) { pthread_cond_broadcast(&cond->cond); }

/* Signals are blocked around the creation, which the thread inherits: a host
 * program's handlers never run on our threads. */
static int thread_create(skv_thread *thread, void *(*run)(void *), void *arg) {
  pthread_attr_t attr;
  int failed = pthread_attr_init(&attr);
  if (failed != 0) return failed;
  pthread_attr_setstacksize(&attr, THREAD_STACK_SIZE);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  failed = pthread_create(&thread->thread, &attr, run, arg);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attr);
  return failed;
}

/* What a thread begins with; it frees it. */
typedef struct thread_begin {
  char name[THREAD_NAME_SIZE];
  void *(*run)(void *);
  void *arg;
} thread_begin;

/* It names itself: for a name of another's, glibc opens a file in /proc. */
static void *thread_main(void *arg) {
  thread_begin begin = *(thread_begin *)arg;
  skv_free(arg);
  pthread_setname_np(pthread_self(), begin.name);
  return begin.run(begin.arg);
}

int skv_thread_start(skv_thread *thread, const char *name, void *(*run)(void *),
                     void *arg, skv_err *err) {
  int rc = STRATAKV_OK;
  thread_begin *begin = skv_new(sizeof *begin, &rc);
  if (begin == NULL) return skv_error_nomem(err);
  size_t n = strnlen(name, sizeof begin->name - 1);
  memcpy(begin->name, name, n);
  begin->run = run;
  begin->arg = arg;
  int failed = skv_alloc_may(THREAD_STACK_SIZE)
                   ? thread_create(thread, thread_main, begin)
                   : EAGAIN;
  if (failed == 0) return STRATAKV_OK;
  skv_free(begin);
  char text[128];
  return SKV_ERROR(err, STRATAKV_NOMEM, "cannot start thread %s: %s", name,
                   strerror_r(failed, text, sizeof text));
}

void skv_thread_join(skv_thread *thread) { pthread_join(thread->thread, NULL); }
