/*
 * The guard: is this request meant for us, and not sent by a web page?
 *
 * PURPOSE  A daemon on the loopback address trusts whoever can reach it. A
 *   browser reaches it on behalf of any page: directly (then it sends
 *   Origin), or after the page's own name was rebound to 127.0.0.1 (then
 *   Host is that name). Both are refused.
 *
 * HOST  localhost, 127.0.0.1, [::1] or the address listened on, with or
 *   without the port; or a name that --allow-host lists, which stands for
 *   every port if it has none itself. Not checked on unix sockets.
 *
 * ORIGIN  Any value that --allow-origin does not list is refused.
 *
 * Pure: values in, a value out.
 */
#ifndef SKVD_GUARD_H
#define SKVD_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "ext/httpd/headers.h"
#include "ext/httpd/options.h"
#include "ext/httpd/problem.h"

/* What a listener's requests are checked against. */
typedef struct skvd_guard {
  bool checks_host;                  /* false: a unix socket */
  const char *host;                  /* listened on, without brackets */
  const char *local;                 /* the connection's own address, or
                                        NULL: for a wildcard listener */
  uint16_t port;                     /* listened on */
  const skvd_strings *allow_hosts;   /* --allow-host */
  const skvd_strings *allow_origins; /* --allow-origin */
} skvd_guard;

/* SKVD_HOST_NOT_ALLOWED, SKVD_ORIGIN_NOT_ALLOWED or SKVD_NO_PROBLEM. */
skvd_problem skvd_guard_check(const skvd_guard *guard,
                              const skvd_headers *headers);

#endif
