/* The calls of job_work.h. */
#include "ext/httpd/job_work.h"

#include <stdbool.h>
#include <stdio.h>

const char *skvd_job_kind_name(skvd_job_kind kind) {
  static const char *const names[] = {"flush", "compact", "verify", "backup"};
  return names[kind];
}

static int work_no_memory(stratakv_error *error) {
  error->code = STRATAKV_NOMEM;
  snprintf(error->message, sizeof error->message, "out of memory");
  return STRATAKV_NOMEM;
}

/* ---- verify -------------------------------------------------------------- */

typedef struct work_findings {
  const skvd_job_work *work;
  json_t *rows; /* the first ones */
  uint64_t count;
  uint64_t damages; /* of them */
  bool is_out_of_memory;
} work_findings;

static int work_progress(void *arg, double done) {
  const skvd_job_work *work = ((work_findings *)arg)->work;
  return work->progress(work->arg, done);
}

static json_t *work_finding(const stratakv_finding *finding) {
  /* What is not UTF-8 in a name of a damaged store is left out. */
  json_t *offset = finding->offset <= INT64_MAX
                       ? json_integer((json_int_t)finding->offset)
                       : json_null();
  return json_pack("{s:o*,s:o,s:s,s:o*}", "file", json_string(finding->file),
                   "offset", offset, "severity",
                   finding->severity == STRATAKV_NOTE ? "note" : "damage",
                   "message", json_string(finding->message));
}

static int work_report(void *arg, const stratakv_finding *finding) {
  work_findings *findings = arg;
  findings->count++;
  if (finding->severity != STRATAKV_NOTE) findings->damages++;
  if (json_array_size(findings->rows) < SKVD_MAX_FINDINGS &&
      json_array_append_new(findings->rows, work_finding(finding)) != 0) {
    findings->is_out_of_memory = true;
  }
  return findings->is_out_of_memory;
}

static int work_verify(const skvd_job_work *work, stratakv_error *error,
                       json_t **result) {
  work_findings findings = {.work = work, .rows = json_array()};
  stratakv_watch watch = {work_report, work_progress, &findings};
  int rc = findings.rows == NULL ? STRATAKV_NOMEM
                                 : stratakv_check(work->store, &watch, error);
  if (findings.rows == NULL || findings.is_out_of_memory) {
    /* not the interruption that the store was told of */
    rc = work_no_memory(error);
  }
  if (rc == STRATAKV_CORRUPT && findings.damages > 0) rc = STRATAKV_OK;
  if (rc != STRATAKV_OK) {
    json_decref(findings.rows);
    return rc;
  }
  *result = json_pack("{s:b,s:I,s:I,s:o}", "clean", findings.damages == 0,
                      "count", (json_int_t)findings.count, "damaged",
                      (json_int_t)findings.damages, "findings", findings.rows);
  return *result != NULL ? STRATAKV_OK : work_no_memory(error);
}

/* ---- The others ---------------------------------------------------------- */

static int work_backup(const skvd_job_work *work, stratakv_error *error,
                       json_t **result) {
  work_findings unused = {.work = work};
  stratakv_watch watch = {NULL, work_progress, &unused};
  uint64_t lsn = 0;
  /* Made before: a backup that is there has not failed. */
  json_t *json =
      json_pack("{s:s,s:I}", "name", work->name, "version", (json_int_t)0);
  int rc;
  if (json == NULL) return work_no_memory(error);
  rc =
      stratakv_backup(work->store, work->base, work->name, &watch, error, &lsn);
  if (rc != STRATAKV_OK) {
    json_decref(json);
    return rc;
  }
  json_integer_set(json_object_get(json, "version"), (json_int_t)lsn);
  *result = json;
  return STRATAKV_OK;
}

int skvd_job_do(const skvd_job_work *work, stratakv_error *error,
                json_t **result) {
  int rc;
  *result = NULL;
  switch (work->kind) {
  case SKVD_VERIFY: return work_verify(work, error, result);
  case SKVD_BACKUP: return work_backup(work, error, result);
  case SKVD_COMPACT:
    rc = stratakv_compact(work->store, work->progress, work->arg, error);
    break;
  default: rc = stratakv_flush(work->store, error); break;
  }
  if (rc == STRATAKV_OK) *result = json_object();
  return rc;
}
