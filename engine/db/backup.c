/*
 * Backup: a copy of the store as of one view, in a directory of its own.
 *
 * HOW  The view pins its files. Each segment is linked, or copied, under its
 *   number; each unflushed log becomes a run at level 0 as a flush would make
 *   it, with the log's start as its id (INV-5 holds as in the version); an
 *   empty log begins at the view's LSN (P10). One edit says all that, with a
 *   clean mark, under a new store id.
 *
 * The copy's own making stands in target.h.
 */
#include "engine/db/handle.h"
#include "engine/db/target.h"
#include "engine/db/watch.h"
#include "engine/util/point.h"

#define BACKUP_COPY (256u << 10) /* bytes copied at a time */

typedef struct backup {
  skv_target target; /* the copy; first, for the job's functions */
  skv_db *db;
  skv_view view;
  skv_watcher watcher;
  bool can_link; /* as far as is known */
  size_t linked; /* segments of the version that are there */
} backup;

/* ---- Segments ------------------------------------------------------------ */

/* Link a segment by its name. NOTFOUND: gc was quicker; CANTOPEN: no links
 * here. */
static int backup_link(backup *b, const skv_segref *ref, skv_err *err) {
  skv_name name = {.kind = SKV_NAME_SEG, .number = ref->number};
  char text[SKV_NAME_SIZE];
  skv_in *in = NULL;
  skv_name_format(&name, text);
  int rc = b->db->env->dir_link(skv_store_dir(b->db->store), text,
                                skv_store_dir(b->target.store), text, err);
  if (rc != STRATAKV_OK) return rc;
  b->linked++;
  rc = skv_in_open(b->target.store, ref->number, NULL, ref->meta.size, false,
                   err, &in);
  skv_in_close(in);
  if (rc != STRATAKV_OK) return rc;
  return skv_watcher_step(&b->watcher, ref->meta.size, err);
}

static int backup_copy_bytes(backup *b, skv_in *in, skv_out *out,
                             skv_err *err) {
  uint64_t size = skv_in_size(in);
  uint8_t *bytes = skv_malloc(BACKUP_COPY);
  if (!bytes) return skv_error_nomem(err);
  int rc = STRATAKV_OK;
  for (uint64_t at = 0; rc == STRATAKV_OK && at < size; at += BACKUP_COPY) {
    size_t n = size - at < BACKUP_COPY ? (size_t)(size - at) : BACKUP_COPY;
    rc = skv_in_read(in, at, bytes, n, err);
    if (rc == STRATAKV_OK) rc = skv_out_append(out, bytes, n, err);
    if (rc == STRATAKV_OK) rc = skv_watcher_step(&b->watcher, n, err);
  }
  skv_free(bytes);
  return rc == STRATAKV_OK ? skv_out_sync(out, err) : rc;
}

/* By pread if the name is there still, else from what the view holds open. */
static int backup_copy(backup *b, skv_segref *ref, skv_err *err) {
  skv_in *own = NULL;
  skv_out *out = NULL;
  skv_name tmp;
  (void)skv_in_open(b->db->store, ref->number, NULL, ref->meta.size, false,
                    NULL, &own);
  skv_in *in = own ? own : skv_segref_in(ref);
  skv_target_next_name(&b->target, &tmp);
  int rc = skv_out_create(b->target.store, &tmp, err, &out);
  if (rc == STRATAKV_OK) rc = backup_copy_bytes(b, in, out, err);
  skv_out_close(out);
  skv_in_close(own);
  if (rc == STRATAKV_OK)
    rc = skv_seg_name(b->target.store, &tmp, ref->number, err);
  if (rc == STRATAKV_OK) b->linked++;
  return rc;
}

static int backup_segments(backup *b, skv_err *err) {
  size_t count;
  skv_segref *const *segs = skv_version_segs(b->view.state->version, &count);
  int rc = skv_watcher_step(&b->watcher, 0, err);
  for (size_t i = 0; rc == STRATAKV_OK && i < count; i++) {
    rc = b->can_link ? backup_link(b, segs[i], err) : STRATAKV_CANTOPEN;
    if (rc == STRATAKV_CANTOPEN && b->linked == i) b->can_link = false;
    if ((rc == STRATAKV_CANTOPEN || rc == STRATAKV_NOTFOUND) && b->linked == i)
      rc = backup_copy(b, segs[i], err);
    if (rc == STRATAKV_OK)
      skv_edit_seg(&b->target.edit, segs[i]->number, segs[i]->level,
                   segs[i]->run, segs[i]->ingest_lsn, &segs[i]->meta,
                   segs[i]->trim);
    SKV_POINT("backup.linked");
  }
  return rc;
}

/* ---- Logs ---------------------------------------------------------------- */

static int backup_yield(void *arg) {
  backup *b = arg;
  return skv_watcher_step(&b->watcher, 1u << 20, NULL) != STRATAKV_OK;
}

/* What of a log the view sees, as a run of its own. */
static int backup_log(backup *b, skv_memlog *log, skv_err *err) {
  skv_products products = {0};
  skv_iter *it = NULL;
  skv_job job;
  uint64_t limit = skv_memlog_limit(log, b->view.lsn);
  if (limit <= SKV_WAL_HEADER) return STRATAKV_OK;
  skv_job_init(b->db, &job);
  job.tree = &b->target.tree;
  job.next_name = skv_target_next_name;
  job.discard = skv_target_discard;
  job.yield = backup_yield;
  job.arg = b;
  int rc = skv_mem_iter_new(log->mem, limit, err, &it);
  /* Tombstones stay: they hide what is in the linked segments. */
  if (rc == STRATAKV_OK) rc = skv_produce(&job, it, false, err, &products);
  skv_iter_close(it);
  if (rc == STRATAKV_OK)
    rc = skv_target_name(&b->target, &products, 0, log->start, err);
  skv_products_clear(&products);
  SKV_POINT("backup.flushed");
  return rc;
}

/* ---- All of it ----------------------------------------------------------- */

static uint64_t backup_total(const backup *b) {
  const skv_version *version = b->view.state->version;
  uint64_t total = 0;
  for (unsigned level = 0; level < SKV_LEVELS; level++)
    total += skv_version_level_bytes(version, level);
  for (size_t i = 0; i < b->view.state->log_count; i++)
    total += skv_memlog_limit(b->view.state->logs[i], b->view.lsn);
  return total;
}

static int backup_fill(backup *b, skv_err *err) {
  skv_state *state = b->view.state;
  const skv_version *version = state->version;
  uint64_t wal_size = b->db->options.wal_size;
  if (wal_size > SKV_FIRST_WAL) wal_size = SKV_FIRST_WAL;
  b->can_link = skv_store_env(b->target.store) == b->db->env;
  b->watcher.total = backup_total(b);
  for (size_t i = 0; i < version->table_count; i++)
    skv_edit_table(&b->target.edit, &version->tables[i]);
  int rc = backup_segments(b, err);
  for (size_t i = 0; rc == STRATAKV_OK && i < state->log_count; i++)
    rc = backup_log(b, state->logs[i], err);
  if (rc == STRATAKV_OK) rc = skv_watcher_step(&b->watcher, 0, err);
  if (rc != STRATAKV_OK) return rc;
  return skv_target_finish(&b->target, b->view.lsn, wal_size, err);
}

static void backup_undo(backup *b) {
  size_t count;
  skv_segref *const *segs = skv_version_segs(b->view.state->version, &count);
  skv_target_undo_head(&b->target);
  for (size_t i = 0; i < b->linked; i++) {
    skv_name name = {.kind = SKV_NAME_SEG, .number = segs[i]->number};
    (void)skv_store_remove(b->target.store, &name, NULL);
  }
  skv_target_undo_files(&b->target);
}

int stratakv_backup(stratakv_store *store, const char *base, const char *path,
                    const stratakv_watch *watch, stratakv_error *err,
                    uint64_t *lsn) {
  backup b = {0};
  if (lsn) *lsn = 0;
  int rc = skv_handle_check(store, err);
  if (rc != STRATAKV_OK) return rc;
  if (!path || !*path) return SKV_ERROR(err, STRATAKV_ERROR, "no path");
  b.db = store->db;
  skv_watcher_init(&b.watcher, watch);
  /* A :memory: store is copied into the real file system. */
  skv_env *env = b.db->env_owned ? skv_env_posix() : b.db->env;
  rc = skv_view_take(b.db, err, &b.view);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_target_open(env, base, path, b.db->store,
                       b.view.state->version->next_file, err, &b.target);
  if (rc == STRATAKV_OK) {
    rc = backup_fill(&b, err);
    if (rc == STRATAKV_OK && lsn) *lsn = b.view.lsn;
    if (rc == STRATAKV_OK) skv_watcher_end(&b.watcher);
    if (rc != STRATAKV_OK) backup_undo(&b);
    skv_target_close(&b.target);
  }
  skv_view_release(&b.view);
  return rc;
}
