/* The tables of problem.h. */
#include "ext/httpd/problem.h"

#include "stratakv.h"

typedef struct problem_row {
  unsigned status;
  const char *code;
  const char *title;
} problem_row;

static const problem_row problem_rows[SKVD_PROBLEM_COUNT] = {
    [SKVD_NO_PROBLEM] = {200, "ok", "OK"},
    [SKVD_FRAMING] = {400, "framing", "Bad request"},
    [SKVD_INVALID_TARGET] = {400, "invalid_target", "Bad request target"},
    [SKVD_INVALID_PARAMETER] = {400, "invalid_parameter", "Bad parameter"},
    [SKVD_INVALID_KEY] = {400, "invalid_key", "Bad key"},
    [SKVD_INVALID_VALUE] = {400, "invalid_value", "Bad value"},
    [SKVD_INVALID_JSON] = {400, "invalid_json", "Bad JSON"},
    [SKVD_HOST_NOT_ALLOWED] = {403, "host_not_allowed", "Forbidden"},
    [SKVD_ORIGIN_NOT_ALLOWED] = {403, "origin_not_allowed", "Forbidden"},
    [SKVD_BACKUP_DISABLED] = {403, "backup_disabled", "Backups are off"},
    [SKVD_KEY_NOT_FOUND] = {404, "key_not_found", "Key not found"},
    [SKVD_TABLE_NOT_FOUND] = {404, "table_not_found", "Table not found"},
    [SKVD_ROUTE_NOT_FOUND] = {404, "route_not_found", "Route not found"},
    [SKVD_JOB_NOT_FOUND] = {404, "job_not_found", "Job not found"},
    [SKVD_METHOD_NOT_ALLOWED] = {405, "method_not_allowed",
                                 "Method not allowed"},
    [SKVD_TABLE_EXISTS] = {409, "table_exists", "Table exists"},
    [SKVD_JOB_RUNNING] = {409, "job_running", "Job running"},
    [SKVD_BACKUP_EXISTS] = {409, "backup_exists", "Backup exists"},
    [SKVD_LENGTH_REQUIRED] = {411, "length_required", "Length required"},
    [SKVD_VERSION_MISMATCH] = {412, "version_mismatch", "Precondition failed"},
    [SKVD_KEY_EXISTS] = {412, "key_exists", "Precondition failed"},
    [SKVD_KEY_MISSING] = {412, "key_missing", "Precondition failed"},
    [SKVD_TOO_LARGE] = {413, "too_large", "Too large"},
    [SKVD_TARGET_TOO_LONG] = {414, "target_too_long", "Target too long"},
    [SKVD_CONTENT_ENCODING] = {415, "content_encoding",
                               "Unsupported content encoding"},
    [SKVD_HEADERS_TOO_LARGE] = {431, "headers_too_large", "Headers too large"},
    [SKVD_INTERNAL] = {500, "internal", "Internal error"},
    [SKVD_CORRUPT] = {500, "corrupt", "Damaged store"},
    [SKVD_OUTCOME_UNKNOWN] = {500, "outcome_unknown", "Outcome unknown"},
    [SKVD_BUSY] = {503, "busy", "Busy"},
    [SKVD_READ_ONLY] = {503, "read_only", "Read-only"},
    [SKVD_OVERLOADED] = {503, "overloaded", "Overloaded"},
    [SKVD_STOPPING] = {503, "stopping", "Stopping"},
    [SKVD_HTTP_VERSION] = {505, "http_version", "HTTP version not supported"},
    [SKVD_DISK_FULL] = {507, "disk_full", "Disk full"},
};

typedef struct problem_of_code {
  int code;
  skvd_problem problem;
} problem_of_code;

static const problem_of_code problem_codes[] = {
    {STRATAKV_OK, SKVD_NO_PROBLEM},
    {STRATAKV_ERROR, SKVD_INVALID_PARAMETER},
    {STRATAKV_BUSY, SKVD_BUSY},
    {STRATAKV_NOMEM, SKVD_OVERLOADED},
    {STRATAKV_READONLY, SKVD_READ_ONLY},
    {STRATAKV_INTERRUPT, SKVD_STOPPING},
    {STRATAKV_IOERR, SKVD_INTERNAL},
    {STRATAKV_CORRUPT, SKVD_CORRUPT},
    {STRATAKV_NOTFOUND, SKVD_KEY_NOT_FOUND},
    {STRATAKV_FULL, SKVD_DISK_FULL},
    {STRATAKV_CANTOPEN, SKVD_INTERNAL},
    {STRATAKV_TOOBIG, SKVD_TOO_LARGE},
    {STRATAKV_CONSTRAINT, SKVD_TABLE_EXISTS},
    {STRATAKV_MISUSE, SKVD_INTERNAL},
    {STRATAKV_AUTH, SKVD_INTERNAL},
    {STRATAKV_NOTADB, SKVD_CORRUPT},
    {STRATAKV_CONSTRAINT_CHECK, SKVD_VERSION_MISMATCH},
    {STRATAKV_BUSY_SNAPSHOT, SKVD_BUSY},
    {STRATAKV_IOERR_FSYNC, SKVD_OUTCOME_UNKNOWN},
};

unsigned skvd_problem_status(skvd_problem problem) {
  return problem_rows[problem].status;
}

const char *skvd_problem_code(skvd_problem problem) {
  return problem_rows[problem].code;
}

const char *skvd_problem_title(skvd_problem problem) {
  return problem_rows[problem].title;
}

skvd_problem skvd_problem_of_store(int code) {
  size_t n = sizeof problem_codes / sizeof problem_codes[0];
  for (size_t i = 0; i < n; i++) {
    if (problem_codes[i].code == code) return problem_codes[i].problem;
  }
  return SKVD_INTERNAL;
}
