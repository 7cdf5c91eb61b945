/*
 * Problems: every way in which a request can fail, with its status, its
 * stable code and its title, and what each code of the store becomes.
 *
 * PURPOSE  The one table between errors and HTTP. Everything else in the
 *   daemon names a problem and never a status of 400 or more.
 *
 * NOT HERE  The body that carries a problem to the client (answer.h).
 */
#ifndef SKVD_PROBLEM_H
#define SKVD_PROBLEM_H

#include <stddef.h>

/* In the order of the table in problem.c, which is by status. */
typedef enum skvd_problem {
  SKVD_NO_PROBLEM,
  SKVD_FRAMING,
  SKVD_INVALID_TARGET,
  SKVD_INVALID_PARAMETER,
  SKVD_INVALID_KEY,
  SKVD_INVALID_VALUE,
  SKVD_INVALID_JSON,
  SKVD_HOST_NOT_ALLOWED,
  SKVD_ORIGIN_NOT_ALLOWED,
  SKVD_BACKUP_DISABLED,
  SKVD_KEY_NOT_FOUND,
  SKVD_TABLE_NOT_FOUND,
  SKVD_ROUTE_NOT_FOUND,
  SKVD_JOB_NOT_FOUND,
  SKVD_METHOD_NOT_ALLOWED,
  SKVD_TABLE_EXISTS,
  SKVD_JOB_RUNNING,
  SKVD_BACKUP_EXISTS,
  SKVD_LENGTH_REQUIRED,
  SKVD_VERSION_MISMATCH,
  SKVD_KEY_EXISTS,
  SKVD_KEY_MISSING,
  SKVD_TOO_LARGE,
  SKVD_TARGET_TOO_LONG,
  SKVD_CONTENT_ENCODING,
  SKVD_HEADERS_TOO_LARGE,
  SKVD_INTERNAL,
  SKVD_CORRUPT,
  SKVD_OUTCOME_UNKNOWN,
  SKVD_BUSY,
  SKVD_READ_ONLY,
  SKVD_OVERLOADED,
  SKVD_STOPPING,
  SKVD_HTTP_VERSION,
  SKVD_DISK_FULL,
  SKVD_PROBLEM_COUNT
} skvd_problem;

/* The HTTP status, 200 for SKVD_NO_PROBLEM. */
unsigned skvd_problem_status(skvd_problem problem);
/* The code as it stands in the body, "version_mismatch". */
const char *skvd_problem_code(skvd_problem problem);
/* A short title for people, "Precondition failed". */
const char *skvd_problem_title(skvd_problem problem);

/* What a STRATAKV_* code is to a client; SKVD_INTERNAL if unknown. */
skvd_problem skvd_problem_of_store(int code);

#endif
