/* The glue of server.h. */
#include "ext/httpd/server.h"

#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "ext/httpd/admission.h"
#include "ext/httpd/log.h"
#include "ext/httpd/request.h"

/* A refused or unwanted body is read this far, then the connection is cut. */
#define SERVER_MOST_SWALLOWED (1024u * 1024u)
#define SERVER_TIMEOUT_S 30u
#define SERVER_CONNECTION_MEMORY 65536u
#define SERVER_STACK (512u * 1024u)

struct skvd_server {
  skvd_app *app;
  skvd_listener *listener;
  struct MHD_Daemon *daemon;
};

/* ---- Answering ----------------------------------------------------------- */

/* Hand the request's answer over; without one the connection is closed. */
static enum MHD_Result server_send(skvd_request *request) {
  skvd_answer *answer = &request->answer;
  skvd_answer_header(request, "X-Request-Id", request->id);
  if (request->app->is_stopping) {
    skvd_answer_header(request, "Connection", "close");
  }
  if (answer->response == NULL) return MHD_NO;
  request->phase = SKVD_ANSWERED;
  skvd_peer_enter(request->peer, SKVD_PEER_ANSWER);
  return MHD_queue_response(request->connection, answer->status,
                            answer->response);
}

/* After an action ran: send what it made, or suspend if it parked. From
 * submit on the request may already be on its way back. */
static enum MHD_Result server_go_on(skvd_request *request) {
  if (!request->is_parked) return server_send(request);
  request->is_parked = false;
  request->phase = SKVD_PARKED;
  MHD_suspend_connection(request->connection);
  request->submit(request);
  return MHD_YES;
}

/* ---- The three calls of a request ---------------------------------------- */

static enum MHD_Result server_take_header(void *arg, enum MHD_ValueKind kind,
                                          const char *name, size_t name_len,
                                          const char *value, size_t value_len) {
  (void)kind;
  skvd_headers_add(arg, name, name_len, value, value_len);
  return MHD_YES;
}

static size_t server_head_size(struct MHD_Connection *connection) {
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(
      connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
  return info == NULL ? 0 : info->header_size;
}

static enum MHD_Result server_first_call(skvd_request *request,
                                         const char *method,
                                         const char *version) {
  request->phase = SKVD_BODY;
  request->is_counted = true;
  request->app->in_flight++;
  request->peer->body = 0;
  request->peer->started = skvd_now_ms();
  skvd_peer_enter(request->peer, SKVD_PEER_BODY);
  snprintf(request->method, sizeof request->method, "%s", method);
  MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND,
                              server_take_header, &request->headers);
  skvd_admit(request, method, version, server_head_size(request->connection));
  return request->is_urgent ? server_send(request) : MHD_YES;
}

/* Keep a piece of the body, or turn the request into a refusal. */
static void server_keep(skvd_request *request, const char *data, size_t size) {
  size_t limit = request->app->options->max_body;
  size_t most = request->framing.has_length ? request->framing.length : limit;
  if (size > limit - request->body.size) {
    skvd_answer_problem(request, SKVD_TOO_LARGE,
                        "the body is over the limit of %zu bytes", limit);
  } else if (!skvd_body_append(&request->body, data, size, most)) {
    skvd_answer_problem(request, SKVD_OVERLOADED,
                        "the memory for bodies is used up");
  } else {
    return;
  }
  request->is_refused = true;
  skvd_body_clear(&request->body);
}

static enum MHD_Result server_body_call(skvd_request *request, const char *data,
                                        size_t *size) {
  bool is_kept =
      !request->is_refused && (request->action->flags & SKVD_TAKES_BODY) != 0;
  request->peer->body += *size;
  if (is_kept) {
    server_keep(request, data, *size);
  } else {
    request->swallowed += *size;
  }
  *size = 0;
  return request->swallowed > SERVER_MOST_SWALLOWED ? MHD_NO : MHD_YES;
}

static enum MHD_Result server_last_call(skvd_request *request) {
  skvd_peer_enter(request->peer, SKVD_PEER_ANSWER);
  if (!request->is_refused) request->action->run(request);
  return server_go_on(request);
}

static enum MHD_Result server_handle(void *arg,
                                     struct MHD_Connection *connection,
                                     const char *url, const char *method,
                                     const char *version, const char *data,
                                     size_t *size, void **state) {
  skvd_request *request = *state;
  (void)arg;
  (void)connection;
  (void)url;
  if (request == NULL || request->peer == NULL) return MHD_NO;
  switch (request->phase) {
  case SKVD_HEAD: return server_first_call(request, method, version);
  case SKVD_BODY:
    if (*size > 0) return server_body_call(request, data, size);
    return server_last_call(request);
  case SKVD_PARKED: request->finish(request); return server_go_on(request);
  default: return MHD_NO;
  }
}

/* ---- Beginnings and ends ------------------------------------------------- */

static void *server_target(void *arg, const char *target,
                           struct MHD_Connection *connection) {
  skvd_server *server = arg;
  const union MHD_ConnectionInfo *info;
  skvd_request *request =
      skvd_request_new(server->app, server->listener, connection, target);
  if (request == NULL) return NULL;
  info =
      MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
  request->peer = info == NULL ? NULL : info->socket_context;
  return request;
}

static void server_log(const skvd_request *request) {
  bool is_sent = request->phase == SKVD_ANSWERED;
  skvd_log_request line = {
      .id = request->id,
      .method = request->method,
      .route = request->route == NULL ? NULL : request->route->name,
      .target = request->app->options->log_keys ? request->raw : NULL,
      .status = is_sent ? request->answer.status : 0,
      .bytes = is_sent ? request->answer.size : 0,
      .ms = (double)skvd_request_age_us(request) / 1000.0,
  };
  skvd_log_access(&line);
}

static void server_completed(void *arg, struct MHD_Connection *connection,
                             void **state,
                             enum MHD_RequestTerminationCode code) {
  skvd_request *request = *state;
  (void)arg;
  (void)connection;
  (void)code;
  if (request == NULL) return;
  *state = NULL;
  server_log(request);
  if (request->peer != NULL) {
    request->peer->has_served = true;
    skvd_peer_enter(request->peer, SKVD_PEER_HEAD);
  }
  if (request->is_counted) request->app->in_flight--;
  skvd_request_free(request);
}

static void server_connection(void *arg, struct MHD_Connection *connection,
                              void **peer,
                              enum MHD_ConnectionNotificationCode code) {
  skvd_server *server = arg;
  if (code == MHD_CONNECTION_NOTIFY_STARTED) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    *peer = info == NULL ? NULL
                         : skvd_clock_add(server->app->clock, info->connect_fd);
  } else if (*peer != NULL) {
    skvd_clock_remove(server->app->clock, *peer);
    *peer = NULL;
  }
}

static void server_library_log(void *arg, const char *format, va_list args) {
  char message[400];
  (void)arg;
  vsnprintf(message, sizeof message, format, args);
  skvd_log_client_event("libmicrohttpd: %s", message);
}

/* ---- Start and stop ------------------------------------------------------ */

static struct MHD_Daemon *server_start_daemon(skvd_server *server) {
  const skvd_options *options = server->app->options;
  unsigned per_address =
      server->listener->is_unix ? 0 : (unsigned)options->per_address;
  return MHD_start_daemon(
      MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
          MHD_USE_ERROR_LOG,
      0, NULL, NULL, server_handle, server, MHD_OPTION_EXTERNAL_LOGGER,
      server_library_log, NULL, MHD_OPTION_LISTEN_SOCKET, server->listener->fd,
      MHD_OPTION_THREAD_POOL_SIZE, (unsigned)options->threads,
      MHD_OPTION_CONNECTION_LIMIT, (unsigned)options->connections,
      MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_address,
      MHD_OPTION_CONNECTION_TIMEOUT, SERVER_TIMEOUT_S,
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)SERVER_CONNECTION_MEMORY,
      MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_THREAD_STACK_SIZE,
      (size_t)SERVER_STACK, MHD_OPTION_URI_LOG_CALLBACK, server_target, server,
      MHD_OPTION_NOTIFY_COMPLETED, server_completed, server,
      MHD_OPTION_NOTIFY_CONNECTION, server_connection, server, MHD_OPTION_END);
}

skvd_server *skvd_server_start(skvd_app *app, skvd_listener *listener) {
  skvd_server *server = calloc(1, sizeof *server);
  if (server == NULL) return NULL;
  server->app = app;
  server->listener = listener;
  server->daemon = server_start_daemon(server);
  if (server->daemon == NULL) {
    free(server);
    return NULL;
  }
  return server;
}

void skvd_server_quiesce(skvd_server *server) {
  /* The descriptor stays open until the daemon has stopped; shutting it down
   * refuses who comes now, instead of leaving them in the backlog. */
  MHD_quiesce_daemon(server->daemon);
  shutdown(server->listener->fd, SHUT_RDWR);
}

void skvd_server_stop(skvd_server *server) {
  if (server == NULL) return;
  MHD_stop_daemon(server->daemon);
  skvd_listener_close(server->listener);
  free(server);
}
