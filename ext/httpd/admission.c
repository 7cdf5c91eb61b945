/* The decisions of admission.h. */
#include "ext/httpd/admission.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "ext/httpd/guard.h"

/* A refused body up to this size is read and thrown away. */
#define ADMISSION_SMALL_BODY 65536u
/* A body that nobody asked for may have this size. */
#define ADMISSION_IDLE_BODY (1024u * 1024u)

static bool admission_frame(skvd_request *request, const char *method,
                            const char *version, size_t head_size) {
  skvd_head head = {method, version, request->raw_len, head_size,
                    &request->headers};
  const char *why;
  skvd_problem problem = skvd_framing_check(&head, &request->framing, &why);
  if (problem == SKVD_NO_PROBLEM) return true;
  skvd_answer_problem(request, problem, "%s", why);
  request->is_urgent = true;
  request->is_refused = true;
  return false;
}

/* A NUL cuts the copy that the library gave us short. The version follows
 * the target in the library's buffer, after one byte, which betrays it. */
static bool admission_is_cut(const skvd_request *request, const char *version) {
  uintptr_t end = (uintptr_t)request->line + request->raw_len;
  uintptr_t next = (uintptr_t)version;
  return next > end + 1 && next - end < SKVD_MAX_REQUEST_LINE;
}

static bool admission_parse(skvd_request *request, const char *version) {
  const char *why = "the target has a NUL";
  skvd_problem problem = SKVD_INVALID_TARGET;
  if (!admission_is_cut(request, version)) {
    problem = skvd_target_parse(request->raw, request->raw_len, request->space,
                                &request->target, &why);
  }
  if (problem == SKVD_NO_PROBLEM) return true;
  skvd_answer_problem(request, problem, "%s", why);
  return false;
}

/* The caller's own id, if it is harmless. */
static void admission_take_id(skvd_request *request) {
  static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq"
                                "rstuvwxyz0123456789._-";
  const skvd_header *id = skvd_headers_find(&request->headers, "X-Request-Id");
  char text[SKVD_REQUEST_ID_SIZE] = "";
  if (id == NULL || id->value_len == 0 || id->value_len >= sizeof text) return;
  memcpy(text, id->value, id->value_len);
  if (strspn(text, allowed) == id->value_len) {
    memcpy(request->id, text, sizeof text);
  }
}

/* The address that the client used, for a listener on all of them. */
static const char *admission_local(const skvd_request *request, char *out,
                                   size_t size) {
  struct sockaddr_storage address;
  socklen_t len = sizeof address;
  if (!request->listener->is_wildcard ||
      getsockname(request->peer->fd, (struct sockaddr *)&address, &len) != 0 ||
      getnameinfo((struct sockaddr *)&address, len, out, (socklen_t)size, NULL,
                  0, NI_NUMERICHOST) != 0) {
    return NULL;
  }
  return out;
}

static bool admission_guard(skvd_request *request) {
  const skvd_listener *listener = request->listener;
  const skvd_options *options = request->app->options;
  char local[NI_MAXHOST];
  skvd_guard guard = {.checks_host = !listener->is_unix,
                      .host = listener->host,
                      .local = admission_local(request, local, sizeof local),
                      .port = listener->port,
                      .allow_hosts = &options->allow_hosts,
                      .allow_origins = &options->allow_origins};
  skvd_problem problem = skvd_guard_check(&guard, &request->headers);
  if (problem == SKVD_HOST_NOT_ALLOWED) {
    skvd_answer_problem(request, problem,
                        "this Host is not served here; see "
                        "--allow-host");
  } else if (problem == SKVD_ORIGIN_NOT_ALLOWED) {
    skvd_answer_problem(request, problem,
                        "web pages of this Origin are not "
                        "let in; see --allow-origin");
  }
  return problem == SKVD_NO_PROBLEM;
}

static void admission_wrong_method(skvd_request *request) {
  char allow[80];
  if (request->route->wrong_method != NULL) {
    request->route->wrong_method(request);
  } else {
    skvd_answer_problem(request, SKVD_METHOD_NOT_ALLOWED,
                        "this route does not know the method");
  }
  skvd_route_allow(request->route, allow, sizeof allow);
  skvd_answer_header(request, "Allow", allow);
}

static bool admission_route(skvd_request *request, const char *method) {
  bool has_legacy = !request->app->options->no_legacy;
  request->route = skvd_routes_find(&request->target, has_legacy);
  if (request->route == NULL) {
    skvd_answer_problem(request, SKVD_ROUTE_NOT_FOUND,
                        "there is nothing at this path");
    return false;
  }
  request->action = skvd_route_action(request->route, method);
  if (request->action == NULL) {
    admission_wrong_method(request);
    return false;
  }
  return true;
}

static bool admission_params(skvd_request *request) {
  const skvd_param *which;
  char name[41];
  if (request->action->params == NULL ||
      skvd_target_check_params(&request->target, request->action->params,
                               &which)) {
    return true;
  }
  snprintf(name, sizeof name, "%.*s",
           (int)(which->name_len < 40 ? which->name_len : 40), which->name);
  skvd_answer_problem(request, SKVD_INVALID_PARAMETER,
                      "parameter \"%s\" is unknown here, or given twice", name);
  return false;
}

static bool admission_not_stopping(skvd_request *request) {
  if (!request->app->is_stopping ||
      (request->action->flags & SKVD_STATE) != 0) {
    return true;
  }
  skvd_answer_problem(request, SKVD_STOPPING, "the daemon is stopping");
  return false;
}

static bool admission_encoding(skvd_request *request) {
  const skvd_header *encoding = NULL;
  while ((encoding = skvd_headers_next(&request->headers, "Content-Encoding",
                                       encoding)) != NULL) {
    if (!skvd_header_is(encoding, "identity")) {
      skvd_answer_problem(request, SKVD_CONTENT_ENCODING,
                          "bodies are taken as they are, without encoding");
      return false;
    }
  }
  return true;
}

static bool admission_body(skvd_request *request) {
  const skvd_framing *framing = &request->framing;
  bool is_kept = (request->action->flags & SKVD_TAKES_BODY) != 0;
  uint64_t most =
      is_kept ? request->app->options->max_body : ADMISSION_IDLE_BODY;
  if ((request->action->flags & SKVD_NEEDS_LENGTH) != 0 &&
      !framing->has_length && !framing->is_chunked) {
    skvd_answer_problem(request, SKVD_LENGTH_REQUIRED,
                        "Content-Length or chunked is needed");
  } else if (framing->length > most) {
    skvd_answer_problem(
        request, SKVD_TOO_LARGE, "the body is %llu bytes, the limit is %llu",
        (unsigned long long)framing->length, (unsigned long long)most);
  } else if (is_kept &&
             !skvd_body_pool_has(request->body.pool, framing->length)) {
    skvd_answer_problem(request, SKVD_OVERLOADED,
                        "the memory for bodies is used up");
  } else {
    return true;
  }
  return false;
}

static bool admission_judge(skvd_request *request, const char *method,
                            const char *version) {
  admission_take_id(request);
  return admission_parse(request, version) && admission_guard(request) &&
         admission_route(request, method) && admission_not_stopping(request) &&
         admission_params(request) && admission_encoding(request) &&
         admission_body(request);
}

void skvd_admit(skvd_request *request, const char *method, const char *version,
                size_t head_size) {
  const skvd_framing *framing = &request->framing;
  if (!admission_frame(request, method, version, head_size)) return;
  if (admission_judge(request, method, version)) return;
  request->is_refused = true;
  request->is_urgent =
      framing->expects_continue || framing->length > ADMISSION_SMALL_BODY;
}
