/*
 * Answers: status, headers and body, made by an action and sent when the
 * request is complete.
 *
 * Each function that makes an answer replaces the one before. Without memory
 * the answer stays empty, and the connection is closed instead.
 *
 * PROBLEMS  application/problem+json: type, title, status, code, detail,
 *   request_id, and members of the case. 503 carries Retry-After: 1.
 */
#ifndef SKVD_ANSWER_H
#define SKVD_ANSWER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "ext/httpd/problem.h"
#include "stratakv.h"

struct MHD_Response;
struct skvd_request;

typedef struct skvd_answer {
  struct MHD_Response *response; /* NULL: none */
  unsigned status;               /* 0: none */
  uint64_t size;                 /* of the body */
} skvd_answer;

/* Throw it away. */
void skvd_answer_clear(skvd_answer *answer);

void skvd_answer_empty(struct skvd_request *request, unsigned status);
/* A copy of len bytes. */
void skvd_answer_bytes(struct skvd_request *request, unsigned status,
                       const char *type, const void *bytes, size_t len);
/* A copy of a C string. */
void skvd_answer_text(struct skvd_request *request, unsigned status,
                      const char *type, const char *text);
/* A document as compact JSON; takes the reference, NULL is out of memory. */
void skvd_answer_json(struct skvd_request *request, unsigned status,
                      const char *type, json_t *json);
/* 200 with the bytes from `offset` on of a value; takes what it holds. */
void skvd_answer_value(struct skvd_request *request, const char *type,
                       stratakv_value *value, size_t offset);

void skvd_answer_problem(struct skvd_request *request, skvd_problem problem,
                         const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* With members of the case: takes the reference to an object, NULL is out of
 * memory. */
void skvd_answer_problem_with(struct skvd_request *request,
                              skvd_problem problem, json_t *members,
                              const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* What a failed call of the store becomes. */
void skvd_answer_store_error(struct skvd_request *request, int code,
                             const stratakv_error *error);

/* Add a header to the answer, if there is one; without memory it is thrown
 * away, for half of an answer is another one. */
void skvd_answer_header(struct skvd_request *request, const char *name,
                        const char *value);
/* ETag: "version". */
void skvd_answer_etag(struct skvd_request *request, uint64_t version);
/* Strata-Durable, which every write's answer has. */
void skvd_answer_durable(struct skvd_request *request);

#endif
