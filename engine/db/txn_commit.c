/*
 * Preparing, committing and rolling back transactions.
 *
 * A small transaction commits through the queue like any other (COMMIT). One
 * that was prepared holds leadership and WRITE from prepare to its decision:
 * its PREPARE or INGEST is the log's last record, so committing is publishing,
 * and rolling back is one ABORT, for which space was kept (L5).
 */
#include "engine/db/txn.h"
#include "engine/util/point.h"

#define TXN_MANY_CHECKS 256 /* checked before WRITE too, from this many on */

static void txn_free(stratakv_txn *txn) {
  for (size_t i = 0; i < txn->spill_count; i++) skv_spill_unref(txn->spills[i]);
  skv_spill_unref(txn->gathered);
  skv_free(txn->spills);
  skv_free(txn->checks);
  skv_free(txn->marks);
  skv_buf_clear(&txn->ingest);
  skv_changes_unref(txn->changes);
  skv_view_release(&txn->view);
  atomic_fetch_sub(&txn->store->children, 1);
  skv_free(txn);
}

static bool txn_is_large(const stratakv_txn *txn) {
  return txn->spill_count > 0;
}

static void txn_set_prepared(stratakv_txn *txn, bool is_prepared) {
  skv_mutex_lock(&txn->db->commit_mutex);
  txn->is_prepared = is_prepared;
  txn->db->prepared = is_prepared ? txn : NULL;
  skv_mutex_unlock(&txn->db->commit_mutex);
}

static int txn_unknown(skv_err *err) {
  return SKV_ERROR(err, STRATAKV_IOERR_FSYNC,
                   "a prepared transaction could not be undone durably; its "
                   "outcome is known at the next open");
}

/* ---- Preparing --------------------------------------------------------- */

static int prepare_append(stratakv_txn *txn, skv_err *err) {
  skv_db *db = txn->db;
  bool large = txn_is_large(txn);
  skv_slice payload =
      large ? skv_buf_bytes(&txn->ingest)
            : skv_slice_of(txn->changes->data, txn->changes->size);
  uint64_t entries = large ? 0 : txn->changes->entries;
  uint8_t type = large ? SKV_RECORD_INGEST : SKV_RECORD_PREPARE;
  int sync = atomic_load(&txn->store->sync);
  bool durable = large || sync == STRATAKV_SYNC_FULL;
  int rc = skv_append_room(db, type, payload, entries, err);
  /* Once the INGEST stands, finishing it should not fail for want of space. */
  if (rc == STRATAKV_OK && large) rc = skv_rotate_ready(db, err);
  if (rc == STRATAKV_OK)
    rc = skv_append(db, type, payload, entries, durable, err,
                    &txn->prepared_lsn);
  if (rc == STRATAKV_OK) SKV_POINT("prepare.appended");
  if (rc == STRATAKV_OK && durable) rc = skv_append_sync(db, err);
  txn->prepared_type = type;
  return rc;
}

/* With leadership: everything up to the record. */
static int prepare_lead(stratakv_txn *txn, uint64_t deadline,
                        uint32_t timeout_ms, uint64_t *seen, skv_err *err) {
  skv_db *db = txn->db;
  if (!txn_is_large(txn))
    skv_disk_wait(db, SKV_RECORD_PREPARE,
                  skv_slice_of(txn->changes->data, txn->changes->size),
                  deadline);
  int rc = skv_stall_wait(db, deadline, timeout_ms, err);
  if (rc == STRATAKV_OK) rc = skv_write_acquire(db, deadline, timeout_ms, err);
  if (rc == STRATAKV_OK) rc = skv_write_look(db, err);
  if (rc == STRATAKV_OK) rc = skv_txn_validate(txn, true, seen, err);
  if (rc == STRATAKV_OK) rc = prepare_append(txn, err);
  return rc;
}

static int prepare_large(stratakv_txn *txn, skv_err *err) {
  skv_spill_unref(txn->gathered);
  txn->gathered = NULL;
  skv_buf_clear(&txn->ingest);
  int rc = skv_txn_gather(txn, err, &txn->gathered);
  if (rc != STRATAKV_OK) return rc;
  return skv_ingest_encode(txn->db, &txn->gathered->products, &txn->ingest,
                           err);
}

int stratakv_prepare(stratakv_txn *txn, stratakv_error *err) {
  int rc = skv_handle_check(txn ? txn->store : NULL, err);
  if (rc != STRATAKV_OK || txn->is_prepared) return rc;
  if (txn->is_unknown) return txn_unknown(err);
  if (skv_txn_position(txn) == 0) return STRATAKV_OK; /* nothing to write */
  SKV_OPERATION(txn_is_large(txn) ? "ingest" : "prepare");
  skv_db *db = txn->db;
  uint32_t timeout_ms = atomic_load(&txn->store->timeout_ms);
  uint64_t deadline = db->env->now(db->env) + (uint64_t)timeout_ms * 1000000u;
  uint64_t seen = 0;
  if (txn_is_large(txn)) rc = prepare_large(txn, err);
  if (rc == STRATAKV_OK &&
      (txn_is_large(txn) || txn->check_count > TXN_MANY_CHECKS))
    rc = skv_txn_validate(txn, false, &seen, err);
  if (rc == STRATAKV_OK) rc = skv_lead_begin(db, timeout_ms, err);
  if (rc != STRATAKV_OK) return rc;
  rc = prepare_lead(txn, deadline, timeout_ms, &seen, err);
  if (rc != STRATAKV_OK) {
    skv_lead_end(db);
    return rc;
  }
  txn->prepared_at = db->env->now(db->env);
  txn_set_prepared(txn, true);
  SKV_POINT("prepare.done");
  return STRATAKV_OK;
}

/* ---- Deciding ---------------------------------------------------------- */

/* The record stands and is durable: from here on it is committed. What may
 * still fail is naming an INGEST's segments; then readers find them without
 * the head, and the next owner of WRITE names them, as after a death. */
static void decide_commit(stratakv_txn *txn) {
  skv_db *db = txn->db;
  atomic_fetch_add(&db->counters.commits, 1);
  if (txn->prepared_type == SKV_RECORD_INGEST) {
    txn->gathered->is_kept = true;
    if (txn->spill_count == 1) txn->spills[0]->is_kept = true;
    skv_slice payload = skv_buf_bytes(&txn->ingest);
    if (skv_ingest_finish(db, payload, txn->prepared_lsn, NULL) !=
        STRATAKV_OK) {
      skv_ingest_leave(db, payload, txn->prepared_lsn);
      skv_write_abandon(db);
      return;
    }
  }
  skv_append_publish(db);
}

static int abort_append(stratakv_txn *txn, skv_err *err) {
  uint8_t lsn[8];
  uint64_t ignored;
  skv_put64(lsn, txn->prepared_lsn);
  /* Through the mapping, where it is one, so that it cannot fail (L5). */
  int rc = skv_append(txn->db, SKV_RECORD_ABORT, skv_slice_of(lsn, 8), 0, false,
                      err, &ignored);
  if (rc == STRATAKV_OK) SKV_POINT("abort.appended");
  if (rc == STRATAKV_OK) rc = skv_append_sync(txn->db, err); /* every mode */
  if (rc == STRATAKV_OK) SKV_POINT("abort.synced");
  return rc;
}

/*
 * Without an ABORT on the disk the transaction would be found committed, and
 * nobody may go on in this log. What stands before the PREPARE was synced, as
 * a rule: then the head can still say that the log ended there. Only if that
 * fails as well the outcome is unknown.
 */
static int decide_abort(stratakv_txn *txn, skv_err *err) {
  SKV_OPERATION("abort");
  skv_db *db = txn->db;
  if (abort_append(txn, err) == STRATAKV_OK) {
    skv_append_publish(db);
    return STRATAKV_OK;
  }
  skv_write_fence(db, STRATAKV_IOERR_FSYNC);
  if (skv_peek(&db->shared->durable) >= txn->prepared_lsn &&
      skv_head_end_log(db, txn->prepared_lsn, err) == STRATAKV_OK)
    return STRATAKV_OK;
  txn->is_unknown = true;
  return txn_unknown(err);
}

int skv_txn_unprepare(stratakv_txn *txn, skv_err *err) {
  if (txn->is_unknown) return txn_unknown(err);
  if (!txn->is_prepared) return STRATAKV_OK;
  txn_set_prepared(txn, false);
  int rc = decide_abort(txn, err);
  skv_lead_end(txn->db);
  return rc;
}

int stratakv_rollback(stratakv_txn *txn) {
  if (!txn) return STRATAKV_OK;
  int rc = skv_handle_check(txn->store, NULL);
  if (rc != STRATAKV_OK) {
    skv_free(txn); /* across fork: all behind it is the parent's, files too */
    return rc;
  }
  rc = skv_txn_unprepare(txn, NULL);
  txn_free(txn);
  return rc;
}

/* ---- Committing -------------------------------------------------------- */

typedef struct txn_commit_check {
  stratakv_txn *txn;
  uint64_t seen;
} txn_commit_check;

static int commit_check(skv_commit *commit, skv_db *db, skv_err *err) {
  txn_commit_check *check = commit->check_arg;
  SKV_UNUSED(db);
  return skv_txn_validate(check->txn, true, &check->seen, err);
}

/* The common case: one COMMIT record through the queue. */
static int commit_small(stratakv_txn *txn, skv_err *err, uint64_t *lsn) {
  txn_commit_check check = {txn, 0};
  skv_commit commit = {.type = SKV_RECORD_COMMIT,
                       .sync = atomic_load(&txn->store->sync),
                       .check = txn->check_count ? commit_check : NULL,
                       .check_arg = &check};
  if (txn->check_count > TXN_MANY_CHECKS) {
    int rc = skv_txn_validate(txn, false, &check.seen, err);
    if (rc != STRATAKV_OK) return rc;
  }
  commit.batch = skv_slice_of(txn->changes->data, txn->changes->size);
  commit.entries = txn->changes->entries;
  skv_commit_run(txn->db, &commit, 1, atomic_load(&txn->store->timeout_ms));
  if (commit.rc != STRATAKV_OK && err) *err = commit.err;
  *lsn = commit.lsn;
  return commit.rc;
}

static int commit_prepared(stratakv_txn *txn, skv_err *err, uint64_t *lsn) {
  int rc = stratakv_prepare(txn, err);
  if (rc != STRATAKV_OK) return rc;
  txn_set_prepared(txn, false);
  decide_commit(txn);
  *lsn = txn->prepared_lsn;
  skv_lead_end(txn->db);
  if (!txn->db->has_worker) skv_work_inline(txn->db);
  return STRATAKV_OK;
}

int stratakv_commit(stratakv_txn *txn, stratakv_error *err, uint64_t *lsn) {
  uint64_t ignored;
  if (!lsn) lsn = &ignored;
  *lsn = 0;
  int rc = skv_handle_check(txn ? txn->store : NULL, err);
  if (rc != STRATAKV_OK) return rc;
  if (txn->is_unknown)
    rc = txn_unknown(err);
  else if (skv_txn_position(txn) > 0)
    rc = txn->is_prepared || txn_is_large(txn) ? commit_prepared(txn, err, lsn)
                                               : commit_small(txn, err, lsn);
  if (rc == STRATAKV_OK || rc == STRATAKV_IOERR_FSYNC) txn_free(txn);
  return rc;
}

/* ---- A prepare that was left alone ------------------------------------- */

/* Called by the syncer. SQLite may return BUSY from COMMIT after xSync and
 * hand control to the user, with WRITE held. */
int skv_prepared_expire(skv_db *db) {
  skv_mutex_lock(&db->commit_mutex);
  stratakv_txn *txn = db->prepared;
  bool expired = txn && txn->guard_enter &&
                 db->env->now(db->env) - txn->prepared_at > SKV_GRACE_NS &&
                 txn->guard_enter(txn->guard_arg);
  if (expired) {
    txn->is_prepared = false;
    db->prepared = NULL;
  }
  skv_mutex_unlock(&db->commit_mutex);
  if (!expired) return STRATAKV_OK;
  void (*leave)(void *) = txn->guard_leave;
  void *arg = txn->guard_arg;
  int rc = decide_abort(txn, NULL);
  skv_lead_end(db);
  leave(arg);
  return rc;
}
