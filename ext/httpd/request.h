/*
 * One request, from its first line to the end of its answer.
 *
 * LIFE
 *   HEAD     made when the request line is there
 *   BODY     the head was judged (admission.h): let in, or refused with an
 *            answer that waits for the end of the body
 *   PARKED   the connection is suspended; the request is in somebody's queue
 *   ANSWERED the answer was handed to the library
 *
 * PARKING  What may wait is not done on an HTTP thread. An action calls
 *   skvd_request_park and returns. The connection is then suspended, and
 *   only after that `submit` puts the request into a queue. Whoever has it
 *   calls skvd_request_resume exactly once and does not touch it again;
 *   `finish` is called on the HTTP thread, and answers or parks again.
 *
 * CALLERS  But for skvd_request_resume, the connection's HTTP thread only.
 */
#ifndef SKVD_REQUEST_H
#define SKVD_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ext/httpd/answer.h"
#include "ext/httpd/app.h"
#include "ext/httpd/body.h"
#include "ext/httpd/framing.h"
#include "ext/httpd/headers.h"
#include "ext/httpd/listen.h"
#include "ext/httpd/routes.h"
#include "ext/httpd/target.h"

struct MHD_Connection;

#define SKVD_REQUEST_ID_SIZE 65

typedef enum skvd_request_phase {
  SKVD_HEAD,
  SKVD_BODY,
  SKVD_PARKED,
  SKVD_ANSWERED
} skvd_request_phase;

typedef struct skvd_request {
  skvd_app *app;
  const skvd_listener *listener;     /* where it came in */
  struct MHD_Connection *connection; /* whose request it is */
  skvd_peer *peer;                   /* the clock's view of that */
  skvd_request_phase phase;
  bool is_counted;               /* in app->in_flight */
  int64_t began_us;              /* monotonic, for the log */
  char id[SKVD_REQUEST_ID_SIZE]; /* the caller's, or a made one */

  /* The head. */
  const char *line;          /* where the library has the target; an address to
                            compare, not to be read */
  char *raw;                 /* the raw target, a copy */
  size_t raw_len;            /* its bytes */
  char *space;               /* for decoding, raw_len + 1 bytes */
  skvd_target target;        /* of raw, in space */
  char method[24];           /* as sent, cut for the log */
  skvd_headers headers;      /* the library's memory */
  skvd_framing framing;      /* what they say about the body */
  const skvd_route *route;   /* NULL until it is found */
  const skvd_action *action; /* NULL until it is found */

  /* The body. */
  skvd_body body;     /* if the action takes one */
  uint64_t swallowed; /* bytes that were thrown away */

  /* The answer. */
  skvd_answer answer; /* empty until there is one */
  bool is_refused;    /* the answer is a refusal; no action runs */
  bool is_urgent;     /* refused: do not read the body */

  /* Parking. */
  bool is_parked; /* park was called; suspend when the action returns */
  void (*submit)(struct skvd_request *request);
  void (*finish)(struct skvd_request *request);

  /* What the action keeps across parking. */
  void *state;
  void (*free_state)(void *state);
} skvd_request;

/* Make a request for a raw target; NULL without memory. */
skvd_request *skvd_request_new(skvd_app *app, const skvd_listener *listener,
                               struct MHD_Connection *connection,
                               const char *raw);
void skvd_request_free(skvd_request *request);

/* Microseconds since it began. */
int64_t skvd_request_age_us(const skvd_request *request);

/* See PARKING. */
void skvd_request_park(skvd_request *request,
                       void (*submit)(skvd_request *request),
                       void (*finish)(skvd_request *request));
void skvd_request_resume(skvd_request *request);

/* The decoded query parameter, or NULL. */
const skvd_param *skvd_request_param(const skvd_request *request,
                                     const char *name);
/* What follows the route's own path, decoded; it lives as long as the
 * request. */
const char *skvd_request_tail(skvd_request *request, size_t *len);

#endif
