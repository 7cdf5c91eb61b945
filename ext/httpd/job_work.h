/*
 * What a job does: one call of the store, and its result as JSON.
 *
 * CALLERS  The threads of jobs.h.
 */
#ifndef SKVD_JOB_WORK_H
#define SKVD_JOB_WORK_H

#include <jansson.h>

#include "stratakv.h"

typedef enum skvd_job_kind {
  SKVD_FLUSH,
  SKVD_COMPACT,
  SKVD_VERIFY,
  SKVD_BACKUP,
  SKVD_JOB_KINDS
} skvd_job_kind;

/* Findings that a verify's result lists; it counts all. */
#define SKVD_MAX_FINDINGS 100

/* One job, as its work sees it. */
typedef struct skvd_job_work {
  skvd_job_kind kind;
  stratakv_store *store;
  const char *base;           /* backup: --backup-dir */
  const char *name;           /* backup: the directory's name in it */
  stratakv_progress progress; /* told how far it is; may cancel */
  void *arg;                  /* its argument */
} skvd_job_work;

/* "flush", "compact", "verify", "backup". */
const char *skvd_job_kind_name(skvd_job_kind kind);

/*
 * Do it. *result is an object with what came of it, NULL if it failed; for a
 * flush or compaction NULL is as good as an empty one. Damage that a verify
 * finds is its result, and no failure.
 */
int skvd_job_do(const skvd_job_work *work, stratakv_error *error,
                json_t **result);

#endif
