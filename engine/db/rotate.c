/*
 * Rotation: the active log ends with a SEAL, is synced (L3), and the head
 * names its successor (P8). Called by the leader with WRITE.
 */
#include "engine/db/db.h"
#include "engine/util/point.h"

/* Logs grow from SKV_FIRST_WAL to wal_size by this: what holds little does not
 * pay for writing 64 MiB of zeros. */
#define LOG_GROWTH 4

/* The log files that a retired log may become are those of the size wanted
 * that nobody pins (P1). PRIVATE: a private reader may map any log. Who pins
 * one no more has unmapped it. */
static bool rotate_may_recycle(skv_db *db, uint64_t number) {
  int rc = skv_store_lock(db->store, SKV_LOCK_PRIVATE, SKV_EXCLUSIVE, NULL);
  if (rc != STRATAKV_OK) return false;
  (void)skv_store_lock(db->store, SKV_LOCK_PRIVATE, SKV_UNLOCK, NULL);
  /* Who flushed it may not have come to say so, or have died. */
  skv_say_least(&db->shared->retired_wal, number);
  skv_fence();
  for (uint32_t i = 0; i < SKV_SLOTS; i++) {
    uint64_t pinned = skv_peek(&db->shared->slots[i].pinned_wal);
    if (pinned != 0 && pinned <= number && skv_slot_alive(db, i)) return false;
  }
  return true;
}

typedef struct rotate_forget {
  uint64_t number;
} rotate_forget;

static int rotate_forget_build(void *arg, const skv_version *version,
                               skv_buf *edit, skv_err *err) {
  rotate_forget *forget = arg;
  SKV_UNUSED(err);
  for (size_t i = 0; i < version->retired_count; i++)
    if (version->retired[i] == forget->number)
      skv_edit_forget(edit, forget->number);
  return STRATAKV_OK;
}

/* Take a retired log over: rename it away, then forget it in the head. Under
 * HEAD nobody else takes the same one, and its name is gone at once. */
static int rotate_recycle(skv_db *db, uint64_t size, skv_err *err,
                          skv_log **out, skv_name *name) {
  *out = NULL;
  int rc = skv_head_lock(db, err);
  if (rc != STRATAKV_OK) return rc;
  skv_state *state = skv_state_ref(db);
  uint64_t number = 0;
  for (size_t i = 0; !*out && i < state->version->retired_count; i++) {
    number = state->version->retired[i];
    if (!rotate_may_recycle(db, number)) continue;
    skv_db_next_name(db, name);
    rc = skv_log_recycle(db->store, number, name, err, out);
    if (*out) SKV_POINT("rotate.recycled");
    if (rc == STRATAKV_NOTFOUND) rc = STRATAKV_OK;
    if (rc != STRATAKV_OK) break;
    if (*out && skv_log_size(*out) != size) {
      skv_log_close(*out);
      *out = NULL;
      skv_gc_unnamed(db, name);
    }
  }
  skv_state_unref(state);
  skv_head_unlock(db);
  if (rc == STRATAKV_OK && *out) {
    rotate_forget forget = {number};
    rc = skv_head_edit(db, rotate_forget_build, &forget, err);
    SKV_POINT("rotate.forgotten");
    if (rc != STRATAKV_OK) {
      skv_log_close(*out);
      *out = NULL;
      skv_gc_unnamed(db, name);
    }
  }
  return rc;
}

int skv_log_obtain(skv_db *db, uint64_t size, skv_err *err, skv_log **out,
                   skv_name *name) {
  int rc = rotate_recycle(db, size, err, out, name);
  if (rc != STRATAKV_OK || *out) return rc;
  skv_db_next_name(db, name);
  return skv_log_create(db->store, name, size, err, out);
}

uint64_t skv_next_log_size(const skv_db *db, uint64_t size) {
  uint64_t most = db->options.wal_size;
  return size < most / LOG_GROWTH ? size * LOG_GROWTH : most;
}

/* The log that the worker prepared, if it is large enough; else make one. */
static int rotate_next_log(skv_db *db, uint64_t min_size, skv_err *err,
                           skv_log **out, skv_name *name) {
  uint64_t size = skv_next_log_size(db, skv_log_size(db->active->log));
  if (size < min_size) size = (min_size + 4095) & ~UINT64_C(4095);
  skv_mutex_lock(&db->work_mutex);
  skv_log *log = db->next_log;
  if (log && skv_log_size(log) >= min_size) {
    db->next_log = NULL;
    *name = db->next_log_name;
  } else {
    log = NULL;
  }
  skv_mutex_unlock(&db->work_mutex);
  *out = log;
  if (log) return STRATAKV_OK;
  skv_db_next_name(db, name);
  size = skv_disk_log_size(db, size, min_size);
  return skv_log_create(db->store, name, size, err, out);
}

int skv_rotate_ready(skv_db *db, skv_err *err) {
  skv_log *log;
  skv_name name;
  int rc = rotate_next_log(db, 0, err, &log, &name);
  if (rc != STRATAKV_OK) return rc;
  skv_mutex_lock(&db->work_mutex);
  bool have = db->next_log != NULL; /* the worker made another meanwhile */
  if (!have) {
    db->next_log = log;
    db->next_log_name = name;
  }
  skv_mutex_unlock(&db->work_mutex);
  if (have) {
    skv_log_close(log);
    skv_gc_unnamed(db, &name);
  }
  return rc;
}

typedef struct rotate_turn {
  skv_db *db;
  skv_log *log;
  skv_name name;
  uint64_t start;
  bool used; /* the log has its number */
  skv_edit_build build;
  void *arg;
} rotate_turn;

static int rotate_build(void *arg, const skv_version *version, skv_buf *edit,
                        skv_err *err) {
  rotate_turn *turn = arg;
  skv_db *db = turn->db;
  if (version->wals[version->wal_count - 1].number != db->active->number)
    return STRATAKV_OK; /* done by one who died, and settled just before */
  uint64_t number = version->next_file;
  skv_wal_header header = {
      .number = number, .start = turn->start, .prev = db->place.prev};
  uint8_t bytes[SKV_WAL_HEADER];
  memcpy(header.store_id, db->store_id, 16);
  skv_wal_header_encode(&header, bytes);
  int rc = skv_log_publish(turn->log, number, bytes, sizeof bytes, err);
  if (rc != STRATAKV_OK) return rc;
  turn->used = true;
  SKV_POINT("rotate.named");
  skv_edit_next(edit, number + 1);
  skv_edit_end(edit, db->active->number, turn->start);
  skv_edit_wal(edit, number, turn->start, skv_log_size(turn->log));
  if (!turn->build) return STRATAKV_OK;
  skv_version after = *version;
  after.next_file = number + 1;
  return turn->build(turn->arg, &after, edit, err);
}

/* The newest state's last log is the one to write from here on. */
static void rotate_turn_to_new(skv_db *db) {
  skv_state *state = skv_state_ref(db);
  skv_memlog *log = state->logs[state->log_count - 1];
  uint32_t epoch = db->place.epoch;
  if (log != db->active) {
    skv_wal_place place = {.seed = skv_wal_seed(&log->header),
                           .offset = SKV_WAL_HEADER,
                           .prev = log->header.prev,
                           .epoch = epoch};
    skv_write_adopt_alone(db, log, &place, 0);
  }
  skv_state_unref(state);
}

int skv_rotate(skv_db *db, uint64_t min_size, skv_edit_build build, void *arg,
               skv_err *err) {
  SKV_OPERATION(build ? "ingest" : "seal");
  rotate_turn turn = {.db = db, .build = build, .arg = arg};
  uint64_t ignored;
  /* The successor first: what fails for want of space fails before SEAL. */
  int rc = rotate_next_log(db, min_size, err, &turn.log, &turn.name);
  if (rc != STRATAKV_OK) return rc;
  SKV_POINT("rotate.log_ready");
  if (db->last_type != SKV_RECORD_SEAL)
    rc = skv_append(db, SKV_RECORD_SEAL, skv_slice_of(NULL, 0), 0, true, err,
                    &ignored);
  if (rc == STRATAKV_OK) SKV_POINT("rotate.sealed");
  if (rc == STRATAKV_OK) rc = skv_append_sync(db, err); /* L3 */
  if (rc == STRATAKV_OK) {
    SKV_POINT("rotate.synced");
    /* P2: a flush takes only what is visible. P5: INGEST is not yet. */
    if (!build) skv_append_publish(db);
    turn.start = skv_peek(&db->shared->tail);
    rc = skv_head_edit(db, rotate_build, &turn, err);
  }
  skv_log_close(turn.log);
  if (rc != STRATAKV_OK || !turn.used) skv_gc_unnamed(db, &turn.name);
  if (rc != STRATAKV_OK) return rc;
  SKV_POINT("rotate.edited");
  rotate_turn_to_new(db);
  skv_poke(&db->shared->wal_entries, 0);
  SKV_POINT("rotate.turned");
  skv_append_publish(db);
  skv_work_ask(db);
  return STRATAKV_OK;
}
