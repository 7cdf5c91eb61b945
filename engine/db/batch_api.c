/*
 * Writing without a transaction: single changes, batches, conditions.
 */
#include "engine/db/handle.h"
#include "engine/db/txn.h"
#include "engine/wal/batch.h"

typedef struct batch_condition {
  size_t offset; /* of the internal key in keys */
  size_t size;
  int condition;
  uint64_t version;
} batch_condition;

struct stratakv_batch {
  int rc; /* sticky */
  skv_err err;
  skv_buf entries; /* engine/wal/batch.h */
  uint64_t count;
  uint32_t last_table; /* greatest id in it */
  skv_buf keys;        /* of the conditions */
  skv_buf conditions;  /* array of batch_condition */
};

stratakv_batch *stratakv_batch_new(void) {
  return skv_calloc(1, sizeof(stratakv_batch));
}

void stratakv_batch_clear(stratakv_batch *batch) {
  skv_buf_clear(&batch->entries);
  skv_buf_clear(&batch->keys);
  skv_buf_clear(&batch->conditions);
  memset(batch, 0, sizeof *batch);
}

void stratakv_batch_free(stratakv_batch *batch) {
  if (!batch) return;
  stratakv_batch_clear(batch);
  skv_free(batch);
}

static int batch_add(stratakv_batch *batch, uint8_t kind, uint32_t table,
                     skv_slice key, skv_slice value) {
  if (!batch) return STRATAKV_MISUSE;
  if (batch->rc != STRATAKV_OK) return batch->rc;
  batch->rc = skv_check_key(table, key.data, key.size, &batch->err);
  if (batch->rc == STRATAKV_OK)
    batch->rc = skv_check_value(value.data, value.size, &batch->err);
  if (batch->rc != STRATAKV_OK) return batch->rc;
  skv_batch_append(&batch->entries, kind, table, key, value);
  if (table > batch->last_table) batch->last_table = table;
  batch->count++;
  if (batch->entries.rc != STRATAKV_OK)
    batch->rc = skv_error_nomem(&batch->err);
  return batch->rc;
}

int stratakv_batch_put(stratakv_batch *batch, uint32_t table, const void *key,
                       size_t key_len, const void *value, size_t value_len) {
  return batch_add(batch, SKV_KIND_PUT, table, skv_slice_of(key, key_len),
                   skv_slice_of(value, value_len));
}

int stratakv_batch_delete(stratakv_batch *batch, uint32_t table,
                          const void *key, size_t key_len) {
  return batch_add(batch, SKV_KIND_DELETE, table, skv_slice_of(key, key_len),
                   skv_slice_of(NULL, 0));
}

int stratakv_batch_require(stratakv_batch *batch, uint32_t table,
                           const void *key, size_t key_len, int condition,
                           uint64_t version) {
  if (!batch) return STRATAKV_MISUSE;
  if (batch->rc != STRATAKV_OK) return batch->rc;
  batch->rc = skv_check_key(table, key, key_len, &batch->err);
  if (batch->rc == STRATAKV_OK &&
      (condition < STRATAKV_IF_ABSENT || condition > STRATAKV_IF_VERSION))
    batch->rc =
        SKV_ERROR(&batch->err, STRATAKV_ERROR, "%d is no condition", condition);
  if (batch->rc != STRATAKV_OK) return batch->rc;
  if (table > batch->last_table) batch->last_table = table;
  batch_condition c = {batch->keys.size, SKV_TABLE_PREFIX + key_len, condition,
                       version};
  skv_make_key(&batch->keys, table, skv_slice_of(key, key_len));
  skv_buf_append(&batch->conditions, &c, sizeof c);
  if (batch->keys.rc != STRATAKV_OK || batch->conditions.rc != STRATAKV_OK)
    batch->rc = skv_error_nomem(&batch->err);
  return batch->rc;
}

/* ---- Conditions, checked by the leader under WRITE --------------------- */

static bool condition_holds(const batch_condition *c, bool present,
                            uint64_t version) {
  if (c->condition == STRATAKV_IF_ABSENT) return !present;
  if (c->condition == STRATAKV_IF_PRESENT) return present;
  return present && version == c->version;
}

static int batch_check(skv_commit *commit, skv_db *db, skv_err *err) {
  stratakv_batch *batch = commit->check_arg;
  size_t count = batch->conditions.size / sizeof(batch_condition);
  int rc = skv_head_follow(db, err);
  if (rc != STRATAKV_OK) return rc;
  skv_view view = {skv_state_ref(db), skv_peek(&db->shared->tail)};
  for (size_t i = 0; rc == STRATAKV_OK && i < count; i++) {
    batch_condition c;
    skv_found found = {0};
    memcpy(&c, batch->conditions.data + i * sizeof c, sizeof c);
    rc = skv_view_get(&view, skv_slice_of(batch->keys.data + c.offset, c.size),
                      0, err, &found);
    bool present = found.found && found.entry.kind != SKV_KIND_DELETE;
    if (rc == STRATAKV_OK && !condition_holds(&c, present, found.entry.lsn)) {
      commit->result->failed = (uint32_t)i;
      commit->result->version = present ? found.entry.lsn : 0;
      rc = SKV_ERROR(err, STRATAKV_CONSTRAINT_CHECK,
                     "condition %zu does not hold", i);
    }
    skv_found_release(db, &found);
  }
  skv_view_release(&view);
  return rc;
}

/* ---- Writing ----------------------------------------------------------- */

/* A batch too large for the log goes through a transaction (INGEST). Its
 * conditions would have to hold until then: they are refused. */
static int write_large(stratakv_store *store, skv_slice entries,
                       bool conditions, skv_err *err, uint64_t *lsn) {
  stratakv_txn *txn = NULL;
  if (conditions)
    return SKV_ERROR(err, STRATAKV_TOOBIG,
                     "a batch with conditions is limited to %llu bytes",
                     (unsigned long long)skv_max_batch(store->db));
  int rc = stratakv_begin(store, err, &txn);
  const uint8_t *p = entries.data, *end = entries.data + entries.size;
  while (rc == STRATAKV_OK && p < end) {
    skv_entry e;
    p = skv_entry_get(p, end, &e, NULL);
    uint32_t table = (uint32_t)e.key.data[0] << 8 | e.key.data[1];
    const uint8_t *key = e.key.data + SKV_TABLE_PREFIX;
    size_t key_len = e.key.size - SKV_TABLE_PREFIX;
    rc = e.kind == SKV_KIND_PUT
             ? stratakv_txn_put(txn, table, key, key_len, e.value.data,
                                e.value.size, STRATAKV_BLIND, err)
             : stratakv_txn_delete(txn, table, key, key_len, STRATAKV_BLIND,
                                   err);
  }
  if (rc == STRATAKV_OK) {
    rc = stratakv_commit(txn, err, lsn);
    if (rc == STRATAKV_OK || rc == STRATAKV_IOERR_FSYNC) return rc;
  }
  stratakv_rollback(txn);
  return rc;
}

static void write_prepare(stratakv_store *store, stratakv_batch *batch,
                          stratakv_result *result, skv_commit *commit) {
  memset(result, 0, sizeof *result);
  *commit = (skv_commit){.batch = skv_buf_bytes(&batch->entries),
                         .entries = batch->count,
                         .type = SKV_RECORD_COMMIT,
                         .sync = atomic_load(&store->sync),
                         .check_arg = batch,
                         .result = result,
                         .rc = batch->rc,
                         .err = batch->err};
  if (commit->rc == STRATAKV_OK && batch->last_table > 0)
    commit->rc = skv_check_table(store, batch->last_table, &commit->err);
  if (batch->conditions.size > 0) commit->check = batch_check;
}

static bool write_is_large(const stratakv_store *store,
                           const stratakv_batch *batch) {
  return batch->entries.size > skv_max_batch(store->db);
}

/* One batch outside the group: refused already, or large. */
static void write_alone(stratakv_store *store, stratakv_batch *batch,
                        skv_commit *commit) {
  if (commit->rc == STRATAKV_OK)
    commit->rc =
        write_large(store, skv_buf_bytes(&batch->entries),
                    batch->conditions.size > 0, &commit->err, &commit->lsn);
}

/* Whether the call can be made at all. */
static int write_check(stratakv_store *store, stratakv_batch *const *batches,
                       size_t count, bool has_results, stratakv_error *err) {
  int rc = skv_handle_check_write(store, err);
  if (rc != STRATAKV_OK) return rc;
  if (!has_results && count > 1)
    return SKV_ERROR(err, STRATAKV_MISUSE, "results are needed");
  for (size_t i = 0; i < count; i++)
    if (!batches || !batches[i])
      return SKV_ERROR(err, STRATAKV_MISUSE, "batch %zu is missing", i);
  return STRATAKV_OK;
}

/* Nothing was tried: each result says so, for those who look there only. */
static int write_refuse(stratakv_result *results, size_t count, int rc) {
  for (size_t i = 0; i < count; i++) results[i] = (stratakv_result){.code = rc};
  return rc;
}

int stratakv_write(stratakv_store *store, stratakv_batch *const *batches,
                   size_t count, stratakv_error *err,
                   stratakv_result *results) {
  stratakv_result one;
  bool single = !results;
  int rc = write_check(store, batches, count, !single, err);
  if (single) results = &one;
  if (rc != STRATAKV_OK) return write_refuse(results, single ? 0 : count, rc);
  if (count == 0) return STRATAKV_OK;
  skv_commit *commits = skv_calloc(count, sizeof *commits);
  if (!commits) return write_refuse(results, count, skv_error_nomem(err));
  uint32_t timeout = atomic_load(&store->timeout_ms);
  for (size_t i = 0; i < count; i++)
    write_prepare(store, batches[i], &results[i], &commits[i]);
  for (size_t i = 0; i < count;) { /* groups between those that go alone */
    size_t n = 0;
    while (i + n < count && commits[i + n].rc == STRATAKV_OK &&
           !write_is_large(store, batches[i + n]))
      n++;
    skv_commit_run(store->db, commits + i, n, timeout);
    i += n;
    if (i < count) write_alone(store, batches[i], &commits[i]);
    if (i < count) i++;
  }
  for (size_t i = 0; i < count; i++) {
    results[i].code = commits[i].rc;
    results[i].lsn = commits[i].lsn;
    bool counts = single || commits[i].rc != STRATAKV_CONSTRAINT_CHECK;
    if (rc == STRATAKV_OK && counts && commits[i].rc != STRATAKV_OK) {
      rc = commits[i].rc;
      if (err) *err = commits[i].err;
    }
  }
  skv_free(commits);
  return rc;
}

/* A single change, encoded on the stack when it is small. */
static int write_one(stratakv_store *store, uint8_t kind, uint32_t table,
                     skv_slice key, skv_slice value, skv_err *err,
                     uint64_t *lsn) {
  uint8_t space[1024];
  skv_buf buf = {0};
  size_t most = SKV_ENTRY_OVERHEAD + SKV_TABLE_PREFIX + key.size + value.size;
  skv_commit commit = {.entries = 1,
                       .type = SKV_RECORD_COMMIT,
                       .sync = atomic_load(&store->sync)};
  if (most <= sizeof space) {
    uint8_t *end = skv_entry_put(space, kind, 0, table, key, value);
    commit.batch = skv_slice_of(space, (size_t)(end - space));
  } else {
    skv_batch_append(&buf, kind, table, key, value);
    if (buf.rc != STRATAKV_OK) return skv_error_nomem(err);
    commit.batch = skv_buf_bytes(&buf);
  }
  uint64_t large_lsn = 0;
  int rc;
  if (commit.batch.size > skv_max_batch(store->db)) {
    rc = write_large(store, commit.batch, false, err, &large_lsn);
    commit.lsn = large_lsn;
  } else {
    skv_commit_run(store->db, &commit, 1, atomic_load(&store->timeout_ms));
    rc = commit.rc;
    if (rc != STRATAKV_OK && err) *err = commit.err;
  }
  skv_buf_clear(&buf);
  if (lsn) *lsn = rc == STRATAKV_OK ? commit.lsn : 0;
  return rc;
}

int stratakv_put(stratakv_store *store, uint32_t table, const void *key,
                 size_t key_len, const void *value, size_t value_len,
                 stratakv_error *err, uint64_t *lsn) {
  int rc = skv_handle_check_write(store, err);
  if (rc == STRATAKV_OK) rc = skv_check_key(table, key, key_len, err);
  if (rc == STRATAKV_OK) rc = skv_check_table(store, table, err);
  if (rc == STRATAKV_OK) rc = skv_check_value(value, value_len, err);
  if (rc != STRATAKV_OK) return rc;
  return write_one(store, SKV_KIND_PUT, table, skv_slice_of(key, key_len),
                   skv_slice_of(value, value_len), err, lsn);
}

int stratakv_delete(stratakv_store *store, uint32_t table, const void *key,
                    size_t key_len, stratakv_error *err, uint64_t *lsn) {
  int rc = skv_handle_check_write(store, err);
  if (rc == STRATAKV_OK) rc = skv_check_key(table, key, key_len, err);
  if (rc == STRATAKV_OK) rc = skv_check_table(store, table, err);
  if (rc != STRATAKV_OK) return rc;
  return write_one(store, SKV_KIND_DELETE, table, skv_slice_of(key, key_len),
                   skv_slice_of(NULL, 0), err, lsn);
}
