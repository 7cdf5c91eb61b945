/*
 * Framing: may these headers be believed about where the request ends?
 *
 * PURPOSE  Two parties that read one request's length differently let a
 *   client smuggle a second request past the first party. Whatever could be
 *   read in two ways is refused, and the connection is closed.
 *
 * LIBRARY  libmicrohttpd 0.9.75 itself refuses a Content-Length that is no
 *   number, a missing Host, bad chunks and head over its memory. It accepts
 *   what is checked here; it glues a folded line to the header's name, which
 *   is why a name that continues a known one is refused.
 *
 * Pure: values in, a value out.
 */
#ifndef SKVD_FRAMING_H
#define SKVD_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ext/httpd/headers.h"
#include "ext/httpd/problem.h"

#define SKVD_MAX_REQUEST_LINE 8192u /* with method and version */
#define SKVD_MAX_HEAD 16384u        /* request line and header fields */

/* The head of a request, as far as its bounds are concerned. */
typedef struct skvd_head {
  const char *method;          /* as sent */
  const char *version;         /* "HTTP/1.1" */
  size_t target_len;           /* bytes of the request target */
  size_t head_size;            /* bytes of the whole head */
  const skvd_headers *headers; /* its fields */
} skvd_head;

/* What the head says about the body. */
typedef struct skvd_framing {
  bool has_length;       /* Content-Length was there */
  bool is_chunked;       /* Transfer-Encoding: chunked was */
  bool expects_continue; /* the client waits for 100 before the body */
  uint64_t length;       /* of the body; 0 if chunked or not announced */
} skvd_framing;

/*
 * Check the head. On success *out is filled; otherwise the problem comes
 * back, *why is a sentence about it, and the connection must be closed.
 */
skvd_problem skvd_framing_check(const skvd_head *head, skvd_framing *out,
                                const char **why);

#endif
