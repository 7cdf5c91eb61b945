/*
 * Routes: which function answers which method and path.
 *
 * Each family has a table in a file of its own (kv_routes.c, admin_routes.c,
 * legacy_routes.c, state_routes.c); routes.c searches them.
 */
#ifndef SKVD_ROUTES_H
#define SKVD_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

#include "ext/httpd/target.h"

struct skvd_request;

#define SKVD_TAKES_BODY 1u   /* the body is kept; others are swallowed */
#define SKVD_NEEDS_LENGTH 2u /* 411 without Content-Length or chunked */
#define SKVD_STATE 4u        /* is answered while the daemon is stopping */

/* One method of a route. */
typedef struct skvd_action {
  const char *method;        /* "GET" answers HEAD too; NULL ends the list */
  unsigned flags;            /* SKVD_TAKES_BODY and so on */
  const char *const *params; /* the query parameters it knows, NULL at the
                                end; a NULL list knows all */
  /* Called on the HTTP thread when the whole request is there: answers it
   * (answer.h), or parks it (request.h). */
  void (*run)(struct skvd_request *request);
} skvd_action;

typedef struct skvd_route {
  const char *name; /* in the log, "/v1/kv/{key}" */
  const char *path; /* what the raw path is, or begins with */
  bool is_prefix;   /* begins with; the rest belongs to the action */
  bool is_legacy;   /* off with --no-legacy */
  /* NULL, or how a wrong method is answered instead of by a problem. */
  void (*wrong_method)(struct skvd_request *request);
  skvd_action actions[5];
} skvd_route;

extern const skvd_route skvd_kv_routes[];
extern const size_t skvd_kv_route_count;
extern const skvd_route skvd_admin_routes[];
extern const size_t skvd_admin_route_count;
extern const skvd_route skvd_legacy_routes[];
extern const size_t skvd_legacy_route_count;
extern const skvd_route skvd_state_routes[];
extern const size_t skvd_state_route_count;

/* The route of a target, NULL if there is none. */
const skvd_route *skvd_routes_find(const skvd_target *target, bool has_legacy);

/* The route's action for a method, NULL if it has none. */
const skvd_action *skvd_route_action(const skvd_route *route,
                                     const char *method);

/* "GET, HEAD, PUT". */
void skvd_route_allow(const skvd_route *route, char *out, size_t size);

#endif
