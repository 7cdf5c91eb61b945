/*
 * The log: one JSON object a line, on standard error.
 *
 * Requests: time, id, method, route, status, bytes, ms; the target, which
 * holds keys, only if asked for. Events: time, level, message.
 *
 * A line is one write of at most 4,096 bytes, so that lines of a pipe do not
 * mix; long strings are cut. Nobody waits for a reader of the log: while a
 * pipe is full, lines are left out, and the next one says how many.
 *
 * Any thread may call.
 */
#ifndef SKVD_LOG_H
#define SKVD_LOG_H

#include <stddef.h>
#include <stdint.h>

/* One finished request. Strings may be NULL: "-" is written. */
typedef struct skvd_log_request {
  const char *id;     /* X-Request-Id */
  const char *method; /* as sent */
  const char *route;  /* "/v1/kv/{key}" */
  const char *target; /* raw, or NULL for none in the log */
  unsigned status;    /* 0: no answer was sent by the daemon */
  uint64_t bytes;     /* of the answer's body */
  double ms;          /* from the first byte of the target to the end */
} skvd_log_request;

void skvd_log_access(const skvd_log_request *request);

/* Levels: "info", "warning", "error". */
void skvd_log_event(const char *level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* As an event of level "warning", but at most 10 in any second; the number
 * of those left out is told with the next one. For what clients can cause at
 * will. */
void skvd_log_client_event(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

#endif
