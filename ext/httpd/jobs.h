/*
 * Jobs: long work on the store, done by one thread, for which requests wait.
 *
 * PURPOSE  A compaction takes minutes. A request waits for it up to 55 s,
 *   suspended, and then goes its way while the job goes on. Whoever asks
 *   while one runs waits for the running one.
 *
 * CALLERS  skvd_jobs_compact: any thread. skvd_jobs_tick: the clock.
 */
#ifndef SKVD_JOBS_H
#define SKVD_JOBS_H

#include <stdbool.h>
#include <stdint.h>

#include "stratakv.h"

typedef struct skvd_jobs skvd_jobs;

/* Somebody who waits for a job. Owned by the caller, and left alone by it
 * until done is called. */
typedef struct skvd_waiter {
  void (*done)(void *arg);  /* called once; must not block */
  void *arg;                /* its argument */
  bool is_finished;         /* the job ended; else 55 s were over */
  int code;                 /* finished: the job's code */
  stratakv_error error;     /* finished: if that is not OK */
  int64_t deadline;         /* the module's */
  struct skvd_waiter *next; /* the module's */
} skvd_waiter;

/* Start the thread; NULL on failure. */
skvd_jobs *skvd_jobs_start(stratakv_store *store);

/* Start a compaction, or join the running one. done is called on another
 * thread, or at once, with INTERRUPT, if the module has been stopped. */
void skvd_jobs_compact(skvd_jobs *jobs, skvd_waiter *waiter);

/* Let those go whose time is over. */
void skvd_jobs_tick(skvd_jobs *jobs, int64_t now_ms);

/* Cancel the running job, tell all who wait, and end the thread. */
void skvd_jobs_stop(skvd_jobs *jobs);
/* Free a stopped module; NULL is allowed. */
void skvd_jobs_free(skvd_jobs *jobs);

#endif
