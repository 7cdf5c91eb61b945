/*
 * WRITE between processes: taking it, keeping it between commits, handing it
 * over, and finishing what an owner that died left behind.
 *
 * All of this is called by the process's leader (commit.c), one at a time.
 * A kept WRITE costs a single process no system call per commit. Others ask
 * through their bit in the shared page; the owner gives WRITE back after the
 * commit at hand and stays away until the asker has it (P14).
 */
#include <stdio.h>

#include "engine/db/db.h"
#include "engine/util/point.h"

#define WRITE_POLL_NS 1000000u /* an owner that died wakes nobody */

int skv_write_fenced(skv_db *db, skv_err *err) {
  if (!skv_peek(&db->shared->fence)) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_READONLY,
                   "fdatasync failed; the store is read-only until every "
                   "process has closed it");
}

/* A restored copy, or nothing, is where the store was: what this process would
 * write nobody will read, or it is another's. */
int skv_write_gone(skv_db *db, skv_err *err) {
  if (!atomic_load(&db->is_gone)) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_IOERR,
                   "the files of \"%s\" were removed or replaced while they "
                   "were in use; close it everywhere",
                   skv_store_info(db->store)->path);
}

int skv_write_look(skv_db *db, skv_err *err) {
  if (!db->is_private && skv_store_is_gone(db->store))
    atomic_store(&db->is_gone, true);
  return skv_write_gone(db, err);
}

int skv_write_fence(skv_db *db, int rc) {
  if (rc == STRATAKV_IOERR_FSYNC) {
    skv_poke(&db->shared->fence, 1);
    skv_write_doubt(db);
  }
  return rc;
}

/* P12: what is not durable may be lost from the page cache. */
void skv_write_doubt(skv_db *db) {
  uint64_t durable = skv_peek(&db->shared->durable);
  skv_mutex_lock(&db->state_mutex);
  for (skv_memlog *log = db->logs; log; log = log->next)
    skv_mem_doubt(log->mem, skv_memlog_limit(log, durable));
  skv_mutex_unlock(&db->state_mutex);
}

void skv_write_adopt_alone(skv_db *db, skv_memlog *log,
                           const skv_wal_place *place, uint8_t last) {
  if (db->active != log) {
    skv_memlog_ref(log);
    skv_memlog_unref(db->active);
    db->active = log;
  }
  db->place = *place;
  db->last_type = last;
  db->written_back = place->offset;
}

/* ---- Following what others wrote --------------------------------------- */

/* The page is untrusted, and at its tail the next record is written: a tail
 * that cannot be is found out before. Nobody else moves it: WRITE is held. */
static int write_check_tail(skv_db *db, uint64_t tail, skv_err *err) {
  const skv_memlog *log = db->active;
  if (tail >= skv_peek(&db->shared->durable) &&
      tail >= skv_peek(&db->shared->visible) && tail >= log->start &&
      tail - log->start <= skv_log_size(log->log) - SKV_WAL_HEADER &&
      skv_wal_offset(log->start, tail) >= db->place.offset)
    return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_CORRUPT,
                   "SHARED: tail LSN %llu is no end of the active log",
                   (unsigned long long)tail);
}

/* Make `active` the newest log and read it up to the published tail, so that
 * place continues the chain. *ingest: the last INGEST that is undecided. */
static int write_follow(skv_db *db, skv_err *err, skv_wal_record *ingest) {
  int rc = skv_head_follow(db, err);
  if (rc != STRATAKV_OK) return rc;
  skv_state *state = skv_state_ref(db);
  skv_memlog *log = state->logs[state->log_count - 1];
  if (log != db->active) {
    skv_wal_place place = {.seed = skv_wal_seed(&log->header),
                           .offset = SKV_WAL_HEADER,
                           .prev = log->header.prev,
                           .epoch = 0};
    skv_write_adopt_alone(db, log, &place, 0);
  }
  skv_state_unref(state);

  uint64_t tail = skv_peek(&db->shared->tail);
  rc = write_check_tail(db, tail, err);
  if (rc != STRATAKV_OK) return rc;
  uint64_t limit = skv_memlog_limit(db->active, tail);
  char name[SKV_NAME_SIZE];
  skv_name wal = {SKV_NAME_WAL, db->active->number, 0, 0};
  skv_name_format(&wal, name);
  ingest->type = 0;
  while (db->place.offset < limit) {
    skv_wal_record record;
    if (!skv_wal_read(skv_log_bytes(db->active->log), limit, true, &db->place,
                      &record))
      return skv_error_corrupt(err, name, db->place.offset,
                               "checksum mismatch");
    db->last_type = record.type;
    if (record.type == SKV_RECORD_INGEST)
      *ingest = record;
    else if (record.type != SKV_RECORD_SEAL)
      ingest->type = 0;
  }
  return STRATAKV_OK;
}

/* A record that a dead owner wrote and did not publish stands at the tail:
 * readers saw the state without it, so it must not come back (L2, P10). */
static int write_erase(skv_db *db, uint64_t tail, skv_err *err) {
  static const uint8_t zeros[SKV_RECORD_HEADER];
  if (skv_log_size(db->active->log) - tail < sizeof zeros) return STRATAKV_OK;
  return skv_log_write(db->active->log, tail, zeros, sizeof zeros, true, err);
}

/* Bytes that a dead owner appended and may not have synced: write them again,
 * sync, and only then believe that they are durable (P12). */
static int write_rescue(skv_db *db, skv_err *err) {
  uint64_t tail = skv_peek(&db->shared->tail);
  uint64_t from = skv_memlog_limit(db->active, skv_peek(&db->shared->durable));
  uint64_t end = skv_memlog_limit(db->active, tail);
  int rc = STRATAKV_OK;
  while (rc == STRATAKV_OK && from < end) {
    uint8_t copy[4096];
    uint64_t n = end - from < sizeof copy ? end - from : sizeof copy;
    memcpy(copy, skv_log_bytes(db->active->log) + from, n);
    rc = skv_log_write(db->active->log, from, copy, n, true, err);
    from += n;
  }
  if (rc == STRATAKV_OK) SKV_POINT("write.rewritten");
  if (rc == STRATAKV_OK) rc = write_erase(db, end, err);
  if (rc == STRATAKV_OK) SKV_POINT("write.erased");
  if (rc == STRATAKV_OK)
    rc = skv_write_fence(db, skv_log_sync(db->active->log, err));
  if (rc == STRATAKV_OK) rc = skv_write_fenced(db, err);
  if (rc == STRATAKV_OK) skv_lift(&db->shared->durable, tail);
  return rc;
}

/* A dead owner may have rotated without publishing it. */
static int write_settle_head(skv_db *db, skv_err *err) {
  int rc = skv_head_lock(db, err);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_head_settle(db, err);
  skv_head_unlock(db);
  return rc;
}

/* WRITE was just locked: read on, and if the last owner died with it, finish
 * its record, its INGEST or its rotation. */
static int write_takeover(skv_db *db, skv_err *err) {
  skv_wal_record ingest;
  bool died = skv_peek(&db->shared->owner) != 0;
  int rc = died ? write_settle_head(db, err) : STRATAKV_OK;
  if (rc == STRATAKV_OK) rc = write_follow(db, err, &ingest);
  if (rc != STRATAKV_OK) return rc;
  SKV_POINT("write.followed");
  if (died) {
    rc = write_rescue(db, err);
    if (rc != STRATAKV_OK) return rc;
    SKV_POINT("write.rescued");
  }
  uint32_t epoch = skv_peek(&db->shared->epoch) + 1;
  if (epoch <= db->place.epoch) epoch = db->place.epoch + 1;
  skv_poke(&db->shared->epoch, epoch); /* P11 */
  SKV_POINT("write.epoch_raised");
  if (!died) skv_poke(&db->shared->owner, db->slot + 1);
  if (!died) return STRATAKV_OK;
  if (ingest.type != 0) {
    uint64_t lsn = skv_wal_lsn(db->active->start, ingest.offset);
    rc = skv_ingest_finish(db, ingest.payload, lsn, err);
  } else if (db->last_type == SKV_RECORD_SEAL) {
    rc = skv_rotate(db, 0, NULL, NULL, err); /* P8 */
  }
  if (rc != STRATAKV_OK) return rc;
  skv_append_publish(db);
  SKV_POINT("write.settled");
  /* Only now: until then the one who died is seen to have left something. */
  skv_poke(&db->shared->owner, db->slot + 1);
  return STRATAKV_OK;
}

/* ---- The lock ---------------------------------------------------------- */

/* P14: after giving WRITE to someone, wait until it has it, or 10 ms. */
static void write_stand_back(skv_db *db) {
  uint64_t mine = UINT64_C(1) << db->slot;
  uint64_t end = db->env->now(db->env) + SKV_YIELD_NS;
  for (;;) {
    uint32_t word = skv_peek(&db->shared->request_word);
    uint64_t others = skv_peek(&db->shared->requests) & ~mine;
    uint64_t now = db->env->now(db->env);
    if (others == 0) return;
    SKV_POINT("write.stood_back");
    if (now >= end) {
      /* Whoever still asks may be dead: nobody else clears its bit. */
      for (uint32_t i = 0; i < SKV_SLOTS; i++)
        if ((others >> i & 1) && !skv_slot_alive(db, i))
          atomic_fetch_and(&db->shared->requests, ~(UINT64_C(1) << i));
      return;
    }
    db->env->wait(db->env, (const uint32_t *)&db->shared->request_word, word,
                  WRITE_POLL_NS);
  }
}

static void write_ask(skv_db *db) {
  atomic_fetch_or(&db->shared->requests, UINT64_C(1) << db->slot);
  atomic_fetch_add(&db->shared->request_word, 1);
  db->env->wake(db->env, (const uint32_t *)&db->shared->request_word);
}

static void write_asked_no_more(skv_db *db) {
  atomic_fetch_and(&db->shared->requests, ~(UINT64_C(1) << db->slot));
  atomic_fetch_add(&db->shared->request_word, 1);
  db->env->wake(db->env, (const uint32_t *)&db->shared->request_word);
}

static int write_busy(skv_db *db, uint32_t waited_ms, skv_err *err) {
  char who[64];
  skv_slot_describe(db, skv_peek(&db->shared->owner) - 1u, who, sizeof who);
  atomic_fetch_add(&db->counters.busy, 1);
  return SKV_ERROR(err, STRATAKV_BUSY, "waited %u ms for the WRITE lock of %s",
                   waited_ms, who);
}

static int write_wait(skv_db *db, uint64_t deadline, uint32_t waited_ms,
                      skv_err *err) {
  write_ask(db);
  SKV_POINT("write.asked");
  int rc;
  for (;;) {
    uint32_t word = skv_peek(&db->shared->release_word);
    rc = skv_store_lock(db->store, SKV_LOCK_WRITE, SKV_EXCLUSIVE, err);
    if (rc != STRATAKV_BUSY) break;
    if (db->env->now(db->env) >= deadline) {
      rc = write_busy(db, waited_ms, err);
      break;
    }
    db->env->wait(db->env, (const uint32_t *)&db->shared->release_word, word,
                  WRITE_POLL_NS);
  }
  write_asked_no_more(db);
  return rc;
}

int skv_write_acquire(skv_db *db, uint64_t deadline, uint32_t waited_ms,
                      skv_err *err) {
  int rc = skv_write_fenced(db, err);
  if (rc == STRATAKV_OK) rc = skv_write_gone(db, err);
  if (rc != STRATAKV_OK || db->write_held) return rc;
  if (db->is_private)
    return SKV_ERROR(err, STRATAKV_READONLY, "the store is open read-only");
  if (skv_peek(&db->shared->requests) & ~(UINT64_C(1) << db->slot))
    write_stand_back(db);
  rc = skv_store_lock(db->store, SKV_LOCK_WRITE, SKV_EXCLUSIVE, err);
  if (rc == STRATAKV_BUSY) rc = write_wait(db, deadline, waited_ms, err);
  if (rc != STRATAKV_OK) return rc;
  db->write_held = true;
  SKV_POINT("write.locked");
  rc = skv_write_look(db, err);
  if (rc == STRATAKV_OK) rc = write_takeover(db, err);
  SKV_POINT("write.taken");
  if (rc != STRATAKV_OK) skv_write_abandon(db);
  return rc;
}

/* The owner word stays, so that the next holder finishes it. If that is this
 * process it must read the record again. */
void skv_write_abandon(skv_db *db) {
  skv_memlog_unref(db->active);
  db->active = NULL;
  db->write_held = false;
  (void)skv_store_lock(db->store, SKV_LOCK_WRITE, SKV_UNLOCK, NULL);
}

void skv_write_release(skv_db *db) {
  if (!db->write_held) return;
  db->write_held = false;
  skv_poke(&db->shared->owner, 0);
  SKV_POINT("write.disowned");
  (void)skv_store_lock(db->store, SKV_LOCK_WRITE, SKV_UNLOCK, NULL);
  SKV_POINT("write.released");
  atomic_fetch_add(&db->shared->release_word, 1);
  if (skv_peek(&db->shared->requests) & ~(UINT64_C(1) << db->slot))
    db->env->wake(db->env, (const uint32_t *)&db->shared->release_word);
}

void skv_write_done(skv_db *db) {
  if (!db->write_held) return;
  uint64_t others =
      skv_peek(&db->shared->requests) & ~(UINT64_C(1) << db->slot);
  if (others != 0 || !db->has_syncer) {
    skv_write_release(db);
    return;
  }
  if (atomic_load(&db->syncer_idle)) skv_syncer_wake(db);
}
