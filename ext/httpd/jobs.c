/* The thread of jobs.h. */
#include "ext/httpd/jobs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "ext/httpd/clock.h"
#include "ext/httpd/log.h"

#define JOBS_WAIT_MS 55000

struct skvd_jobs {
  stratakv_store *store;
  pthread_t thread;
  atomic_bool is_cancelled; /* read by the engine's progress callback */

  pthread_mutex_t mutex; /* guards what follows */
  pthread_cond_t wake;   /* is_wanted or is_stopping was set */
  bool is_wanted;        /* a compaction is to be started */
  bool is_stopping;
  skvd_waiter *waiters; /* of the running or wanted one */
};

static int jobs_progress(void *arg, double done) {
  skvd_jobs *jobs = arg;
  (void)done;
  return jobs->is_cancelled;
}

/* Wait until a compaction is wanted; false when it is time to end. */
static bool jobs_take(skvd_jobs *jobs) {
  bool is_taken;
  pthread_mutex_lock(&jobs->mutex);
  while (!jobs->is_wanted && !jobs->is_stopping) {
    pthread_cond_wait(&jobs->wake, &jobs->mutex);
  }
  is_taken = !jobs->is_stopping;
  jobs->is_wanted = false;
  pthread_mutex_unlock(&jobs->mutex);
  return is_taken;
}

/* Tell everybody who waits. */
static void jobs_finish(skvd_jobs *jobs, int code,
                        const stratakv_error *error) {
  skvd_waiter *waiter;
  pthread_mutex_lock(&jobs->mutex);
  waiter = jobs->waiters;
  jobs->waiters = NULL;
  jobs->is_wanted = false;
  pthread_mutex_unlock(&jobs->mutex);
  while (waiter != NULL) {
    skvd_waiter *next = waiter->next; /* done may free the waiter */
    waiter->is_finished = true;
    waiter->code = code;
    waiter->error = *error;
    waiter->done(waiter->arg);
    waiter = next;
  }
}

static void *jobs_main(void *arg) {
  skvd_jobs *jobs = arg;
  stratakv_error error = {STRATAKV_INTERRUPT, "the daemon is stopping"};
  while (jobs_take(jobs)) {
    int rc = stratakv_compact(jobs->store, jobs_progress, jobs, &error);
    if (rc != STRATAKV_OK && !jobs->is_cancelled) {
      skvd_log_event("error", "compaction: %s", error.message);
    }
    jobs_finish(jobs, rc, &error);
  }
  jobs_finish(jobs, STRATAKV_INTERRUPT, &error);
  return NULL;
}

skvd_jobs *skvd_jobs_start(stratakv_store *store) {
  skvd_jobs *jobs = calloc(1, sizeof *jobs);
  if (jobs == NULL) return NULL;
  jobs->store = store;
  pthread_mutex_init(&jobs->mutex, NULL);
  pthread_cond_init(&jobs->wake, NULL);
  if (pthread_create(&jobs->thread, NULL, jobs_main, jobs) != 0) {
    skvd_jobs_free(jobs);
    return NULL;
  }
  return jobs;
}

void skvd_jobs_compact(skvd_jobs *jobs, skvd_waiter *waiter) {
  bool is_stopping;
  pthread_mutex_lock(&jobs->mutex);
  is_stopping = jobs->is_stopping;
  if (!is_stopping) {
    /* Nobody waits: either none runs, or all have left the running one. That
     * is joined too: its end drops the wish. */
    if (jobs->waiters == NULL) jobs->is_wanted = true;
    waiter->deadline = skvd_now_ms() + JOBS_WAIT_MS;
    waiter->next = jobs->waiters;
    jobs->waiters = waiter;
    pthread_cond_signal(&jobs->wake);
  }
  pthread_mutex_unlock(&jobs->mutex);
  if (is_stopping) {
    waiter->is_finished = true;
    waiter->code = STRATAKV_INTERRUPT;
    waiter->done(waiter->arg);
  }
}

void skvd_jobs_tick(skvd_jobs *jobs, int64_t now_ms) {
  skvd_waiter *over = NULL, **link;
  pthread_mutex_lock(&jobs->mutex);
  link = &jobs->waiters;
  while (*link != NULL) {
    skvd_waiter *waiter = *link;
    if (waiter->deadline > now_ms) {
      link = &waiter->next;
    } else {
      *link = waiter->next;
      waiter->next = over;
      over = waiter;
    }
  }
  pthread_mutex_unlock(&jobs->mutex);
  while (over != NULL) {
    skvd_waiter *next = over->next;
    over->done(over->arg);
    over = next;
  }
}

void skvd_jobs_stop(skvd_jobs *jobs) {
  jobs->is_cancelled = true;
  pthread_mutex_lock(&jobs->mutex);
  jobs->is_stopping = true;
  pthread_cond_signal(&jobs->wake);
  pthread_mutex_unlock(&jobs->mutex);
  pthread_join(jobs->thread, NULL);
}

void skvd_jobs_free(skvd_jobs *jobs) {
  if (jobs == NULL) return;
  pthread_cond_destroy(&jobs->wake);
  pthread_mutex_destroy(&jobs->mutex);
  free(jobs);
}
