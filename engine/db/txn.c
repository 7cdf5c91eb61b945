/*
 * Transactions: changes, reading them back, savepoints.
 */
#include "engine/db/txn.h"
#include "engine/util/hash.h"
#include "engine/wal/batch.h"

int stratakv_begin(stratakv_store *store, stratakv_error *err,
                   stratakv_txn **out) {
  *out = NULL;
  int rc = skv_handle_check(store, err);
  if (rc != STRATAKV_OK) return rc;
  stratakv_txn *txn = skv_new(sizeof *txn, &rc);
  if (rc != STRATAKV_OK) return skv_error_nomem(err);
  txn->store = store;
  txn->db = store->db;
  rc = skv_view_take(store->db, err, &txn->view);
  if (rc != STRATAKV_OK) {
    skv_free(txn);
    return rc;
  }
  atomic_fetch_add(&store->children, 1);
  *out = txn;
  return rc;
}

void stratakv_txn_guard(stratakv_txn *txn, int (*enter)(void *),
                        void (*leave)(void *), void *arg) {
  txn->guard_enter = enter;
  txn->guard_leave = leave;
  txn->guard_arg = arg;
}

/* ---- Reading own changes ----------------------------------------------- */

int skv_txn_own(stratakv_txn *txn, skv_slice key, skv_err *err,
                skv_seg_pin *pin, bool *found, skv_entry *entry) {
  int rc = STRATAKV_OK;
  uint64_t hash = skv_hash(key);
  *found = false;
  if (txn->changes && txn->changes->size > 0) {
    uint64_t limit;
    rc = skv_changes_mem(txn->changes, err, &limit);
    if (rc == STRATAKV_OK) rc = skv_mem_catch_up(txn->changes->mem, limit, err);
    if (rc == STRATAKV_OK)
      rc = skv_mem_get(txn->changes->mem, key, hash, limit, err, found, entry);
  }
  for (size_t i = txn->spill_count; rc == STRATAKV_OK && !*found && i-- > 0;)
    rc = skv_spill_get(txn->spills[i], key, hash, pin, err, found, entry);
  return rc;
}

int skv_txn_iters(stratakv_txn *txn, bool keys_only, skv_iter ***list,
                  size_t *count, size_t *capacity, skv_err *err) {
  int rc = STRATAKV_OK;
  if (txn->changes && txn->changes->size > 0) {
    uint64_t limit;
    skv_iter *it = NULL;
    rc = skv_changes_mem(txn->changes, err, &limit);
    if (rc == STRATAKV_OK)
      rc = skv_mem_iter_new(txn->changes->mem, limit, err, &it);
    if (rc == STRATAKV_OK) rc = skv_iters_push(list, count, capacity, it, err);
  }
  for (size_t i = txn->spill_count; rc == STRATAKV_OK && i-- > 0;)
    rc = skv_spill_iters(txn->spills[i], keys_only, list, count, capacity, err);
  return rc;
}

int stratakv_txn_get(stratakv_txn *txn, uint32_t table, const void *key,
                     size_t key_len, stratakv_error *err,
                     stratakv_value *value) {
  int rc = skv_handle_check(txn ? txn->store : NULL, err);
  if (rc == STRATAKV_OK) rc = skv_check_key(table, key, key_len, err);
  if (rc == STRATAKV_OK) rc = skv_check_table(txn->store, table, err);
  if (rc != STRATAKV_OK) return rc;
  uint8_t space[256];
  skv_buf buf = {0};
  skv_slice internal = skv_make_key_in(space, sizeof space, &buf, table,
                                       skv_slice_of(key, key_len));
  skv_found found = {0};
  bool own = false;
  rc = buf.rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
  if (rc == STRATAKV_OK)
    rc = skv_txn_own(txn, internal, err, &found.pin, &own, &found.entry);
  if (rc == STRATAKV_OK && !own) {
    rc = skv_view_get(&txn->view, internal, 0, err, &found);
    own = found.found;
  } else if (own) {
    found.entry.lsn = 0;
  }
  if (rc == STRATAKV_OK && (!own || found.entry.kind == SKV_KIND_DELETE))
    rc = STRATAKV_NOTFOUND;
  if (rc == STRATAKV_OK && value)
    rc = skv_value_set(value, found.entry.value, found.entry.lsn, err);
  skv_found_release(txn->db, &found);
  skv_buf_clear(&buf);
  return rc;
}

/* ---- Changing ---------------------------------------------------------- */

static int txn_add_check(stratakv_txn *txn, size_t offset, int saw,
                         skv_err *err) {
  if (txn->check_count == txn->check_capacity) {
    size_t more = txn->check_capacity ? txn->check_capacity * 2 : 16;
    skv_watch *grown = skv_realloc(txn->checks, more * sizeof *grown);
    if (!grown) return skv_error_nomem(err);
    txn->checks = grown;
    txn->check_capacity = more;
  }
  txn->checks[txn->check_count++] = (skv_watch){offset, saw};
  return STRATAKV_OK;
}

/* A key that the transaction itself changed before needs no check: the first
 * change decided what it read. */
static int txn_needs_check(stratakv_txn *txn, uint32_t table, skv_slice key,
                           int *saw, skv_err *err) {
  if (*saw == STRATAKV_BLIND || skv_txn_position(txn) == 0) return STRATAKV_OK;
  uint8_t space[256];
  skv_buf buf = {0};
  skv_slice internal = skv_make_key_in(space, sizeof space, &buf, table, key);
  skv_seg_pin pin = {0};
  skv_entry entry;
  bool own = false;
  int rc = buf.rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
  if (rc == STRATAKV_OK)
    rc = skv_txn_own(txn, internal, err, &pin, &own, &entry);
  if (own) *saw = STRATAKV_BLIND;
  skv_seg_pin_clear(txn->db->tree.cache, &pin);
  skv_buf_clear(&buf);
  return rc;
}

static int txn_change(stratakv_txn *txn, uint8_t kind, uint32_t table,
                      skv_slice key, skv_slice value, int saw, skv_err *err) {
  int rc = skv_txn_unprepare(txn, err);
  if (rc == STRATAKV_OK) rc = txn_needs_check(txn, table, key, &saw, err);
  if (rc != STRATAKV_OK) return rc;
  size_t need = SKV_ENTRY_OVERHEAD + SKV_TABLE_PREFIX + key.size + value.size;
  size_t most = skv_max_batch(txn->db);
  if (txn->changes && txn->changes->size + need > most) {
    rc = skv_txn_spill(txn, err);
    if (rc != STRATAKV_OK) return rc;
  }
  if (need > most) {
    skv_buf buf = {0};
    skv_entry entry = {.value = value, .kind = kind};
    entry.key = skv_make_key(&buf, table, key);
    rc = buf.rc == STRATAKV_OK ? skv_txn_spill_one(txn, &entry, err)
                               : skv_error_nomem(err);
    if (rc == STRATAKV_OK && saw != STRATAKV_BLIND) txn->spilled_checked = true;
    skv_buf_clear(&buf);
    return rc;
  }
  if (!txn->changes) txn->changes = skv_changes_new();
  if (!txn->changes) return skv_error_nomem(err);
  size_t offset = txn->changes->size;
  rc = saw == STRATAKV_BLIND ? STRATAKV_OK
                             : txn_add_check(txn, offset, saw, err);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_changes_add(txn->changes, kind, table, key, value, err);
  if (rc != STRATAKV_OK && saw != STRATAKV_BLIND) txn->check_count--;
  return rc;
}

int stratakv_txn_put(stratakv_txn *txn, uint32_t table, const void *key,
                     size_t key_len, const void *value, size_t value_len,
                     int saw, stratakv_error *err) {
  int rc = skv_handle_check_write(txn ? txn->store : NULL, err);
  if (rc == STRATAKV_OK) rc = skv_check_key(table, key, key_len, err);
  if (rc == STRATAKV_OK) rc = skv_check_table(txn->store, table, err);
  if (rc == STRATAKV_OK) rc = skv_check_value(value, value_len, err);
  if (rc != STRATAKV_OK) return rc;
  return txn_change(txn, SKV_KIND_PUT, table, skv_slice_of(key, key_len),
                    skv_slice_of(value, value_len), saw, err);
}

int stratakv_txn_delete(stratakv_txn *txn, uint32_t table, const void *key,
                        size_t key_len, int saw, stratakv_error *err) {
  int rc = skv_handle_check_write(txn ? txn->store : NULL, err);
  if (rc == STRATAKV_OK) rc = skv_check_key(table, key, key_len, err);
  if (rc == STRATAKV_OK) rc = skv_check_table(txn->store, table, err);
  if (rc != STRATAKV_OK) return rc;
  return txn_change(txn, SKV_KIND_DELETE, table, skv_slice_of(key, key_len),
                    skv_slice_of(NULL, 0), saw, err);
}

/* ---- Savepoints -------------------------------------------------------- */

int stratakv_savepoint(stratakv_txn *txn, stratakv_error *err, uint64_t *mark) {
  int rc = skv_handle_check(txn ? txn->store : NULL, err);
  if (rc != STRATAKV_OK) return rc;
  if (txn->mark_count == txn->mark_capacity) {
    size_t more = txn->mark_capacity ? txn->mark_capacity * 2 : 8;
    skv_mark *grown = skv_realloc(txn->marks, more * sizeof *grown);
    if (!grown) return skv_error_nomem(err);
    txn->marks = grown;
    txn->mark_capacity = more;
  }
  *mark = ++txn->mark_ids;
  txn->marks[txn->mark_count++] = (skv_mark){*mark, skv_txn_position(txn)};
  return STRATAKV_OK;
}

void stratakv_release(stratakv_txn *txn, uint64_t mark) {
  while (txn->mark_count > 0 && txn->marks[txn->mark_count - 1].id >= mark)
    txn->mark_count--;
}

static int txn_mark_position(const stratakv_txn *txn, uint64_t mark,
                             skv_err *err, uint64_t *position) {
  *position = 0;
  if (mark == 0) return STRATAKV_OK;
  for (size_t i = 0; i < txn->mark_count; i++)
    if (txn->marks[i].id == mark) {
      *position = txn->marks[i].position;
      return STRATAKV_OK;
    }
  return SKV_ERROR(err, STRATAKV_MISUSE, "no such savepoint");
}

int stratakv_rollback_to(stratakv_txn *txn, uint64_t mark,
                         stratakv_error *err) {
  uint64_t position;
  int rc = skv_handle_check(txn ? txn->store : NULL, err);
  if (rc == STRATAKV_OK) rc = txn_mark_position(txn, mark, err, &position);
  if (rc == STRATAKV_OK) rc = skv_txn_unprepare(txn, err);
  if (rc != STRATAKV_OK) return rc;
  if (position >= txn->base) {
    rc = skv_changes_cut(&txn->changes, position - txn->base, err);
  } else {
    rc = skv_changes_cut(&txn->changes, 0, err);
    if (rc == STRATAKV_OK) rc = skv_txn_cut_spills(txn, position);
  }
  if (rc != STRATAKV_OK) return rc;
  size_t size = txn->changes ? txn->changes->size : 0;
  while (txn->check_count > 0 &&
         txn->checks[txn->check_count - 1].offset >= size)
    txn->check_count--;
  stratakv_release(txn, mark + 1);
  return STRATAKV_OK;
}
