/*
 * One write of one key, from an action through the commit queue and back.
 *
 * CALLS  skvd_write_new; fill the batch (again, for each attempt);
 *   skvd_write_submit, which parks the request; in `finish`, look at
 *   write->commit.result, or let skvd_write_failed answer.
 */
#ifndef SKVD_KV_WRITE_H
#define SKVD_KV_WRITE_H

#include <stdbool.h>

#include "ext/httpd/commit_queue.h"
#include "ext/httpd/condition.h"
#include "ext/httpd/key.h"
#include "ext/httpd/request.h"

typedef struct skvd_write {
  skvd_commit commit;        /* the batch, and what became of it */
  stratakv_table_info table; /* where */
  skvd_key key;              /* what; its bytes live as long as this */
  bool is_delete;            /* else it is a put */
  bool existed;              /* the key was there when the request was read */
  const void *value;         /* put: stored form; borrowed */
  size_t value_len;          /* its bytes */
  skvd_condition condition;  /* none, if none was given */
  unsigned attempts;         /* commits tried */
} skvd_write;

/* Make a write, which becomes the request's state; NULL without memory, and
 * then the request has an answer. */
skvd_write *skvd_write_new(skvd_request *request);

/* The write as the request's state, in `finish`. */
skvd_write *skvd_write_of(const skvd_request *request);

/* Fill the batch and park; expected is NULL, or the state of the key that the
 * engine has to find at the commit. */
void skvd_write_submit(skvd_request *request, const skvd_state *expected,
                       void (*finish)(skvd_request *request));

/* Did the commit fail, other than by its condition? Then the request has an
 * answer. */
bool skvd_write_failed(skvd_request *request);

#endif
