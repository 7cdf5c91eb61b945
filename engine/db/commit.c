/*
 * Commits: a queue within the process, and a leader who appends for all.
 *
 * Whoever finds no leader becomes it, takes WRITE, appends every queued commit
 * as a record of its own, syncs once if any of them wants it, publishes, and
 * wakes the others. While it syncs the next group gathers. Leadership is a
 * flag, not a mutex: a prepared transaction keeps it from xSync to its
 * decision, perhaps across threads.
 */
#include <stdio.h>

#include "engine/db/db.h"
#include "engine/util/point.h"

#define STALL_POLL_NS 1000000u
#define GATHER_NS 60000u /* half a sync: what waiting for company may cost */

/* ---- Appending (leader, with WRITE) ------------------------------------ */

uint64_t skv_max_batch(const skv_db *db) {
  uint64_t size = db->options.wal_size / 4;
  uint64_t share = db->options.memory / 8;
  return size < share ? size : share;
}

/* Entries a log may hold so that its point and ordered index (about 25 bytes
 * an entry) fit half of the memory with all unflushed logs indexed. */
static uint64_t commit_max_entries(const skv_db *db) {
  uint64_t n = db->options.memory / 2 / (SKV_MAX_UNFLUSHED + 1) / 25;
  return n < 1024 ? 1024 : n;
}

int skv_append_room(skv_db *db, uint8_t type, skv_slice payload,
                    uint64_t entries, skv_err *err) {
  uint64_t need = skv_record_space(payload.size) + SKV_LOG_RESERVE;
  uint64_t size = skv_log_size(db->active->log);
  bool is_empty = db->place.offset == SKV_WAL_HEADER;
  uint64_t held = skv_peek(&db->shared->wal_entries) + entries;
  bool fits = db->last_type != SKV_RECORD_SEAL &&
              need <= size - db->place.offset &&
              (is_empty || held <= commit_max_entries(db));
  if (fits && !skv_peek(&db->shared->disk_low)) return STRATAKV_OK;
  int rc = skv_disk_admit_record(db, type, payload, !fits, err);
  if (rc != STRATAKV_OK || fits) return rc;
  return skv_rotate(db, need + SKV_WAL_HEADER, NULL, NULL, err);
}

int skv_append(skv_db *db, uint8_t type, skv_slice payload, uint64_t entries,
               bool now_synced, skv_err *err, uint64_t *lsn) {
  uint64_t space = skv_record_space(payload.size);
  db->record.size = 0;
  db->record.rc = STRATAKV_OK;
  uint8_t *record = skv_buf_reserve(&db->record, space);
  if (!record) return skv_error_nomem(err);
  if (payload.size)
    memcpy(record + SKV_RECORD_HEADER, payload.data, payload.size);
  skv_wal_place place = db->place;
  uint64_t offset = place.offset;
  skv_wal_encode(record, type, payload.size, skv_peek(&db->shared->durable),
                 skv_peek(&db->shared->epoch), &place);
  int rc =
      skv_log_write(db->active->log, offset, record, space, now_synced, err);
  if (rc != STRATAKV_OK) return rc;
  SKV_POINT("commit.written");
  db->place = place;
  db->last_type = type;
  *lsn = skv_wal_lsn(db->active->start, offset);
  atomic_fetch_add_explicit(&db->shared->wal_entries, entries,
                            memory_order_relaxed);
  atomic_fetch_add_explicit(&db->counters.wal_bytes, space,
                            memory_order_relaxed);
  atomic_fetch_add_explicit(&db->unsynced, space, memory_order_relaxed);
  skv_store_word(&db->shared->tail,
                 skv_wal_lsn(db->active->start, place.offset));
  SKV_POINT("commit.appended");
  if (place.offset - db->written_back >= SKV_WRITEBACK_BYTES) { /* P16 */
    if (db->has_syncer) /* starting it may wait for the device */
      skv_syncer_wake(db);
    else
      skv_log_sync_start(db->active->log, db->written_back,
                         place.offset - db->written_back);
    db->written_back = place.offset;
  }
  /* Behind a PREPARE or INGEST it must do for the ABORT. */
  if (db->record.capacity > (1u << 20) && type == SKV_RECORD_COMMIT)
    skv_buf_clear(&db->record);
  return STRATAKV_OK;
}

int skv_append_sync(skv_db *db, skv_err *err) {
  uint64_t tail = skv_peek(&db->shared->tail);
  if (skv_peek(&db->shared->durable) >= tail) return STRATAKV_OK;
  atomic_store_explicit(&db->unsynced, 0, memory_order_relaxed);
  int rc = skv_write_fence(db, skv_log_sync(db->active->log, err));
  atomic_fetch_add_explicit(&db->counters.syncs, 1, memory_order_relaxed);
  if (rc != STRATAKV_OK) return rc;
  if (skv_peek(&db->shared->fence)) /* P12: another process's sync failed */
    return SKV_ERROR(err, STRATAKV_IOERR_FSYNC,
                     "another process's fdatasync failed; the outcome is "
                     "known at the next open");
  SKV_POINT("commit.synced");
  skv_lift(&db->shared->durable, tail);
  SKV_POINT("commit.durable");
  return STRATAKV_OK;
}

void skv_append_publish(skv_db *db) {
  skv_raise(&db->shared->visible, skv_peek(&db->shared->tail));
  SKV_POINT("commit.published");
}

/* ---- Back-pressure ----------------------------------------------------- */

static int stall_level(skv_db *db, size_t *runs, size_t *logs) {
  skv_mutex_lock(&db->state_mutex);
  *runs = db->state->version->run_count;
  *logs = db->state->version->wal_count - 1;
  skv_mutex_unlock(&db->state_mutex);
  if (*logs >= SKV_MAX_UNFLUSHED || *runs >= SKV_STOP_RUNS) return 2;
  return *logs >= SKV_MAX_UNFLUSHED - 1 || *runs >= SKV_SLOW_RUNS;
}

bool skv_stall_now(skv_db *db) {
  size_t runs, logs;
  return stall_level(db, &runs, &logs) == 2;
}

static int stall_busy(skv_db *db, size_t runs, size_t logs, uint32_t timeout_ms,
                      skv_err *err) {
  atomic_fetch_add(&db->counters.busy, 1);
  if (logs >= SKV_MAX_UNFLUSHED)
    return SKV_ERROR(err, STRATAKV_BUSY,
                     "write stall: %zu unflushed logs, flush is behind; "
                     "waited %u ms",
                     logs, timeout_ms);
  return SKV_ERROR(err, STRATAKV_BUSY,
                   "write stall: %zu runs at level 0, compaction is behind; "
                   "waited %u ms",
                   runs, timeout_ms);
}

int skv_stall_wait(skv_db *db, uint64_t deadline, uint32_t timeout_ms,
                   skv_err *err) {
  size_t runs, logs;
  int level = stall_level(db, &runs, &logs);
  if (level == 0) return STRATAKV_OK;
  uint64_t begin = db->env->now(db->env);
  uint64_t full = atomic_load(&db->flush_full);
  skv_work_ask(db);
  if (!db->has_worker) skv_work_inline(db);
  if (level == 1 && logs < SKV_MAX_UNFLUSHED - 1)
    db->env->sleep(db->env, STALL_POLL_NS / 10 * (runs - SKV_SLOW_RUNS + 1));
  int rc = STRATAKV_OK;
  while (level == 2) {
    SKV_POINT("commit.stalled");
    /* Another process may be the one that flushes. */
    rc = skv_head_follow(db, err);
    level = stall_level(db, &runs, &logs);
    if (level != 2 || rc != STRATAKV_OK) break;
    rc = skv_disk_stuck(db, full, err);
    if (rc != STRATAKV_OK) break;
    if (db->env->now(db->env) >= deadline) {
      rc = stall_busy(db, runs, logs, timeout_ms, err);
      break;
    }
    skv_mutex_lock(&db->work_mutex);
    skv_cond_wait_for(&db->progress_cond, &db->work_mutex, STALL_POLL_NS);
    skv_mutex_unlock(&db->work_mutex);
    skv_work_ask(db);
    if (!db->has_worker) skv_work_inline(db);
  }
  atomic_fetch_add(&db->counters.stall_ns, db->env->now(db->env) - begin);
  return rc;
}

/* ---- The group --------------------------------------------------------- */

static void commit_append_one(skv_db *db, skv_commit *commit, bool synced) {
  commit->rc = STRATAKV_OK;
  if (commit->check) commit->rc = commit->check(commit, db, &commit->err);
  if (commit->rc != STRATAKV_OK || commit->batch.size == 0) return;
  SKV_POINT("commit.checked");
  commit->rc = skv_append_room(db, commit->type, commit->batch, commit->entries,
                               &commit->err);
  if (commit->rc == STRATAKV_OK)
    commit->rc = skv_append(db, commit->type, commit->batch, commit->entries,
                            synced, &commit->err, &commit->lsn);
  commit->appended = commit->rc == STRATAKV_OK;
}

/* Whether the group ends with a sync: someone wants it, or `normal` is due and
 * there is no syncer to do it. */
static bool commit_sync_due(skv_db *db, const skv_commit *group) {
  bool normal = false;
  for (const skv_commit *c = group; c; c = c->next) {
    if (c->sync == STRATAKV_SYNC_FULL) return true;
    normal |= c->sync == STRATAKV_SYNC_NORMAL;
  }
  if (!normal || db->has_syncer) return false;
  uint64_t now = db->env->now(db->env);
  if (now - db->write_used < SKV_SYNC_NS &&
      atomic_load(&db->unsynced) < SKV_SYNC_BYTES)
    return false;
  db->write_used = now;
  return true;
}

/* `normal`: once per SKV_SYNC_BYTES, not at each commit behind them. */
static void commit_ask_sync(skv_db *db) {
  if (atomic_load(&db->sync_mode) != STRATAKV_SYNC_NORMAL ||
      atomic_load(&db->unsynced) < SKV_SYNC_BYTES || !db->has_syncer)
    return;
  if (!atomic_exchange(&db->sync_asked, true)) skv_syncer_wake(db);
}

/* A rotation within the group may have failed to sync (P12). */
static int commit_not_fenced(skv_db *db, skv_err *err) {
  if (!skv_peek(&db->shared->fence)) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_IOERR_FSYNC,
                   "fdatasync failed; the outcome is known at the next open");
}

static void commit_fail_group(skv_commit *group, int rc, const skv_err *err) {
  for (skv_commit *c = group; c; c = c->next) {
    c->rc = rc;
    c->err = *err;
  }
}

/* Append all, sync once if anyone wants it, publish. */
static void commit_group(skv_db *db, skv_commit *group) {
  SKV_OPERATION("commit");
  bool full = commit_sync_due(db, group);
  uint64_t appended = 0;
  skv_err err;
  int rc = full ? skv_write_look(db, &err) : STRATAKV_OK;
  if (rc != STRATAKV_OK) {
    commit_fail_group(group, rc, &err);
    return;
  }
  for (skv_commit *c = group; c; c = c->next) {
    commit_append_one(db, c, full);
    appended += c->appended;
  }
  if (appended == 0) return;
  rc = full ? skv_append_sync(db, &err) : commit_not_fenced(db, &err);
  if (rc == STRATAKV_OK) {
    skv_append_publish(db);
    atomic_fetch_add_explicit(&db->counters.commits, appended,
                              memory_order_relaxed);
    if (!full) commit_ask_sync(db);
    return;
  }
  for (skv_commit *c = group; c; c = c->next)
    if (c->appended) {
      c->rc = rc;
      c->err = err;
    }
}

/* Give leadership back: the first in the queue, or who waits for it alone,
 * takes it. commit_mutex held. */
static void commit_resign(skv_db *db) {
  db->leading = false;
  if (db->queue) skv_cond_signal(&db->queue->waiter->cond);
  skv_cond_broadcast(&db->lead_cond);
}

/*
 * Before a sync: wait a moment for those who were in the group before, and are
 * on their way back with their next commit. Without it the first of them
 * leads a group of one or two, and the device syncs for few.
 */
static void commit_gather(skv_db *db, uint64_t deadline) {
  uint64_t end = db->env->now(db->env) + GATHER_NS;
  if (end > deadline) end = deadline;
  db->gathering = true;
  while (db->queued < db->last_group) {
    uint64_t now = db->env->now(db->env);
    if (now >= end) break;
    skv_cond_wait_for(&db->gather_cond, &db->commit_mutex, end - now);
  }
  db->gathering = false;
}

/* Take everything queued at this moment. */
static skv_commit *commit_take(skv_db *db, bool can_commit, uint64_t deadline) {
  skv_mutex_lock(&db->commit_mutex);
  if (can_commit && db->queue && db->queue->sync == STRATAKV_SYNC_FULL)
    commit_gather(db, deadline);
  skv_commit *group = db->queue;
  db->last_group = db->queued;
  db->queued = 0;
  db->queue = NULL;
  db->queue_end = &db->queue;
  skv_mutex_unlock(&db->commit_mutex);
  return group;
}

/* Take our commits out of the queue again; false if someone has them. */
static bool commit_dequeue(skv_db *db, skv_commit *list, size_t count) {
  skv_commit **at = &db->queue;
  bool found = false;
  while (*at) {
    if (*at >= list && *at < list + count) {
      *at = (*at)->next;
      db->queued--;
      found = true;
    } else {
      at = &(*at)->next;
    }
  }
  db->queue_end = at;
  return found;
}

/* The time was the leader's own: only its commits fail, the others lead with
 * theirs. */
static void commit_give_up(skv_db *db, skv_commit *list, size_t count,
                           const skv_err *err) {
  skv_mutex_lock(&db->commit_mutex);
  commit_dequeue(db, list, count);
  for (size_t i = 0; i < count; i++) {
    list[i].rc = err->code;
    list[i].err = *err;
    list[i].done = true;
  }
  commit_resign(db);
  skv_mutex_unlock(&db->commit_mutex);
}

/* Those of the leader; the others' go with them. */
static void commit_wait_for_disk(skv_db *db, const skv_commit *list,
                                 size_t count, uint64_t deadline) {
  for (size_t i = 0; i < count; i++)
    if (list[i].batch.size > 0)
      skv_disk_wait(db, list[i].type, list[i].batch, deadline);
}

/* Lead one group: everything queued at this moment, `list` of the caller
 * included. Leadership is taken. */
static void commit_lead(skv_db *db, skv_commit *list, size_t count,
                        uint64_t deadline, uint32_t timeout_ms) {
  skv_err err;
  commit_wait_for_disk(db, list, count, deadline);
  int rc = skv_stall_wait(db, deadline, timeout_ms, &err);
  if (rc == STRATAKV_OK) rc = skv_write_acquire(db, deadline, timeout_ms, &err);
  if (rc == STRATAKV_BUSY) {
    commit_give_up(db, list, count, &err);
    return;
  }
  skv_commit *group = commit_take(db, rc == STRATAKV_OK, deadline);
  SKV_POINT("commit.taken");
  if (rc == STRATAKV_OK)
    commit_group(db, group);
  else
    commit_fail_group(group, rc, &err);
  skv_write_done(db);
  SKV_POINT("commit.led");

  skv_mutex_lock(&db->commit_mutex);
  for (skv_commit *c = group, *next; c; c = next) {
    next = c->next; /* its owner may go on as soon as it is done */
    c->done = true;
    if (c->waiter == c) skv_cond_signal(&c->cond);
  }
  commit_resign(db);
  skv_mutex_unlock(&db->commit_mutex);
}

static void commit_enqueue(skv_db *db, skv_commit *list, size_t count) {
  for (size_t i = 0; i < count; i++) {
    skv_commit *c = &list[i];
    c->next = NULL;
    c->done = c->appended = false;
    c->lsn = 0;
    c->waiter = &list[count - 1];
    if (c->waiter == c) skv_cond_init(&c->cond);
    *db->queue_end = c;
    db->queue_end = &c->next;
  }
  db->queued += count;
  if (db->gathering && db->queued >= db->last_group)
    skv_cond_signal(&db->gather_cond);
}

static void commit_timed_out(skv_commit *list, size_t count,
                             uint32_t timeout_ms) {
  for (size_t i = 0; i < count; i++)
    list[i].rc = SKV_ERROR(&list[i].err, STRATAKV_BUSY,
                           "waited %u ms for a transaction of this process "
                           "that is being committed",
                           timeout_ms);
}

/* A list is taken as a whole, so its last commit is done last. */
void skv_commit_run(skv_db *db, skv_commit *list, size_t count,
                    uint32_t timeout_ms) {
  if (count == 0) return;
  uint64_t deadline = db->env->now(db->env) + (uint64_t)timeout_ms * 1000000u;
  skv_commit *last = &list[count - 1];
  skv_mutex_lock(&db->commit_mutex);
  commit_enqueue(db, list, count);
  while (!last->done) {
    if (!db->leading) {
      db->leading = true;
      skv_mutex_unlock(&db->commit_mutex);
      commit_lead(db, list, count, deadline, timeout_ms);
      skv_mutex_lock(&db->commit_mutex);
      continue;
    }
    uint64_t now = db->env->now(db->env);
    if (now >= deadline && commit_dequeue(db, list, count)) {
      commit_timed_out(list, count, timeout_ms);
      if (!db->leading) commit_resign(db); /* pass a wake-up on */
      break;
    }
    /* Once the leader has it, it is only a sync away. */
    skv_cond_wait_for(&last->cond, &db->commit_mutex,
                      now < deadline ? deadline - now : STALL_POLL_NS);
  }
  skv_mutex_unlock(&db->commit_mutex);
  skv_cond_clear(&last->cond);
  if (!db->has_worker) skv_work_inline(db);
}

/* ---- Leadership alone -------------------------------------------------- */

int skv_lead_begin(skv_db *db, uint32_t timeout_ms, skv_err *err) {
  uint64_t deadline = db->env->now(db->env) + (uint64_t)timeout_ms * 1000000u;
  skv_mutex_lock(&db->commit_mutex);
  while (db->leading) {
    uint64_t now = db->env->now(db->env);
    if (now >= deadline) {
      skv_mutex_unlock(&db->commit_mutex);
      atomic_fetch_add(&db->counters.busy, 1);
      return SKV_ERROR(err, STRATAKV_BUSY,
                       "waited %u ms for a transaction of this process that "
                       "is being committed",
                       timeout_ms);
    }
    skv_cond_wait_for(&db->lead_cond, &db->commit_mutex, deadline - now);
  }
  db->leading = true;
  skv_mutex_unlock(&db->commit_mutex);
  return STRATAKV_OK;
}

void skv_lead_end(skv_db *db) {
  skv_write_done(db);
  skv_mutex_lock(&db->commit_mutex);
  commit_resign(db);
  skv_mutex_unlock(&db->commit_mutex);
}
