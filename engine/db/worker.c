/*
 * The background: a worker that flushes, compacts, prepares logs, frees states
 * and collects garbage, and a syncer that syncs for `normal`, starts
 * write-back, lets a kept WRITE lapse, gives it to who asks, finishes an INGEST
 * that was left, and undoes a forgotten prepare. The syncer never waits for the
 * worker (P14).
 */
#include "engine/db/db.h"
#include "engine/util/point.h"

#define WORK_RETRY_NS 20000000u /* another process holds FLUSH or COMPACT; */
#define WORK_RETRY_MAX_NS UINT64_C(5000000000) /* doubled while it fails */
#define WORK_LOOK_NS UINT64_C(1000000000)      /* idle: what others replaced */
#define SYNCER_TICK_NS 20000000u
#define SYNCER_REST_NS UINT64_C(3600000000000)

/* ---- Work -------------------------------------------------------------- */

void skv_work_ask(skv_db *db) {
  skv_mutex_lock(&db->work_mutex);
  db->work_asked++;
  skv_cond_signal(&db->work_cond);
  skv_mutex_unlock(&db->work_mutex);
}

void skv_work_progress(skv_db *db) {
  skv_mutex_lock(&db->work_mutex);
  db->progress++;
  skv_cond_broadcast(&db->progress_cond);
  skv_mutex_unlock(&db->work_mutex);
}

static void work_drop_log(skv_db *db) {
  skv_mutex_lock(&db->work_mutex);
  skv_log *log = db->next_log;
  skv_name name = db->next_log_name;
  db->next_log = NULL;
  skv_mutex_unlock(&db->work_mutex);
  if (!log) return;
  skv_log_close(log);
  skv_gc_unnamed(db, &name);
}

/* The next rotation should find its log ready. */
static void work_prepare_log(skv_db *db, uint64_t size) {
  skv_mutex_lock(&db->work_mutex);
  bool have = db->next_log != NULL;
  skv_mutex_unlock(&db->work_mutex);
  if (have) return;
  skv_log *log = NULL;
  skv_name name;
  if (skv_disk_spare(db) / 2 < size) return; /* and a flush of it */
  if (skv_log_obtain(db, size, NULL, &log, &name) != STRATAKV_OK) return;
  SKV_POINT("work.log_ready");
  skv_mutex_lock(&db->work_mutex);
  have = db->next_log != NULL; /* a rotation may have put its own back */
  if (!have) {
    db->next_log = log;
    db->next_log_name = name;
  }
  skv_mutex_unlock(&db->work_mutex);
  if (!have) return;
  skv_log_close(log);
  skv_gc_unnamed(db, &name);
}

/* The size of the log that will be needed soon, 0 if none: small stores never
 * need a second one. */
static uint64_t work_wants_log(skv_db *db) {
  skv_mutex_lock(&db->state_mutex);
  skv_memlog *log = db->state->logs[db->state->log_count - 1];
  uint64_t used = skv_memlog_limit(log, skv_peek(&db->shared->tail));
  uint64_t size = skv_log_size(log->log);
  skv_mutex_unlock(&db->state_mutex);
  return used > size / 4 ? skv_next_log_size(db, size) : 0;
}

/* Whether files are left that are not wanted: by the last gc, or a flushed log
 * while space is short. */
static bool work_hoards(skv_db *db) {
  if (atomic_load(&db->gc_again)) return true;
  skv_mutex_lock(&db->state_mutex);
  bool any = db->state->version->retired_count > 0;
  skv_mutex_unlock(&db->state_mutex);
  return any && skv_peek(&db->shared->disk_low) && !skv_disk_keeps_log(db);
}

/* What a round met: something to try again soon, or something broken. */
#define WORK_DONE 0
#define WORK_BLOCKED 1
#define WORK_FAILED 2

/* One round: true if there may be more at once. */
static bool work_round(skv_db *db, int *met) {
  bool flushed = false, compacted = false;
  *met = WORK_DONE;
  skv_state_bury(db);
  if (skv_disk_spare(db) == 0) work_drop_log(db);
  if (skv_peek(&db->shared->fence)) return false;
  if (skv_head_follow(db, NULL) != STRATAKV_OK) return false;
  int rc = skv_flush_oldest(db, &flushed, NULL);
  skv_disk_note(db, rc);
  if (rc != STRATAKV_OK) *met = WORK_FAILED;
  if (flushed || work_hoards(db)) skv_gc(db, NULL);
  uint64_t wanted = work_wants_log(db);
  if (wanted > 0) work_prepare_log(db, wanted);
  /* Only a full merge gives all back that was deleted. */
  bool full = atomic_load(&db->starving) > 0;
  rc = skv_compact_step(db, full, &compacted, NULL);
  skv_state *state = skv_state_ref(db);
  bool behind = state->log_count > 1 && !flushed;
  skv_state_unref(state);
  if (rc != STRATAKV_OK && rc != STRATAKV_BUSY) *met = WORK_FAILED;
  bool again = rc == STRATAKV_BUSY || behind || atomic_load(&db->gc_again);
  if (*met == WORK_DONE && again) *met = WORK_BLOCKED;
  return flushed || compacted;
}

/* How long to wait after a round, UINT64_MAX: until asked. A full disk or a
 * damaged file is not tried again at once: each try costs what it wrote. */
static uint64_t work_pause(int met, uint64_t before) {
  if (met == WORK_DONE) return UINT64_MAX;
  if (met == WORK_BLOCKED || before == UINT64_MAX) return WORK_RETRY_NS;
  return before * 2 < WORK_RETRY_MAX_NS ? before * 2 : WORK_RETRY_MAX_NS;
}

/* Until there is work. Nobody says what other processes have done: an idle one
 * would keep the files that they replaced. */
static void work_wait(skv_db *db, uint64_t seen, int met, uint64_t pause) {
  bool is_idle = pause == UINT64_MAX;
  if (db->work_asked != seen && met != WORK_FAILED) return;
  SKV_POINT("work.waits");
  skv_cond_wait_for(&db->work_cond, &db->work_mutex,
                    is_idle ? WORK_LOOK_NS : pause);
  while (is_idle && !db->stopping && db->work_asked == seen &&
         skv_peek(&db->shared->head) == skv_peek(&db->adopted))
    skv_cond_wait_for(&db->work_cond, &db->work_mutex, WORK_LOOK_NS);
}

static void *work_main(void *arg) {
  skv_db *db = arg;
  skv_gc(db, NULL);
  uint64_t seen = UINT64_MAX; /* look once: the last user may have left work */
  uint64_t pause = UINT64_MAX;
  int met = WORK_DONE;
  skv_mutex_lock(&db->work_mutex);
  while (!db->stopping) {
    work_wait(db, seen, met, pause);
    if (db->stopping) break;
    seen = db->work_asked;
    skv_mutex_unlock(&db->work_mutex);
    while (work_round(db, &met)) {
      if (db->stopping) break;
    }
    if (met != WORK_BLOCKED) atomic_fetch_add(&db->idle_rounds, 1);
    pause = work_pause(met, pause);
    skv_mutex_lock(&db->work_mutex);
  }
  skv_mutex_unlock(&db->work_mutex);
  return NULL;
}

/* background=off: in the commit that needs it, without leadership. */
void skv_work_inline(skv_db *db) {
  bool more = true;
  int met;
  if (db->is_private || db->options.background) return;
  skv_mutex_lock(&db->work_mutex);
  bool asked = db->work_asked != db->progress_asked;
  db->progress_asked = db->work_asked;
  skv_mutex_unlock(&db->work_mutex);
  for (int i = 0; asked && more && i < 100; i++) more = work_round(db, &met);
}

/* ---- The syncer -------------------------------------------------------- */

void skv_syncer_wake(skv_db *db) {
  atomic_fetch_add(&db->shared->request_word, 1);
  db->env->wake(db->env, (const uint32_t *)&db->shared->request_word);
}

/* `normal`: sync what was appended, without WRITE: only bytes below the tail
 * read before are then called durable. */
void skv_sync_now(skv_db *db) {
  atomic_store(&db->sync_asked, false);
  if (atomic_exchange(&db->unsynced, 0) == 0) return;
  /* The tail first: then the newest log is the tail's or a later one, before
   * which everything was synced (L3). */
  uint64_t tail = skv_load(&db->shared->tail);
  if (skv_head_follow(db, NULL) != STRATAKV_OK) {
    atomic_fetch_add(&db->unsynced, 1); /* again at the next tick */
    return;
  }
  skv_mutex_lock(&db->state_mutex);
  skv_memlog *log = skv_memlog_ref(db->state->logs[db->state->log_count - 1]);
  skv_mutex_unlock(&db->state_mutex);
  if (tail > log->start &&
      tail - log->start <= skv_log_size(log->log) - SKV_WAL_HEADER &&
      skv_write_fence(db, skv_log_sync(log->log, NULL)) == STRATAKV_OK) {
    SKV_POINT("syncer.synced");
    atomic_fetch_add(&db->counters.syncs, 1);
    if (!skv_peek(&db->shared->fence)) skv_lift(&db->shared->durable, tail);
  }
  skv_memlog_unref(log);
}

/* Give WRITE back if someone asks, or if it was not used for a while. */
static void syncer_lapse(skv_db *db) {
  skv_mutex_lock(&db->commit_mutex);
  bool free_now = !db->leading && db->write_held;
  if (free_now) db->leading = true;
  skv_mutex_unlock(&db->commit_mutex);
  if (!free_now) return;
  uint64_t others =
      skv_peek(&db->shared->requests) & ~(UINT64_C(1) << db->slot);
  uint64_t commits = atomic_load(&db->counters.commits);
  uint64_t now = db->env->now(db->env);
  if (commits != db->write_commits) {
    db->write_commits = commits;
    db->write_used = now;
  }
  if (others != 0 || now - db->write_used > SKV_KEEP_NS) {
    skv_write_release(db);
    SKV_POINT("syncer.lapsed");
  }
  skv_lead_end(db);
}

/* This process gave WRITE back with an INGEST that could not be finished; it
 * is committed, and somebody has to make it visible. */
static bool syncer_left_undecided(skv_db *db) {
  return !db->leading && !db->write_held &&
         skv_peek(&db->shared->owner) == db->slot + 1;
}

static void syncer_finish(skv_db *db) {
  SKV_POINT("syncer.finishing");
  skv_mutex_lock(&db->commit_mutex);
  bool left = syncer_left_undecided(db);
  if (left) db->leading = true;
  skv_mutex_unlock(&db->commit_mutex);
  if (!left) return;
  (void)skv_write_acquire(db, 0, 0, NULL); /* the takeover finishes it */
  skv_lead_end(db);
}

/* write_held belongs to the leader: it is looked at only if there is none. */
static bool syncer_has_work(skv_db *db) {
  skv_mutex_lock(&db->commit_mutex);
  bool work = db->leading || db->prepared || db->write_held ||
              syncer_left_undecided(db);
  skv_mutex_unlock(&db->commit_mutex);
  return work || (atomic_load(&db->sync_mode) == STRATAKV_SYNC_NORMAL &&
                  atomic_load(&db->unsynced) > 0);
}

/* P16: start write-back of what was appended since the last time, whoever
 * appended it. */
static void syncer_write_back(skv_db *db, uint64_t *number, uint64_t *from) {
  skv_mutex_lock(&db->state_mutex);
  skv_memlog *log = skv_memlog_ref(db->state->logs[db->state->log_count - 1]);
  skv_mutex_unlock(&db->state_mutex);
  uint64_t end = skv_memlog_limit(log, skv_peek(&db->shared->tail));
  if (*number != log->number) {
    *number = log->number;
    *from = SKV_WAL_HEADER;
  }
  if (end >= *from + SKV_WRITEBACK_BYTES) {
    skv_log_sync_start(log->log, *from, end - *from);
    *from = end;
  }
  skv_memlog_unref(log);
}

static void *syncer_main(void *arg) {
  skv_db *db = arg;
  uint64_t log = 0, written_back = 0;
  uint64_t synced = db->env->now(db->env);
  for (;;) {
    uint32_t word = skv_peek(&db->shared->request_word);
    /* Idle first, then look: a commit looks the other way round. */
    atomic_store(&db->syncer_idle, 1);
    bool work = syncer_has_work(db);
    if (work) atomic_store(&db->syncer_idle, 0);
    uint64_t nap = work ? SYNCER_TICK_NS : SYNCER_REST_NS;
    if (db->stopping) return NULL;
    db->env->wait(db->env, (const uint32_t *)&db->shared->request_word, word,
                  nap);
    atomic_store(&db->syncer_idle, 0);
    uint64_t now = db->env->now(db->env);
    if (atomic_load(&db->sync_mode) == STRATAKV_SYNC_NORMAL &&
        (atomic_load(&db->unsynced) >= SKV_SYNC_BYTES ||
         now - synced >= SKV_SYNC_NS)) {
      skv_sync_now(db);
      synced = now;
    }
    if (work) (void)skv_write_look(db, NULL);
    syncer_write_back(db, &log, &written_back);
    syncer_lapse(db);
    syncer_finish(db);
    skv_prepared_expire(db);
  }
}

/* ---- Starting and stopping --------------------------------------------- */

int skv_work_start(skv_db *db, skv_err *err) {
  if (!db->options.background || db->is_private || db->options.read_only)
    return STRATAKV_OK;
  db->has_worker = db->has_syncer = true; /* before they run and look */
  int rc = skv_thread_start(&db->syncer, "strata-sync", syncer_main, db, err);
  if (rc != STRATAKV_OK) {
    db->has_worker = db->has_syncer = false;
    return rc;
  }
  rc = skv_thread_start(&db->worker, "strata-work", work_main, db, err);
  if (rc != STRATAKV_OK) db->has_worker = false;
  return rc;
}

void skv_work_stop(skv_db *db) {
  skv_mutex_lock(&db->work_mutex);
  db->stopping = true;
  skv_cond_broadcast(&db->work_cond);
  skv_mutex_unlock(&db->work_mutex);
  if (db->has_worker) skv_thread_join(&db->worker);
  if (db->has_syncer) {
    skv_syncer_wake(db);
    skv_thread_join(&db->syncer);
  }
  db->has_worker = db->has_syncer = false;
  skv_state_bury(db);
  work_drop_log(db);
}
