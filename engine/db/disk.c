/*
 * The disk reserve: space that is left for what makes the store smaller.
 *
 * PURPOSE  A full disk must not lock its owner in. Commits that put something,
 *   and spills, are refused with FULL while the file system has less free than
 *   the reserve and what a flush of the unflushed logs may take; deletes,
 *   rollback, flush, compaction and gc go on below that.
 *
 * SIZE  Four segments, or a sixteenth of the file system (512 KiB at least), of
 *   which a segment is then a quarter. A merge gives a segment back when it is
 *   consumed; when space is short it takes two runs, the oldest and what is
 *   below, and ends a slice where a segment ends: then two segments are the
 *   most that is there twice. One that began with more space ends its slice
 *   when that is gone.
 *   The other half is for the logs of deletes, DISK_LOG_LEAST each, which wait
 *   when a log would touch the merge's half or what a flush takes; for the
 *   manifest, and what the file system rounds up. A log is less than half of
 *   what is spare, so that a flush of it fits beside it; flushed ones are not
 *   kept while space is short.
 *
 * WHEN  Free space is asked for when a log ends, when a transaction spills and
 *   before and within a slice of a compaction, not at each commit: until its
 *   log is full a commit takes no space. What is found too little is said in the
 *   shared page, and from then on every commit that puts something looks
 *   again, so that writing resumes by itself.
 *
 * NOT HERE  Space that is promised: another program may take the reserve too.
 *   What then fails leaves things as they were (INV-10).
 */
#include <inttypes.h>

#include "engine/db/db.h"
#include "engine/wal/batch.h"

#define DISK_SHARE 16              /* of the file system, at most */
#define DISK_LOG_LEAST (64u << 10) /* a log made while space is short */
#define DISK_RESERVE_LEAST (8 * DISK_LOG_LEAST)
#define DISK_POLL_NS 1000000u

static uint64_t disk_reserve(const skv_db *db) {
  uint64_t share = skv_store_info(db->store)->fs_bytes / DISK_SHARE;
  if (share == 0 || share > SKV_DISK_RESERVE) return SKV_DISK_RESERVE;
  return share < DISK_RESERVE_LEAST ? DISK_RESERVE_LEAST : share;
}

/* Bytes that flushing the largest unflushed log may take; the others' are
 * given back by the flush before. */
static uint64_t disk_unflushed(skv_db *db) {
  uint64_t most = 0;
  uint64_t tail = skv_peek(&db->shared->tail);
  skv_mutex_lock(&db->state_mutex);
  const skv_state *state = db->state;
  for (size_t i = 0; state != NULL && i < state->log_count; i++) {
    uint64_t used = skv_memlog_limit(state->logs[i], tail);
    if (used > most) most = used;
  }
  skv_mutex_unlock(&db->state_mutex);
  return most + most / 16; /* a segment has an index and a filter */
}

/* Free bytes beyond `kept`; if nobody knows, plenty. */
static uint64_t disk_beyond(skv_db *db, uint64_t kept) {
  uint64_t free_bytes = 0;
  if (skv_store_free_space(db->store, NULL, &free_bytes) != STRATAKV_OK)
    return UINT64_MAX;
  return free_bytes > kept ? free_bytes - kept : 0;
}

uint64_t skv_disk_spare(skv_db *db) {
  return disk_beyond(db, disk_reserve(db) + disk_unflushed(db));
}

/* What deletes leave untouched: what a flush, its new log and a merge take. */
static uint64_t disk_work(skv_db *db) {
  return disk_reserve(db) / 2 + disk_unflushed(db) + DISK_LOG_LEAST;
}

/* Whether there is no space for another log of deletes. */
static bool disk_is_starved(skv_db *db) {
  return disk_beyond(db, disk_work(db)) < DISK_LOG_LEAST;
}

uint64_t skv_disk_segment_bytes(const skv_db *db, uint64_t wanted) {
  uint64_t reserve = disk_reserve(db);
  uint64_t most = reserve / 4 > DISK_LOG_LEAST ? reserve / 4 : DISK_LOG_LEAST;
  return wanted > most ? most : wanted;
}

/* Whether bytes more would touch the reserve; noted for all processes. */
static bool disk_is_low(skv_db *db, uint64_t bytes) {
  uint64_t spare = skv_disk_spare(db);
  bool is_low = spare < bytes || spare < DISK_LOG_LEAST;
  if (is_low != (skv_peek(&db->shared->disk_low) != 0)) {
    skv_poke(&db->shared->disk_low, is_low);
    skv_state_bury(db);
    skv_work_ask(db); /* it may have something to give back */
  }
  return is_low;
}

int skv_disk_admit(skv_db *db, uint64_t bytes, skv_err *err) {
  if (!disk_is_low(db, bytes)) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_FULL,
                   "disk full: %" PRIu64 " KiB are free, and the last %" PRIu64
                   " KiB are kept for deletes and compaction",
                   disk_beyond(db, 0) / 1024,
                   (disk_reserve(db) + disk_unflushed(db)) / 1024);
}

void skv_disk_note(skv_db *db, int rc) {
  if (rc == STRATAKV_FULL) skv_poke(&db->shared->disk_low, 1);
  if (rc == STRATAKV_FULL) atomic_fetch_add(&db->flush_full, 1);
}

int skv_disk_stuck(skv_db *db, uint64_t before, skv_err *err) {
  if (atomic_load(&db->flush_full) == before) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_FULL,
                   "disk full: %" PRIu64 " KiB are free, too little to flush "
                   "the logs",
                   disk_beyond(db, 0) / 1024);
}

/* Whether a record of that type puts nothing. */
static bool disk_only_deletes(uint8_t type, skv_slice batch) {
  const uint8_t *p = batch.data, *end = batch.data + batch.size;
  if (type != SKV_RECORD_COMMIT && type != SKV_RECORD_PREPARE) return false;
  while (p < end) {
    skv_entry entry;
    p = skv_entry_get(p, end, &entry, NULL);
    if (p == NULL || entry.kind != SKV_KIND_DELETE) return false;
  }
  return true;
}

int skv_disk_admit_record(skv_db *db, uint8_t type, skv_slice payload,
                          bool needs_log, skv_err *err) {
  if (!disk_only_deletes(type, payload))
    return skv_disk_admit(db, payload.size, err);
  if (!disk_is_low(db, payload.size) || !needs_log || !disk_is_starved(db))
    return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_FULL,
                   "disk full: %" PRIu64 " KiB are free, which flush and "
                   "compaction may need",
                   disk_beyond(db, 0) / 1024);
}

void skv_disk_wait(skv_db *db, uint8_t type, skv_slice payload,
                   uint64_t deadline) {
  if (!skv_peek(&db->shared->disk_low) || !disk_only_deletes(type, payload))
    return;
  uint64_t full = atomic_load(&db->flush_full);
  uint64_t idle = atomic_load(&db->idle_rounds);
  atomic_fetch_add(&db->starving, 1);
  while (disk_is_starved(db) && db->env->now(db->env) < deadline) {
    skv_work_ask(db);
    if (!db->has_worker) {
      skv_work_inline(db);
      break;
    }
    /* The second one began after the first look above. */
    if (atomic_load(&db->idle_rounds) - idle >= 2) break;
    if (atomic_load(&db->flush_full) != full) break;
    db->env->sleep(db->env, DISK_POLL_NS);
  }
  atomic_fetch_sub(&db->starving, 1);
}

uint64_t skv_disk_log_size(skv_db *db, uint64_t wanted, uint64_t least) {
  uint64_t spare = skv_disk_spare(db);
  uint64_t half = spare / 2 - spare / 32; /* the rest is for a flush of it */
  if (least < DISK_LOG_LEAST) least = DISK_LOG_LEAST;
  uint64_t size = half < least ? least : half;
  if (size > wanted) size = wanted;
  return (size + 4095) & ~UINT64_C(4095);
}

bool skv_disk_holds(skv_db *db, const skv_plan *plan) {
  if (plan->count == 0) return true;
  return disk_beyond(db, disk_work(db)) >= skv_plan_space(plan);
}

/* Others took the space that the slice began with. */
static bool disk_is_gone(void *arg) {
  skv_db *db = arg;
  return skv_disk_spare(db) == 0;
}

/* A plan that takes more than half of what is free ends its slices where an
 * input ends. One that takes more than all of it may come through even so, by
 * what it drops, if it writes little at a time. */
void skv_disk_fit(skv_db *db, const skv_plan *plan, skv_job *job) {
  uint64_t free_bytes = disk_beyond(db, 0), space = skv_plan_space(plan);
  job->is_tight = space > free_bytes / 2 || SKV_SLICE_BYTES > free_bytes / 2;
  if (skv_disk_spare(db) > 0) job->is_short = disk_is_gone;
  if (space <= free_bytes) return;
  job->slice_bytes = free_bytes / 2;
  if (job->slice_bytes < DISK_LOG_LEAST) job->slice_bytes = DISK_LOG_LEAST;
}

bool skv_disk_keeps_log(skv_db *db) {
  return skv_disk_spare(db) >= db->options.wal_size;
}
