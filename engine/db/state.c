/*
 * States, views and logs: what readers hold.
 *
 * A state is a version with this process's indexes over its unflushed logs.
 * It is immutable and counted; a cursor or snapshot that holds one keeps the
 * files of its moment, whatever flush, compaction and gc do (P1, P2).
 */
#include <stdlib.h>

#include "engine/db/db.h"
#include "engine/util/point.h"

#ifdef SKV_TEST
const skv_say_hook *skv_say_hooked;
#endif

/* ---- Logs -------------------------------------------------------------- */

skv_memlog *skv_memlog_ref(skv_memlog *log) {
  atomic_fetch_add_explicit(&log->refs, 1, memory_order_relaxed);
  return log;
}

/* A store into the shared page may wait for the file system (the page was just
 * written back): not with state_mutex, which every reader takes. */
void skv_pin_update(skv_db *db) {
  if (db->is_private) return;
  skv_mutex_lock(&db->pin_mutex);
  skv_mutex_lock(&db->state_mutex);
  uint64_t oldest = db->opening;
  for (skv_memlog *log = db->logs; log; log = log->next)
    if (oldest == 0 || log->number < oldest) oldest = log->number;
  skv_mutex_unlock(&db->state_mutex);
  SKV_POINT("state.pin_known");
  skv_say(&db->shared->slots[db->slot].pinned_wal, oldest);
  skv_mutex_unlock(&db->pin_mutex);
}

static void memlog_free(skv_memlog *log) {
  skv_mem_unref(log->mem);
  skv_log_close(log->log);
  skv_free(log);
}

void skv_memlog_unref(skv_memlog *log) {
  if (!log) return;
  skv_db *db = log->db;
  /* The list does not count: the last reference leaves under its mutex. */
  skv_mutex_lock(&db->state_mutex);
  bool last =
      atomic_fetch_sub_explicit(&log->refs, 1, memory_order_relaxed) == 1;
  if (last) {
    skv_memlog **at = &db->logs;
    while (*at != log) at = &(*at)->next;
    *at = log->next;
  }
  skv_mutex_unlock(&db->state_mutex);
  if (!last) return;
  memlog_free(log);
  skv_pin_update(db);
}

uint64_t skv_memlog_limit(const skv_memlog *log, uint64_t lsn) {
  uint64_t end = skv_peek(&log->end);
  if (end != 0 && lsn > end) lsn = end;
  uint64_t size = skv_log_size(log->log);
  if (lsn <= log->start) return SKV_WAL_HEADER;
  if (lsn - log->start > size - SKV_WAL_HEADER) return size;
  return skv_wal_offset(log->start, lsn);
}

/* Map log `info`. P1: the pin comes first, and holds if the log is not retired
 * after it was published. */
static int memlog_open(skv_db *db, const skv_wal_info *info, skv_err *err,
                       skv_memlog **out) {
  *out = NULL;
  SKV_POINT("state.log_named");
  skv_mutex_lock(&db->state_mutex);
  db->opening = info->number;
  skv_mutex_unlock(&db->state_mutex);
  skv_pin_update(db);
  SKV_POINT("state.log_pinned");
  skv_fence();
  if (!db->is_private && skv_peek(&db->shared->retired_wal) >= info->number)
    return STRATAKV_NOTFOUND;
  int rc = STRATAKV_OK;
  char name[SKV_NAME_SIZE];
  skv_name wal = {SKV_NAME_WAL, info->number, 0, 0};
  skv_name_format(&wal, name);
  skv_memlog *log = skv_new(sizeof *log, &rc);
  if (rc != STRATAKV_OK) return skv_error_nomem(err);
  atomic_init(&log->refs, 1);
  log->db = db;
  log->number = info->number;
  log->start = info->start;
  atomic_init(&log->end, info->end);
  rc = skv_log_open(db->store, info->number, !db->is_private, err, &log->log);
  if (rc != STRATAKV_OK) goto out;
  SKV_POINT("state.log_mapped");
  rc = skv_wal_header_decode(skv_log_bytes(log->log), skv_log_size(log->log),
                             name, err, &log->header);
  if (rc != STRATAKV_OK) goto out;
  if (log->header.number != info->number || log->header.start != info->start ||
      memcmp(log->header.store_id, db->store_id, 16) != 0 ||
      skv_log_size(log->log) != info->size) {
    rc = skv_error_corrupt(err, name, 0, "header is of another log");
    goto out;
  }
  rc = skv_mem_new_log(skv_log_bytes(log->log), skv_log_size(log->log),
                       &log->header, name, err, &log->mem);
out:
  if (rc != STRATAKV_OK) {
    memlog_free(log);
    return rc;
  }
  *out = log;
  return rc;
}

/* The log of `info`: the one we have, or opened. head_mutex held. */
static int memlog_get(skv_db *db, const skv_wal_info *info, skv_err *err,
                      skv_memlog **out) {
  skv_mutex_lock(&db->state_mutex);
  skv_memlog *log = db->logs;
  while (log && log->number != info->number) log = log->next;
  if (log) {
    skv_memlog_ref(log);
    if (info->end != 0) skv_poke(&log->end, info->end);
  }
  skv_mutex_unlock(&db->state_mutex);
  *out = log;
  if (log) return STRATAKV_OK;
  int rc = memlog_open(db, info, err, out);
  skv_mutex_lock(&db->state_mutex);
  if (rc == STRATAKV_OK) {
    (*out)->next = db->logs;
    db->logs = *out;
  }
  db->opening = 0;
  skv_mutex_unlock(&db->state_mutex);
  skv_pin_update(db);
  return rc;
}

/* ---- States ------------------------------------------------------------ */

static uint64_t source_place(const skv_source *source) {
  return source->log ? source->log->start : source->run->id;
}

/* INV-5: descending LSN; a log and an ingested run never begin alike. */
static int source_compare(const void *a, const void *b) {
  uint64_t x = source_place(a), y = source_place(b);
  return x < y ? 1 : x > y ? -1 : 0;
}

static int state_sources(skv_state *state, skv_err *err) {
  skv_version *version = state->version;
  size_t most = state->log_count + version->run_count + SKV_LEVELS;
  state->sources = skv_calloc(most, sizeof *state->sources);
  if (!state->sources) return skv_error_nomem(err);
  size_t n = 0;
  for (size_t i = 0; i < state->log_count; i++)
    state->sources[n++].log = state->logs[i];
  for (size_t i = 0; i < version->run_count; i++)
    state->sources[n++].run = &version->runs[i];
  qsort(state->sources, n, sizeof *state->sources, source_compare);
  for (size_t i = 1; i < SKV_LEVELS; i++)
    if (version->levels[i].count > 0)
      state->sources[n++].run = &version->levels[i];
  state->source_count = n;
  return STRATAKV_OK;
}

static void state_free(skv_state *state) {
  for (size_t i = 0; i < state->log_count; i++)
    skv_memlog_unref(state->logs[i]);
  skv_free(state->logs);
  skv_free(state->sources);
  skv_state_unref(state->named);
  skv_version_unref(state->version);
  skv_free(state);
}

skv_state *skv_state_share(skv_state *state) {
  atomic_fetch_add_explicit(&state->refs, 1, memory_order_relaxed);
  return state;
}

/* Freeing a state may unmap files that are unlinked already, and the file
 * system then frees their blocks, with discards, for long: that is for the
 * worker, not for the reader who happened to be last, unless the space is
 * wanted. */
void skv_state_unref(skv_state *state) {
  if (!state ||
      atomic_fetch_sub_explicit(&state->refs, 1, memory_order_acq_rel) != 1)
    return;
  skv_db *db = state->db;
  if (!db->has_worker || skv_peek(&db->shared->disk_low)) {
    state_free(state);
    return;
  }
  skv_mutex_lock(&db->state_mutex);
  state->next_dead = db->dead;
  db->dead = state;
  skv_mutex_unlock(&db->state_mutex);
  skv_work_ask(db);
}

void skv_state_bury(skv_db *db) {
  skv_mutex_lock(&db->state_mutex);
  skv_state *state = db->dead;
  db->dead = NULL;
  skv_mutex_unlock(&db->state_mutex);
  while (state) {
    skv_state *next = state->next_dead;
    state_free(state);
    state = next;
  }
}

int skv_state_make(skv_db *db, skv_version *version, skv_err *err,
                   skv_state **out) {
  int rc = STRATAKV_OK;
  skv_state *state = skv_new(sizeof *state, &rc);
  *out = NULL;
  if (rc != STRATAKV_OK) {
    skv_version_unref(version);
    return skv_error_nomem(err);
  }
  atomic_init(&state->refs, 1);
  state->db = db;
  state->version = version;
  state->logs = skv_calloc(version->wal_count + 1, sizeof *state->logs);
  if (!state->logs) rc = skv_error_nomem(err);
  for (size_t i = 0; rc == STRATAKV_OK && i < version->wal_count; i++) {
    rc = memlog_get(db, &version->wals[i], err, &state->logs[i]);
    if (rc == STRATAKV_OK) state->log_count = i + 1;
  }
  if (rc == STRATAKV_OK) rc = state_sources(state, err);
  if (rc != STRATAKV_OK) {
    state_free(state);
    return rc;
  }
  *out = state;
  return STRATAKV_OK;
}

void skv_state_publish(skv_db *db, skv_state *state) {
  skv_mutex_lock(&db->state_mutex);
  skv_state *old = db->state;
  db->state = state;
  skv_mutex_unlock(&db->state_mutex);
  const skv_version *version = state->version;
  size_t tables = version->table_count;
  if (tables > 0) skv_poke(&db->last_table, version->tables[tables - 1].id);
  skv_poke(&db->adopted, version->pos);
  skv_state_unref(old);
  skv_ingest_forget(db);
}

int skv_state_install(skv_db *db, skv_version *version, skv_err *err) {
  skv_state *state;
  int rc = skv_state_make(db, version, err, &state);
  if (rc == STRATAKV_OK) skv_state_publish(db, state);
  return rc;
}

skv_state *skv_state_ref(skv_db *db) {
  skv_mutex_lock(&db->state_mutex);
  skv_state *state = skv_state_share(db->state);
  skv_mutex_unlock(&db->state_mutex);
  return state;
}

/* ---- Views ------------------------------------------------------------- */

/* Visible, checked against what the version says is possible: the shared page
 * is untrusted. Everything below the active log was decided and durable before
 * the head named that log, though `visible` may be raised a moment later. */
static int view_check(const skv_state *state, uint64_t *visible, skv_err *err) {
  const skv_memlog *last = state->logs[state->log_count - 1];
  uint64_t size = skv_log_size(last->log), lsn = *visible;
  if (lsn < last->start) *visible = lsn = last->start;
  if (lsn - last->start <= size - SKV_WAL_HEADER && lsn % 8 == 0)
    return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_CORRUPT,
                   "SHARED: visible LSN %llu is outside the active log",
                   (unsigned long long)lsn);
}

/* P2 holds as for files that the head names: they go only once a newer head
 * has named and then dropped them. */
static int view_add_ingest(skv_db *db, uint64_t lsn, skv_err *err,
                           skv_state **state) {
  skv_state *with;
  int rc = skv_ingest_state(db, *state, lsn, err, &with);
  if (rc == STRATAKV_NOTFOUND &&
      skv_peek(&db->shared->head) <= (*state)->version->pos)
    return SKV_ERROR(err, STRATAKV_CORRUPT,
                     "a segment of the INGEST at LSN %llu is missing",
                     (unsigned long long)lsn);
  if (rc != STRATAKV_OK) return rc;
  skv_state_unref(*state);
  *state = with;
  return rc;
}

/* The load of visible stands between the state and the second look at head: it
 * comes after state_mutex, whose last owner had seen the head of that state,
 * and acquires. The first look only spares a round. */
int skv_view_take(skv_db *db, skv_err *err, skv_view *out) {
  if (skv_peek(&db->shared->fence)) skv_write_doubt(db); /* P12 */
  for (;;) {
    skv_head_pos head = skv_peek(&db->shared->head);
    skv_state *state = skv_state_ref(db);
    SKV_POINT("view.head_read");
    if (state->version->pos < head) {
      skv_state_unref(state);
      int rc = skv_head_follow(db, err);
      if (rc != STRATAKV_OK) return rc;
      continue;
    }
    uint64_t lsn = skv_load(&db->shared->visible);
    SKV_POINT("view.visible_read");
    uint64_t ingest = skv_ingest_unnamed(db, state);
    if (skv_peek(&db->shared->head) <= state->version->pos) { /* P2 */
      int rc = view_check(state, &lsn, err);
      if (rc == STRATAKV_OK && ingest != 0 && ingest < lsn)
        rc = view_add_ingest(db, ingest, err, &state);
      if (rc == STRATAKV_OK) {
        out->state = state;
        out->lsn = lsn;
        return rc;
      }
      if (rc != STRATAKV_NOTFOUND) {
        skv_state_unref(state);
        return rc;
      }
    }
    skv_state_unref(state);
  }
}

void skv_view_release(skv_view *view) {
  skv_state_unref(view->state);
  view->state = NULL;
}
