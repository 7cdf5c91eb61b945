/*
 * The server: one listener's connections and requests, on libmicrohttpd.
 *
 * LIFE OF A REQUEST  The library calls for the target, for the complete head
 *   (admission.h), for each piece of the body, and at the end, when the
 *   action runs. A parked request's connection is suspended: it neither
 *   times out nor notices that the client left, so that every park must end
 *   by itself.
 *
 * STOPPING  quiesce: no new connections. Then what is in flight ends, or is
 *   resumed by force (commit_queue.h, jobs.h). stop: only when no request is
 *   parked any more, since the library does not survive that.
 */
#ifndef SKVD_SERVER_H
#define SKVD_SERVER_H

#include "ext/httpd/app.h"
#include "ext/httpd/listen.h"

typedef struct skvd_server skvd_server;

/* Serve an open listener; NULL on failure. */
skvd_server *skvd_server_start(skvd_app *app, skvd_listener *listener);

/* Accept nothing more. */
void skvd_server_quiesce(skvd_server *server);

/* Close all connections and end the threads, and close the listener. NULL is
 * allowed. */
void skvd_server_stop(skvd_server *server);

#endif
