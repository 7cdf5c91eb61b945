/* The object of request.h. */
#include "ext/httpd/request.h"

#include <microhttpd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static int64_t request_now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Unique in this process, and most likely among all. */
static void request_make_id(char out[SKVD_REQUEST_ID_SIZE]) {
  static _Atomic uint64_t next;
  uint64_t zero = 0, start = 0;
  if (next == 0 && getrandom(&start, sizeof start, 0) == sizeof start) {
    atomic_compare_exchange_strong(&next, &zero, start);
  }
  snprintf(out, SKVD_REQUEST_ID_SIZE, "%016llx",
           (unsigned long long)atomic_fetch_add(&next, 1));
}

skvd_request *skvd_request_new(skvd_app *app, const skvd_listener *listener,
                               struct MHD_Connection *connection,
                               const char *raw) {
  skvd_request *request = calloc(1, sizeof *request);
  if (request == NULL) return NULL;
  request->app = app;
  request->listener = listener;
  request->connection = connection;
  request->line = raw;
  request->began_us = request_now_us();
  request->raw_len = strlen(raw);
  request->raw = malloc(request->raw_len + 1);
  request->space = malloc(request->raw_len + 1);
  request->body.pool = &app->bodies;
  if (request->raw == NULL || request->space == NULL) {
    skvd_request_free(request);
    return NULL;
  }
  memcpy(request->raw, raw, request->raw_len + 1);
  request_make_id(request->id);
  return request;
}

void skvd_request_free(skvd_request *request) {
  if (request->free_state != NULL) request->free_state(request->state);
  skvd_answer_clear(&request->answer);
  skvd_body_clear(&request->body);
  free(request->space);
  free(request->raw);
  free(request);
}

int64_t skvd_request_age_us(const skvd_request *request) {
  return request_now_us() - request->began_us;
}

void skvd_request_park(skvd_request *request,
                       void (*submit)(skvd_request *request),
                       void (*finish)(skvd_request *request)) {
  request->is_parked = true;
  request->submit = submit;
  request->finish = finish;
}

void skvd_request_resume(skvd_request *request) {
  MHD_resume_connection(request->connection);
}

const skvd_param *skvd_request_param(const skvd_request *request,
                                     const char *name) {
  return skvd_target_param(&request->target, name);
}

const char *skvd_request_tail(skvd_request *request, size_t *len) {
  const skvd_target *target = &request->target;
  /* The parameters took less of the space than the query is long. */
  char *out = request->space + (request->raw_len - target->path_len);
  *len = skvd_target_tail(target, strlen(request->route->path), out);
  return out;
}
