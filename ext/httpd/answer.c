/* The makers of answer.h. */
#include "ext/httpd/answer.h"

#include <inttypes.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ext/httpd/request.h"
#include "ext/json/json.h"

void skvd_answer_clear(skvd_answer *answer) {
  if (answer->response != NULL) MHD_destroy_response(answer->response);
  memset(answer, 0, sizeof *answer);
}

/* Install a response; it is NULL without memory. */
static void answer_set(skvd_request *request, unsigned status, const char *type,
                       struct MHD_Response *response, size_t size) {
  skvd_answer *answer = &request->answer;
  skvd_answer_clear(answer);
  if (response == NULL) return;
  answer->response = response;
  answer->status = status;
  answer->size = size;
  if (type != NULL) skvd_answer_header(request, "Content-Type", type);
}

void skvd_answer_empty(skvd_request *request, unsigned status) {
  answer_set(request, status, NULL,
             MHD_create_response_from_buffer(0, (void *)(uintptr_t) "",
                                             MHD_RESPMEM_PERSISTENT),
             0);
}

void skvd_answer_bytes(skvd_request *request, unsigned status, const char *type,
                       const void *bytes, size_t len) {
  answer_set(request, status, type,
             MHD_create_response_from_buffer(len, (void *)(uintptr_t)bytes,
                                             MHD_RESPMEM_MUST_COPY),
             len);
}

void skvd_answer_text(skvd_request *request, unsigned status, const char *type,
                      const char *text) {
  skvd_answer_bytes(request, status, type, text, strlen(text));
}

void skvd_answer_json(skvd_request *request, unsigned status, const char *type,
                      json_t *json) {
  char *text = json == NULL ? NULL : skv_json_text(json);
  json_decref(json);
  if (text == NULL) {
    skvd_answer_clear(&request->answer);
    return;
  }
  skvd_answer_text(request, status, type, text);
  free(text);
}

static void answer_free_value(void *arg) {
  stratakv_value_clear(arg);
  free(arg);
}

void skvd_answer_value(skvd_request *request, const char *type,
                       stratakv_value *value, size_t offset) {
  stratakv_value *kept = malloc(sizeof *kept);
  struct MHD_Response *response = NULL;
  size_t size = value->size - offset;
  if (kept == NULL) {
    stratakv_value_clear(value);
  } else {
    *kept = *value;
    memset(value, 0, sizeof *value);
    response = MHD_create_response_from_buffer_with_free_callback_cls(
        size, (char *)kept->data + offset, answer_free_value, kept);
    if (response == NULL) answer_free_value(kept);
  }
  answer_set(request, MHD_HTTP_OK, type, response, size);
}

static json_t *answer_problem_json(const skvd_request *request,
                                   skvd_problem problem, const char *detail) {
  char type[100];
  const char *code = skvd_problem_code(problem);
  snprintf(type, sizeof type, "urn:stratakv:error:%s", code);
  /* A detail that is not UTF-8 is left out. */
  return json_pack("{s:s,s:s,s:i,s:s,s:o*,s:s}", "type", type, "title",
                   skvd_problem_title(problem), "status",
                   (int)skvd_problem_status(problem), "code", code, "detail",
                   json_string(detail), "request_id", request->id);
}

static void answer_problem_take(skvd_request *request, skvd_problem problem,
                                json_t *members, const char *format,
                                va_list args) {
  char detail[800];
  json_t *json;
  unsigned status = skvd_problem_status(problem);
  vsnprintf(detail, sizeof detail, format, args);
  json = answer_problem_json(request, problem, detail);
  if (json != NULL && members != NULL &&
      json_object_update(json, members) != 0) {
    json_decref(json);
    json = NULL;
  }
  json_decref(members);
  skvd_answer_json(request, status, "application/problem+json", json);
  if (status == MHD_HTTP_SERVICE_UNAVAILABLE) {
    skvd_answer_header(request, "Retry-After", "1");
  }
}

void skvd_answer_problem(skvd_request *request, skvd_problem problem,
                         const char *format, ...) {
  va_list args;
  va_start(args, format);
  answer_problem_take(request, problem, NULL, format, args);
  va_end(args);
}

void skvd_answer_problem_with(skvd_request *request, skvd_problem problem,
                              json_t *members, const char *format, ...) {
  va_list args;
  if (members == NULL) {
    skvd_answer_clear(&request->answer);
    return;
  }
  va_start(args, format);
  answer_problem_take(request, problem, members, format, args);
  va_end(args);
}

void skvd_answer_store_error(skvd_request *request, int code,
                             const stratakv_error *error) {
  skvd_problem problem = skvd_problem_of_store(code);
  const char *message = error->message;
  if (message[0] == 0) message = skvd_problem_title(problem);
  skvd_answer_problem(request, problem, "%s", message);
}

void skvd_answer_header(skvd_request *request, const char *name,
                        const char *value) {
  skvd_answer *answer = &request->answer;
  if (answer->response != NULL &&
      MHD_add_response_header(answer->response, name, value) != MHD_YES) {
    skvd_answer_clear(answer);
  }
}

void skvd_answer_etag(skvd_request *request, uint64_t version) {
  char tag[32];
  snprintf(tag, sizeof tag, "\"%" PRIu64 "\"", version);
  skvd_answer_header(request, "ETag", tag);
}

void skvd_answer_durable(skvd_request *request) {
  bool is_durable = request->app->options->sync == STRATAKV_SYNC_FULL;
  skvd_answer_header(request, "Strata-Durable", is_durable ? "true" : "false");
}
