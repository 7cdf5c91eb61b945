/*
 * Jobs: long work on the store, done by threads, for which requests may wait.
 *
 * PURPOSE  A compaction takes minutes. A request waits for it up to 55 s,
 *   suspended, and then goes its way while the job goes on; whoever knows its
 *   number can ask what became of it.
 *
 * THREADS  One for each kind, so that a long verify keeps no flush waiting.
 *   One job of a kind runs at a time.
 *
 * HISTORY  The last 32 that ended are kept.
 *
 * CALLERS  skvd_jobs_begin, skvd_jobs_describe: any thread. skvd_jobs_tick:
 *   the clock.
 */
#ifndef SKVD_JOBS_H
#define SKVD_JOBS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "ext/httpd/job_work.h"
#include "ext/httpd/problem.h"
#include "stratakv.h"

#define SKVD_JOBS_KEPT 32

typedef struct skvd_jobs skvd_jobs;

/* Somebody who waits for a job. Owned by the caller, and left alone by it
 * until done is called. */
typedef struct skvd_waiter {
  void (*done)(void *arg);  /* called once; must not block */
  void *arg;                /* its argument */
  uint64_t job;             /* the job's number */
  bool is_finished;         /* the job ended; else 55 s were over */
  int code;                 /* finished: the job's code */
  stratakv_error error;     /* finished: if that is not OK */
  int64_t deadline;         /* the module's */
  struct skvd_waiter *next; /* the module's */
} skvd_waiter;

/* If there is a job of the kind already. */
typedef enum skvd_job_how {
  SKVD_JOB_ALONE, /* begin none */
  SKVD_JOB_JOIN,  /* wait for that one */
  SKVD_JOB_AFTER  /* begin one that starts behind it */
} skvd_job_how;

/* Start the threads; NULL on failure. base is --backup-dir or NULL, and
 * outlives the module. */
skvd_jobs *skvd_jobs_start(stratakv_store *store, const char *base);

/*
 * Begin a job; name is that of a backup, else NULL. A waiter, which may be
 * NULL, is told on another thread. *id is the job's number.
 *
 * SKVD_JOB_RUNNING  there is one of the kind, *id
 * SKVD_STOPPING     the module has been stopped
 * SKVD_OVERLOADED   no memory
 * With a problem, the waiter is not told.
 */
skvd_problem skvd_jobs_begin(skvd_jobs *jobs, skvd_job_kind kind,
                             skvd_job_how how, const char *name,
                             skvd_waiter *waiter, uint64_t *id);

/*
 * {"job":..,"kind":..,"state":..,"progress":..,"result":{..}}, with "error"
 * if it failed; *out is NULL with a problem.
 *
 * SKVD_JOB_NOT_FOUND  there is no such job, or it is forgotten
 * SKVD_OVERLOADED     no memory for all of it
 */
skvd_problem skvd_jobs_describe(skvd_jobs *jobs, uint64_t id, json_t **out);

/* Let those go whose time is over. */
void skvd_jobs_tick(skvd_jobs *jobs, int64_t now_ms);

/* Cancel the running jobs, tell all who wait, and end the threads. */
void skvd_jobs_stop(skvd_jobs *jobs);
/* Free a stopped module; NULL is allowed. */
void skvd_jobs_free(skvd_jobs *jobs);

#endif
