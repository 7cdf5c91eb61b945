/*
 * Flush: the oldest sealed log becomes one run at level 0. Writers go on in
 * the active log meanwhile; WALs flush oldest first (P5).
 */
#include "engine/db/db.h"
#include "engine/util/point.h"

#define FLUSH_POLL_NS 1000000u

static void job_discard(void *arg, const skv_name *tmp) {
  skv_gc_unnamed(arg, tmp);
}

int skv_job_init(skv_db *db, skv_job *job) {
  *job = (skv_job){.tree = &db->tree,
                   .seg = {.compression = db->options.compression,
                           .filter_bits = db->options.filter_bits,
                           .block_size = db->block_size},
                   .segment_bytes = db->segment_bytes,
                   .next_name = skv_db_next_name,
                   .discard = job_discard,
                   .arg = db};
  return STRATAKV_OK;
}

/* Unnamed files of a job that came to nothing: only gc deletes. */
void skv_products_discard(skv_db *db, skv_products *products) {
  for (size_t i = 0; i < products->count; i++)
    skv_gc_unnamed(db, &products->list[i].tmp);
  skv_products_clear(products);
}

typedef struct flush_turn {
  skv_db *db;
  skv_products products;
  uint64_t wal;
  uint64_t run;
} flush_turn;

static int flush_build(void *arg, const skv_version *version, skv_buf *edit,
                       skv_err *err) {
  flush_turn *turn = arg;
  if (version->wal_count < 2 || version->wals[0].number != turn->wal)
    return STRATAKV_OK; /* done by another process */
  uint64_t next = version->next_file;
  int rc = skv_head_name(turn->db, &turn->products, 0, turn->run, 0, &next,
                         edit, err);
  if (rc != STRATAKV_OK) return rc;
  SKV_POINT("flush.named");
  skv_edit_next(edit, next);
  skv_edit_flushed(edit, turn->wal);
  return STRATAKV_OK;
}

/* INV-6: with nothing older anywhere a tombstone hides nothing. */
static bool flush_is_bottom(const skv_version *version) {
  if (version->run_count > 0) return false;
  for (int i = 1; i < SKV_LEVELS; i++)
    if (version->levels[i].count > 0) return false;
  return true;
}

static int flush_log(skv_db *db, skv_state *state, skv_err *err) {
  SKV_OPERATION("flush");
  skv_memlog *log = state->logs[0];
  flush_turn turn = {.db = db, .wal = log->number, .run = log->start};
  skv_iter *it = NULL;
  skv_job job;
  uint64_t limit = skv_memlog_limit(log, skv_peek(&log->end));
  int rc = STRATAKV_OK;
  if (limit > SKV_WAL_HEADER) {
    skv_job_init(db, &job);
    rc = skv_mem_iter_new(log->mem, limit, err, &it);
    if (rc == STRATAKV_OK)
      rc = skv_produce(&job, it, flush_is_bottom(state->version), err,
                       &turn.products);
    skv_iter_close(it);
  }
  SKV_POINT("flush.written");
  if (rc == STRATAKV_OK) rc = skv_head_edit(db, flush_build, &turn, err);
  if (rc != STRATAKV_OK) { /* what has a number by now is gc's */
    skv_products_discard(db, &turn.products);
    return rc;
  }
  skv_products_clear(&turn.products);
  SKV_POINT("flush.published");
  skv_lift(&db->shared->retired_wal, turn.wal); /* P1 */
  SKV_POINT("flush.retired");
  atomic_fetch_add(&db->counters.flushes, 1);
  return STRATAKV_OK;
}

bool skv_flush_exclude(skv_db *db) {
  if (!skv_mutex_try(&db->flush_mutex)) return false;
  if (skv_store_lock(db->store, SKV_LOCK_FLUSH, SKV_EXCLUSIVE, NULL) ==
      STRATAKV_OK)
    return true;
  skv_mutex_unlock(&db->flush_mutex);
  return false;
}

void skv_flush_admit(skv_db *db) {
  (void)skv_store_lock(db->store, SKV_LOCK_FLUSH, SKV_UNLOCK, NULL);
  skv_mutex_unlock(&db->flush_mutex);
}

/* The oldest log if it is sealed; *did false if there is none, or another
 * process is at it. */
int skv_flush_oldest(skv_db *db, bool *did, skv_err *err) {
  *did = false;
  if (!skv_mutex_try(&db->flush_mutex)) return STRATAKV_OK;
  int rc = skv_store_lock(db->store, SKV_LOCK_FLUSH, SKV_EXCLUSIVE, err);
  if (rc == STRATAKV_OK) {
    rc = skv_head_follow(db, err);
    skv_state *state = skv_state_ref(db);
    if (rc == STRATAKV_OK && state->log_count > 1) {
      SKV_POINT("flush.picked");
      rc = flush_log(db, state, err);
      *did = rc == STRATAKV_OK;
    }
    skv_state_unref(state);
    (void)skv_store_lock(db->store, SKV_LOCK_FLUSH, SKV_UNLOCK, NULL);
  } else if (rc == STRATAKV_BUSY) {
    rc = STRATAKV_OK;
  }
  skv_mutex_unlock(&db->flush_mutex);
  return rc;
}

static uint64_t flush_oldest_number(skv_db *db) {
  skv_state *state = skv_state_ref(db);
  uint64_t number = state->logs[0]->number;
  skv_state_unref(state);
  return number;
}

/* Everything committed before the call: seal the log, then flush up to it. */
int skv_flush_all(skv_db *db, uint32_t timeout_ms, skv_err *err) {
  uint64_t deadline = db->env->now(db->env) + (uint64_t)timeout_ms * 1000000u;
  int rc = skv_lead_begin(db, timeout_ms, err);
  if (rc != STRATAKV_OK) return rc;
  uint64_t last = 0;
  rc = skv_write_acquire(db, deadline, timeout_ms, err);
  if (rc == STRATAKV_OK && db->place.offset > SKV_WAL_HEADER)
    rc = skv_rotate(db, 0, NULL, NULL, err);
  if (rc == STRATAKV_OK) last = db->active->number;
  skv_lead_end(db);
  while (rc == STRATAKV_OK) {
    bool did;
    rc = skv_head_follow(db, err);
    if (rc != STRATAKV_OK || flush_oldest_number(db) >= last) break;
    rc = skv_flush_oldest(db, &did, err);
    if (rc == STRATAKV_OK && !did) {
      if (db->env->now(db->env) >= deadline)
        return SKV_ERROR(err, STRATAKV_BUSY,
                         "waited %u ms for another process to flush",
                         timeout_ms);
      db->env->sleep(db->env, FLUSH_POLL_NS);
    }
  }
  if (rc == STRATAKV_OK && !skv_disk_keeps_log(db)) rc = skv_gc(db, err);
  return rc;
}
