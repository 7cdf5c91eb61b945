/*
 * Conflict checks (P6): was a key that the transaction read for write changed
 * by another commit since its snapshot?
 *
 * A transaction in memory asks for each of its keys. One that was spilled has
 * too many: it asks for each entry that is newer than its snapshot whether it
 * is among its keys. All its keys count then, blind ones too, unless none was
 * read for write at all.
 */
#include "engine/db/txn.h"
#include "engine/tree/merge.h"
#include "engine/util/hash.h"
#include "engine/wal/batch.h"

/* A view that reaches to the appended tail: for the leader with WRITE, when
 * every record is decided. */
static int check_view(stratakv_txn *txn, bool locked, skv_err *err,
                      skv_view *view) {
  skv_db *db = txn->db;
  if (!locked) return skv_view_take(db, err, view);
  int rc = skv_head_follow(db, err);
  if (rc != STRATAKV_OK) return rc;
  view->state = skv_state_ref(db);
  view->lsn = skv_peek(&db->shared->tail);
  return STRATAKV_OK;
}

static int check_conflict(stratakv_txn *txn, skv_slice key, uint64_t lsn,
                          skv_err *err) {
  atomic_fetch_add(&txn->db->counters.conflicts, 1);
  const char *name = "?";
  uint32_t table = (uint32_t)key.data[0] << 8 | key.data[1];
  const skv_version *version = txn->view.state->version;
  for (size_t i = 0; i < version->table_count; i++)
    if (version->tables[i].id == table) name = version->tables[i].name;
  char text[64];
  size_t n = 0;
  for (size_t i = SKV_TABLE_PREFIX; i < key.size && n < sizeof text - 1; i++)
    text[n++] =
        key.data[i] >= ' ' && key.data[i] <= '~' ? (char)key.data[i] : '?';
  text[n] = 0;
  if (lsn == 0)
    return SKV_ERROR(err, STRATAKV_BUSY_SNAPSHOT,
                     "conflict on %s.key '%s': deleted since this "
                     "transaction read at %llu",
                     name, text, (unsigned long long)txn->view.lsn);
  return SKV_ERROR(err, STRATAKV_BUSY_SNAPSHOT,
                   "conflict on %s.key '%s': written at %llu, this "
                   "transaction reads at %llu",
                   name, text, (unsigned long long)lsn,
                   (unsigned long long)txn->view.lsn);
}

/* Whether anything newer than `since` may have left the logs: only then can a
 * tombstone have been compacted away. */
static bool check_was_flushed(const skv_view *view, uint64_t since) {
  return view->state->logs[0]->start > since;
}

static int check_key(stratakv_txn *txn, const skv_view *view, uint64_t since,
                     skv_slice key, int saw, skv_err *err) {
  skv_found found = {0};
  bool flushed = check_was_flushed(view, since);
  uint64_t least = flushed && saw == STRATAKV_SAW_PRESENT ? 0 : since;
  int rc = skv_view_get(view, key, least, err, &found);
  if (rc == STRATAKV_OK && found.found && found.entry.lsn >= since)
    rc = check_conflict(txn, key, found.entry.lsn, err);
  else if (rc == STRATAKV_OK && flushed && saw == STRATAKV_SAW_PRESENT &&
           (!found.found || found.entry.kind == SKV_KIND_DELETE))
    rc = check_conflict(txn, key, 0, err);
  skv_found_release(txn->db, &found);
  return rc;
}

static int check_each(stratakv_txn *txn, const skv_view *view, uint64_t since,
                      skv_err *err) {
  for (size_t i = 0; i < txn->check_count; i++) {
    skv_entry entry;
    const uint8_t *at = txn->changes->data + txn->checks[i].offset;
    skv_entry_get(at, txn->changes->data + txn->changes->size, &entry, NULL);
    int rc = check_key(txn, view, since, entry.key, txn->checks[i].saw, err);
    if (rc != STRATAKV_OK) return rc;
  }
  return STRATAKV_OK;
}

/* ---- The other way round ----------------------------------------------- */

typedef struct check_walk {
  stratakv_txn *txn;
  skv_err *err;
} check_walk;

static int check_new_entry(void *arg, const skv_entry *entry) {
  check_walk *walk = arg;
  skv_seg_pin pin = {0};
  skv_entry own;
  bool found;
  int rc = skv_txn_own(walk->txn, entry->key, walk->err, &pin, &found, &own);
  if (rc == STRATAKV_OK && found)
    rc = check_conflict(walk->txn, entry->key, entry->lsn, walk->err);
  skv_seg_pin_clear(walk->txn->db->tree.cache, &pin);
  return rc;
}

static int check_log(stratakv_txn *txn, const skv_view *view, skv_memlog *log,
                     uint64_t since, skv_err *err) {
  check_walk walk = {txn, err};
  uint64_t from = skv_memlog_limit(log, since);
  uint64_t limit = skv_memlog_limit(log, view->lsn);
  if (from >= limit) return STRATAKV_OK;
  return skv_mem_walk(log->mem, from, limit, check_new_entry, &walk, err);
}

static int check_run(stratakv_txn *txn, const skv_view *view, skv_run *run,
                     uint64_t since, skv_err *err) {
  check_walk walk = {txn, err};
  skv_iter *it = NULL;
  int rc = skv_run_iter_new(&txn->db->tree, view->state->version, run, true,
                            err, &it);
  if (rc == STRATAKV_OK) rc = skv_iter_first(it, err);
  while (rc == STRATAKV_OK && it->valid) {
    if (it->entry.lsn >= since) rc = check_new_entry(&walk, &it->entry);
    if (rc == STRATAKV_OK) rc = skv_iter_next(it, err);
  }
  skv_iter_close(it);
  return rc;
}

/* Keys that the snapshot had and that are gone altogether. */
static int check_vanished(stratakv_txn *txn, const skv_view *view,
                          skv_err *err) {
  skv_iter **list = NULL, *it = NULL;
  size_t count = 0, capacity = 0;
  int rc = skv_txn_iters(txn, true, &list, &count, &capacity, err);
  if (rc != STRATAKV_OK) {
    skv_iters_close(list, count);
    return rc;
  }
  rc = skv_merge_new(list, count, err, &it);
  skv_free(list);
  if (rc == STRATAKV_OK) rc = skv_iter_first(it, err);
  while (rc == STRATAKV_OK && it->valid) {
    skv_found before = {0}, after = {0};
    rc = skv_view_get(&txn->view, it->entry.key, 0, err, &before);
    if (rc == STRATAKV_OK && before.found &&
        before.entry.kind != SKV_KIND_DELETE) {
      rc = skv_view_get(view, it->entry.key, 0, err, &after);
      if (rc == STRATAKV_OK &&
          (!after.found || after.entry.kind == SKV_KIND_DELETE))
        rc = check_conflict(txn, it->entry.key, 0, err);
    }
    skv_found_release(txn->db, &before);
    skv_found_release(txn->db, &after);
    if (rc == STRATAKV_OK) rc = skv_iter_next(it, err);
  }
  skv_iter_close(it);
  return rc;
}

static int check_spilled(stratakv_txn *txn, const skv_view *view,
                         uint64_t since, skv_err *err) {
  if (!txn->spilled_checked) return STRATAKV_OK;
  for (size_t i = 0; i < view->state->source_count; i++) {
    skv_source *source = &view->state->sources[i];
    int rc = STRATAKV_OK;
    if (source->log)
      rc = check_log(txn, view, source->log, since, err);
    else if (source->run->max_lsn >= since)
      rc = check_run(txn, view, source->run, since, err);
    if (rc != STRATAKV_OK) return rc;
  }
  return check_was_flushed(view, since) ? check_vanished(txn, view, err)
                                        : STRATAKV_OK;
}

int skv_txn_validate(stratakv_txn *txn, bool locked, uint64_t *seen,
                     skv_err *err) {
  skv_view view;
  uint64_t since = *seen ? *seen : txn->view.lsn;
  if (txn->check_count == 0 && !txn->spilled_checked) return STRATAKV_OK;
  if (locked && skv_peek(&txn->db->shared->tail) == since) return STRATAKV_OK;
  int rc = check_view(txn, locked, err, &view);
  if (rc != STRATAKV_OK) return rc;
  rc = txn->spill_count > 0 ? check_spilled(txn, &view, since, err)
                            : check_each(txn, &view, since, err);
  if (rc == STRATAKV_OK) *seen = view.lsn;
  skv_view_release(&view);
  return rc;
}
