/* The write of kv_write.h. */
#include "ext/httpd/kv_write.h"

#include <stdlib.h>

static void write_free(void *state) {
  skvd_write *write = state;
  stratakv_batch_free(write->commit.batch);
  free(write);
}

static void write_done(void *request) { skvd_request_resume(request); }

static void write_queue(skvd_request *request) {
  skvd_commit_queue_add(request->app->commits, &skvd_write_of(request)->commit);
}

skvd_write *skvd_write_new(skvd_request *request) {
  skvd_write *write = calloc(1, sizeof *write);
  if (write != NULL) write->commit.batch = stratakv_batch_new();
  if (write == NULL || write->commit.batch == NULL) {
    free(write);
    skvd_answer_problem(request, SKVD_OVERLOADED, "out of memory");
    return NULL;
  }
  write->commit.done = write_done;
  write->commit.arg = request;
  request->state = write;
  request->free_state = write_free;
  return write;
}

skvd_write *skvd_write_of(const skvd_request *request) {
  return request->state;
}

/* The batch's calls are sticky: the commit returns what they failed with. */
static void write_fill(skvd_write *write, const skvd_state *expected) {
  stratakv_batch *batch = write->commit.batch;
  const skvd_key *key = &write->key;
  uint32_t table = write->table.id;
  stratakv_batch_clear(batch);
  if (expected != NULL) {
    uint64_t version;
    int condition =
        skvd_condition_require(&write->condition, expected, &version);
    stratakv_batch_require(batch, table, key->bytes, key->len, condition,
                           version);
  }
  if (write->is_delete) {
    stratakv_batch_delete(batch, table, key->bytes, key->len);
  } else {
    stratakv_batch_put(batch, table, key->bytes, key->len, write->value,
                       write->value_len);
  }
}

void skvd_write_submit(skvd_request *request, const skvd_state *expected,
                       void (*finish)(skvd_request *request)) {
  skvd_write *write = skvd_write_of(request);
  write_fill(write, expected);
  write->attempts++;
  skvd_request_park(request, write_queue, finish);
}

bool skvd_write_failed(skvd_request *request) {
  const skvd_commit *commit = &skvd_write_of(request)->commit;
  if (commit->result.code == STRATAKV_OK ||
      commit->result.code == STRATAKV_CONSTRAINT_CHECK) {
    return false;
  }
  skvd_answer_store_error(request, commit->result.code, &commit->error);
  return true;
}
