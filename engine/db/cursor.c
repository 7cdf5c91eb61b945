/*
 * Cursors: one table of one view, without tombstones, within a range.
 */
#include "engine/db/handle.h"
#include "engine/db/txn.h"
#include "engine/tree/merge.h"

#define CURSOR_POLL 1000 /* entries skipped between two calls of poll */

struct stratakv_cursor {
  stratakv_store *store;
  skv_view view;
  skv_changes *changes; /* of the transaction, kept alive */
  skv_spill **spills;
  size_t spill_count;
  skv_iter *it;
  bool valid;
  bool keys_only;
  skv_buf start, end; /* internal keys; end exclusive */
  skv_buf scratch;    /* key to seek */
  int (*poll)(void *arg);
  void *poll_arg;
};

void stratakv_cursor_close(stratakv_cursor *c) {
  if (!c) return;
  if (skv_handle_check(c->store, NULL) != STRATAKV_OK) {
    skv_free(c); /* across fork: all behind it is the parent's */
    return;
  }
  skv_iter_close(c->it);
  for (size_t i = 0; i < c->spill_count; i++) skv_spill_unref(c->spills[i]);
  skv_free(c->spills);
  skv_changes_unref(c->changes);
  skv_view_release(&c->view);
  skv_buf_clear(&c->start);
  skv_buf_clear(&c->end);
  skv_buf_clear(&c->scratch);
  atomic_fetch_sub(&c->store->children, 1);
  skv_free(c);
}

static int cursor_range(stratakv_cursor *c, uint32_t table,
                        const stratakv_range *range, skv_err *err) {
  static const stratakv_range all;
  if (!range) range = &all;
  c->keys_only = range->keys_only != 0;
  c->poll = range->poll;
  c->poll_arg = range->poll_arg;
  skv_make_key(&c->start, table,
               skv_slice_of(range->start, range->start ? range->start_len : 0));
  if (range->end)
    skv_make_key(&c->end, table, skv_slice_of(range->end, range->end_len));
  else
    skv_make_key(&c->end, table + 1, skv_slice_of(NULL, 0));
  return c->start.rc != STRATAKV_OK || c->end.rc != STRATAKV_OK
             ? skv_error_nomem(err)
             : STRATAKV_OK;
}

/* The transaction's changes of this moment stay readable whatever it does. */
static int cursor_share_changes(stratakv_cursor *c, stratakv_txn *txn,
                                skv_err *err) {
  if (txn->changes) c->changes = skv_changes_ref(txn->changes);
  if (txn->spill_count == 0) return STRATAKV_OK;
  c->spills = skv_calloc(txn->spill_count, sizeof *c->spills);
  if (!c->spills) return skv_error_nomem(err);
  for (size_t i = 0; i < txn->spill_count; i++)
    c->spills[c->spill_count++] = skv_spill_ref(txn->spills[i]);
  return STRATAKV_OK;
}

static int cursor_build(stratakv_cursor *c, stratakv_txn *txn, skv_err *err) {
  skv_iter **list = NULL;
  size_t count = 0, capacity = 0;
  int rc = STRATAKV_OK;
  if (txn) {
    rc = cursor_share_changes(c, txn, err);
    if (rc == STRATAKV_OK)
      rc = skv_txn_iters(txn, c->keys_only, &list, &count, &capacity, err);
  }
  if (rc == STRATAKV_OK)
    rc = skv_view_iters(&c->view, c->keys_only, &list, &count, &capacity, err);
  if (rc != STRATAKV_OK) {
    skv_iters_close(list, count);
    return rc;
  }
  if (count > 0) rc = skv_merge_new(list, count, err, &c->it);
  skv_free(list);
  return rc;
}

int stratakv_cursor_open(stratakv_store *store,
                         const stratakv_snapshot *snapshot, stratakv_txn *txn,
                         uint32_t table, const stratakv_range *range,
                         stratakv_error *err, stratakv_cursor **out) {
  *out = NULL;
  int rc = skv_handle_check(store, err);
  if (rc == STRATAKV_OK) rc = skv_check_table(store, table, err);
  if (rc != STRATAKV_OK) return rc;
  stratakv_cursor *c = skv_new(sizeof *c, &rc);
  if (rc != STRATAKV_OK) return skv_error_nomem(err);
  c->store = store;
  atomic_fetch_add(&store->children, 1);
  if (txn || snapshot) {
    c->view = txn ? txn->view : snapshot->view;
    skv_state_share(c->view.state);
  } else {
    rc = skv_view_take(store->db, err, &c->view);
  }
  if (rc == STRATAKV_OK) rc = cursor_range(c, table, range, err);
  if (rc == STRATAKV_OK) rc = cursor_build(c, txn, err);
  if (rc != STRATAKV_OK) {
    stratakv_cursor_close(c);
    return rc;
  }
  *out = c;
  return STRATAKV_OK;
}

/* ---- Moving ------------------------------------------------------------ */

static bool cursor_in_range(const stratakv_cursor *c, bool forward) {
  if (forward) return skv_compare(c->it->entry.key, skv_buf_bytes(&c->end)) < 0;
  return skv_compare(c->it->entry.key, skv_buf_bytes(&c->start)) >= 0;
}

/* From where the iterator is, to the first entry that is shown. */
static int cursor_settle(stratakv_cursor *c, int rc, bool forward,
                         skv_err *err) {
  unsigned skipped = 0;
  c->valid = false;
  while (rc == STRATAKV_OK && c->it->valid && cursor_in_range(c, forward)) {
    if (c->it->entry.kind != SKV_KIND_DELETE) {
      c->valid = true;
      return rc;
    }
    if (++skipped % CURSOR_POLL == 0 && c->poll && c->poll(c->poll_arg))
      return SKV_ERROR(err, STRATAKV_INTERRUPT, "interrupted");
    rc = forward ? skv_iter_next(c->it, err) : skv_iter_prev(c->it, err);
  }
  return rc;
}

static int cursor_check(stratakv_cursor *c, skv_err *err) {
  return skv_handle_check(c ? c->store : NULL, err);
}

int stratakv_cursor_first(stratakv_cursor *c, stratakv_error *err) {
  int rc = cursor_check(c, err);
  if (rc != STRATAKV_OK || !c->it) return rc;
  rc = skv_iter_seek(c->it, skv_buf_bytes(&c->start), err);
  return cursor_settle(c, rc, true, err);
}

/* The last entry below an exclusive bound. */
static int cursor_below(stratakv_cursor *c, skv_slice bound, skv_err *err) {
  int rc = skv_iter_seek_back(c->it, bound, err);
  if (rc == STRATAKV_OK && c->it->valid &&
      skv_compare(c->it->entry.key, bound) == 0)
    rc = skv_iter_prev(c->it, err);
  return cursor_settle(c, rc, false, err);
}

int stratakv_cursor_last(stratakv_cursor *c, stratakv_error *err) {
  int rc = cursor_check(c, err);
  if (rc != STRATAKV_OK || !c->it) return rc;
  return cursor_below(c, skv_buf_bytes(&c->end), err);
}

static int cursor_seek_key(stratakv_cursor *c, const void *key, size_t key_len,
                           skv_err *err, skv_slice *out) {
  c->scratch.size = 0;
  *out = skv_make_key(&c->scratch,
                      (uint32_t)c->start.data[0] << 8 | c->start.data[1],
                      skv_slice_of(key, key_len));
  return c->scratch.rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
}

int stratakv_cursor_seek(stratakv_cursor *c, const void *key, size_t key_len,
                         stratakv_error *err) {
  skv_slice target;
  int rc = cursor_check(c, err);
  if (rc != STRATAKV_OK || !c->it) return rc;
  rc = cursor_seek_key(c, key, key_len, err, &target);
  if (rc != STRATAKV_OK) return rc;
  if (skv_compare(target, skv_buf_bytes(&c->start)) < 0)
    target = skv_buf_bytes(&c->start);
  rc = skv_iter_seek(c->it, target, err);
  return cursor_settle(c, rc, true, err);
}

int stratakv_cursor_seek_back(stratakv_cursor *c, const void *key,
                              size_t key_len, stratakv_error *err) {
  skv_slice target;
  int rc = cursor_check(c, err);
  if (rc != STRATAKV_OK || !c->it) return rc;
  rc = cursor_seek_key(c, key, key_len, err, &target);
  if (rc != STRATAKV_OK) return rc;
  if (skv_compare(target, skv_buf_bytes(&c->end)) >= 0)
    return cursor_below(c, skv_buf_bytes(&c->end), err);
  rc = skv_iter_seek_back(c->it, target, err);
  return cursor_settle(c, rc, false, err);
}

int stratakv_cursor_next(stratakv_cursor *c, stratakv_error *err) {
  int rc = cursor_check(c, err);
  if (rc != STRATAKV_OK || !c->valid) return rc;
  return cursor_settle(c, skv_iter_next(c->it, err), true, err);
}

int stratakv_cursor_prev(stratakv_cursor *c, stratakv_error *err) {
  int rc = cursor_check(c, err);
  if (rc != STRATAKV_OK || !c->valid) return rc;
  return cursor_settle(c, skv_iter_prev(c->it, err), false, err);
}

/* ---- Looking ----------------------------------------------------------- */

int stratakv_cursor_valid(const stratakv_cursor *c) { return c && c->valid; }

const void *stratakv_cursor_key(const stratakv_cursor *c, size_t *len) {
  *len = 0;
  if (!stratakv_cursor_valid(c)) return NULL;
  *len = c->it->entry.key.size - SKV_TABLE_PREFIX;
  return c->it->entry.key.data + SKV_TABLE_PREFIX;
}

const void *stratakv_cursor_value(const stratakv_cursor *c, size_t *len) {
  *len = 0;
  if (!stratakv_cursor_valid(c) || c->keys_only) return NULL;
  *len = c->it->entry.value.size;
  return c->it->entry.value.data;
}

uint64_t stratakv_cursor_version(const stratakv_cursor *c) {
  return stratakv_cursor_valid(c) ? c->it->entry.lsn : 0;
}
