/*
 * The daemon's answers (ext/httpd/answer.h), when the library or jansson has
 * no memory.
 *
 *   1  an answer has all of its headers, or there is none
 *   2  a problem has all of its members, or there is none
 *   3  a REAL that is no number is not an infinity
 */
#include <jansson.h>
#include <math.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "ext/httpd/request.h"
#include "ext/httpd/value.h"
#include "test/c/check.h"

static unsigned header_calls, header_nth; /* that one fails, 0 is none */

enum MHD_Result __real_MHD_add_response_header(struct MHD_Response *response,
                                               const char *name,
                                               const char *value);
enum MHD_Result __wrap_MHD_add_response_header(struct MHD_Response *response,
                                               const char *name,
                                               const char *value);

/* As the library does without memory. */
enum MHD_Result __wrap_MHD_add_response_header(struct MHD_Response *response,
                                               const char *name,
                                               const char *value) {
  if (++header_calls == header_nth) return MHD_NO;
  return __real_MHD_add_response_header(response, name, value);
}

static skvd_options options;
static skvd_app app = {.options = &options};

static void answer_written(skvd_request *request) {
  skvd_answer_empty(request, 201);
  skvd_answer_etag(request, 4096);
  skvd_answer_durable(request);
}

static void answer_text(skvd_request *request) {
  skvd_answer_text(request, 200, "text/plain; charset=utf-8", "7");
  skvd_answer_header(request, "Strata-Type", "integer");
}

static void answer_busy(skvd_request *request) {
  skvd_answer_problem(request, SKVD_BUSY, "wait");
}

static void test_headers(void (*answer)(skvd_request *), unsigned headers) {
  for (unsigned n = 0; n <= headers; n++) {
    skvd_request request = {.app = &app, .id = "x"};
    header_calls = 0;
    header_nth = n;
    answer(&request);
    header_nth = 0;
    if (n == 0)
      CHECK(request.answer.response != NULL && header_calls == headers);
    else
      CHECK(request.answer.response == NULL && request.answer.status == 0);
    skvd_answer_clear(&request.answer);
  }
}

/* ---- Members ------------------------------------------------------------- */

static unsigned calls, nth; /* that one fails, 0 is none */
static json_t *body;        /* of the last answer */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

/* What the daemon allocates, and jansson through ext/json. */
void *__wrap_malloc(size_t size) {
  return ++calls == nth ? NULL : __real_malloc(size);
}

struct MHD_Response *
__real_MHD_create_response_from_buffer(size_t size, void *buffer,
                                       enum MHD_ResponseMemoryMode mode);
struct MHD_Response *
__wrap_MHD_create_response_from_buffer(size_t size, void *buffer,
                                       enum MHD_ResponseMemoryMode mode);

struct MHD_Response *
__wrap_MHD_create_response_from_buffer(size_t size, void *buffer,
                                       enum MHD_ResponseMemoryMode mode) {
  nth = 0;
  body = json_loadb(buffer, size, 0, NULL);
  return __real_MHD_create_response_from_buffer(size, buffer, mode);
}

static void test_members(void) {
  bool is_whole = false;
  for (unsigned n = 1; !is_whole && n < 100; n++) {
    skvd_request request = {.app = &app, .id = "x"};
    body = NULL;
    calls = 0;
    nth = n;
    skvd_answer_problem_with(&request, SKVD_VERSION_MISMATCH,
                             json_pack("{s:i}", "version", 5), "%s",
                             "key is at version 5");
    is_whole = calls < n;
    nth = 0;
    CHECK((body != NULL) == (request.answer.response != NULL));
    if (body != NULL) {
      CHECK(json_integer_value(json_object_get(body, "version")) == 5);
      CHECK(json_is_string(json_object_get(body, "code")));
    }
    json_decref(body);
    skvd_answer_clear(&request.answer);
  }
  CHECK(is_whole);
}

/* ---- Values -------------------------------------------------------------- */

static bool is_written(double real, const char *text) {
  stratakv_typed value = {.type = STRATAKV_REAL, .real = real};
  char number[SKVD_NUMBER_SIZE];
  size_t len;
  const char *is = skvd_value_text(&value, number, &len);
  return len == strlen(text) && memcmp(is, text, len) == 0;
}

int main(void) {
  test_headers(answer_written, 2);
  test_headers(answer_text, 2);
  test_headers(answer_busy, 2);
  test_members();
  CHECK(is_written(INFINITY, "inf"));
  CHECK(is_written(-INFINITY, "-inf"));
  CHECK(is_written(NAN, "nan"));
  CHECK(is_written(-NAN, "nan"));
  return check_end();
}
