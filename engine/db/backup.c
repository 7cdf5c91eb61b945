/*
 * Backup: a copy of the store as of one view, in a directory of its own.
 *
 * HOW  The view pins its files. Each segment is linked, or copied, under its
 *   number; each unflushed log becomes a run at level 0 as a flush would make
 *   it, with the log's start as its id (INV-5 holds as in the version); an
 *   empty log begins at the view's LSN (P10). One edit says all that, with a
 *   clean mark, under a new store id.
 *
 * ORDER  CURRENT comes last, when everything that it leads to is durable, so
 *   what a dead backup leaves is no store: without CURRENT a directory with
 *   segments is refused. Whoever fails removes what was made, CURRENT first.
 *
 * ALONE  The directory is empty, and its LOCK is held: another backup into it,
 *   and who would create a store there, wait or fail.
 */
#include "engine/db/handle.h"
#include "engine/db/watch.h"
#include "engine/util/point.h"

#define BACKUP_COPY (256u << 10) /* bytes copied at a time */
#define BACKUP_MANIFEST 1

typedef struct backup {
  skv_db *db;
  skv_view view;
  skv_watcher watcher;
  skv_store *store; /* the copy */
  skv_tree tree;    /* writes into it */
  uint8_t store_id[16];
  bool can_link; /* as far as is known */
  bool made_dir;
  bool shares_lock;    /* another process holds LOCK */
  bool claimed;        /* LOCK is held: there may be files to remove */
  size_t linked;       /* segments of the version that are there */
  uint64_t first_file; /* numbers from here to next_file are ours */
  uint64_t next_file;
  uint64_t tmp_count;
  skv_buf edit; /* what the copy's manifest says */
} backup;

/* ---- The directory ------------------------------------------------------- */

static int backup_open(skv_env *env, const char *base, const char *path,
                       skv_err *err, backup *b) {
  /* CREATE in any case: the directory above is then synced. */
  int flags = SKV_DIR_CREATE;
  if (base && path[0] != '/') flags |= SKV_DIR_BENEATH;
  int rc = skv_store_open(env, base, path, flags | SKV_DIR_EXCLUSIVE, err,
                          &b->store);
  b->made_dir = rc == STRATAKV_OK;
  if (rc == STRATAKV_CONSTRAINT)
    rc = skv_store_open(env, base, path, flags, err, &b->store);
  return rc;
}

static bool backup_is_within(const backup *b) {
  const char *store = skv_store_info(b->db->store)->path;
  const char *copy = skv_store_info(b->store)->path;
  size_t n = strlen(store);
  return skv_store_env(b->store) == b->db->env && /* else another world */
         strncmp(store, copy, n) == 0 && (copy[n] == '/' || copy[n] == 0);
}

/* Anything but LOCK, which one that failed may have left. */
static int backup_look(void *arg, const char *name) {
  bool *is_empty = arg;
  if (strcmp(name, "LOCK") != 0) *is_empty = false;
  return 0;
}

static int backup_refuse(const backup *b, const char *why, skv_err *err) {
  return SKV_ERROR(err, STRATAKV_CANTOPEN, "\"%s\" %s",
                   skv_store_info(b->store)->path, why);
}

static int backup_check_empty(const backup *b, skv_err *err) {
  skv_dir *dir = skv_store_dir(b->store);
  bool is_empty = true;
  int rc = dir->env->dir_list(dir, backup_look, &is_empty, err);
  if (rc != STRATAKV_OK || is_empty) return rc;
  return backup_refuse(b, "is not empty", err);
}

/* Empty, and ours. Looked at before LOCK is made, too: what is foreign is not
 * touched. */
static int backup_claim(backup *b, skv_err *err) {
  int rc = backup_check_empty(b, err);
  if (rc == STRATAKV_OK) rc = skv_store_lock_open(b->store, true, err);
  if (rc == STRATAKV_OK)
    rc = skv_store_lock(b->store, SKV_LOCK_ATTACH, SKV_EXCLUSIVE, err);
  if (rc == STRATAKV_OK)
    rc = skv_store_lock(b->store, SKV_LOCK_ALIVE, SKV_EXCLUSIVE, err);
  b->shares_lock = rc == STRATAKV_BUSY;
  if (b->shares_lock)
    return backup_refuse(b, "is being used by another process", err);
  if (rc == STRATAKV_OK) rc = backup_check_empty(b, err);
  b->claimed = rc == STRATAKV_OK;
  SKV_POINT("backup.claimed");
  return rc;
}

/* ---- Segments ------------------------------------------------------------ */

static void backup_next_name(void *arg, skv_name *out) {
  backup *b = arg;
  *out = (skv_name){SKV_NAME_TMP, b->tmp_count++, 0, 0};
}

/* Link a segment by its name. NOTFOUND: gc was quicker; CANTOPEN: no links
 * here. */
static int backup_link(backup *b, const skv_segref *ref, skv_err *err) {
  skv_name name = {.kind = SKV_NAME_SEG, .number = ref->number};
  char text[SKV_NAME_SIZE];
  skv_in *in = NULL;
  skv_name_format(&name, text);
  int rc = b->db->env->dir_link(skv_store_dir(b->db->store), text,
                                skv_store_dir(b->store), text, err);
  if (rc != STRATAKV_OK) return rc;
  b->linked++;
  rc =
      skv_in_open(b->store, ref->number, NULL, ref->meta.size, false, err, &in);
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
  backup_next_name(b, &tmp);
  int rc = skv_out_create(b->store, &tmp, err, &out);
  if (rc == STRATAKV_OK) rc = backup_copy_bytes(b, in, out, err);
  skv_out_close(out);
  skv_in_close(own);
  if (rc == STRATAKV_OK) rc = skv_seg_name(b->store, &tmp, ref->number, err);
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
      skv_edit_seg(&b->edit, segs[i]->number, segs[i]->level, segs[i]->run,
                   segs[i]->ingest_lsn, &segs[i]->meta, segs[i]->trim);
    SKV_POINT("backup.linked");
  }
  return rc;
}

/* ---- Logs ---------------------------------------------------------------- */

static void backup_discard(void *arg, const skv_name *tmp) {
  backup *b = arg;
  (void)skv_store_remove(b->store, tmp, NULL);
}

static int backup_yield(void *arg) {
  backup *b = arg;
  return skv_watcher_step(&b->watcher, 1u << 20, NULL) != STRATAKV_OK;
}

static int backup_name(backup *b, skv_products *products, uint64_t run,
                       skv_err *err) {
  int rc = STRATAKV_OK;
  for (size_t i = 0; rc == STRATAKV_OK && i < products->count; i++) {
    skv_product *p = &products->list[i];
    uint64_t number = b->next_file++;
    rc = skv_seg_name(b->store, &p->tmp, number, err);
    skv_edit_seg(&b->edit, number, 0, run, 0, &p->meta, skv_slice_of(NULL, 0));
  }
  return rc;
}

/* What of a log the view sees, as a run of its own. */
static int backup_log(backup *b, skv_memlog *log, skv_err *err) {
  skv_products products = {0};
  skv_iter *it = NULL;
  skv_job job;
  uint64_t limit = skv_memlog_limit(log, b->view.lsn);
  if (limit <= SKV_WAL_HEADER) return STRATAKV_OK;
  skv_job_init(b->db, &job);
  job.tree = &b->tree;
  job.next_name = backup_next_name;
  job.discard = backup_discard;
  job.yield = backup_yield;
  job.arg = b;
  int rc = skv_mem_iter_new(log->mem, limit, err, &it);
  /* Tombstones stay: they hide what is in the linked segments. */
  if (rc == STRATAKV_OK) rc = skv_produce(&job, it, false, err, &products);
  skv_iter_close(it);
  if (rc == STRATAKV_OK) rc = backup_name(b, &products, log->start, err);
  skv_products_clear(&products);
  SKV_POINT("backup.flushed");
  return rc;
}

/* The copy's own log: empty, from the view's LSN on. */
static int backup_new_log(backup *b, skv_err *err) {
  skv_name tmp;
  uint64_t size = b->db->options.wal_size;
  if (size > SKV_FIRST_WAL) size = SKV_FIRST_WAL;
  skv_wal_header header = {.number = b->next_file++, .start = b->view.lsn};
  memcpy(header.store_id, b->store_id, 16);
  backup_next_name(b, &tmp);
  int rc = skv_log_begin(b->store, &tmp, &header, size, err);
  skv_edit_wal(&b->edit, header.number, header.start, size);
  skv_edit_next(&b->edit, b->next_file);
  skv_edit_clean(&b->edit, header.start);
  SKV_POINT("backup.logged");
  return rc;
}

/* ---- The head ------------------------------------------------------------ */

/* Whether the edit makes a version: it must, before anything names it. */
static int backup_try_edit(backup *b, skv_err *err) {
  skv_version *empty = NULL, *version = NULL;
  int rc = b->edit.rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
  if (rc == STRATAKV_OK)
    rc = skv_version_new(&b->tree, b->store_id, err, &empty);
  if (rc == STRATAKV_OK)
    rc = skv_version_apply(&b->tree, empty, skv_buf_bytes(&b->edit),
                           skv_head_at(BACKUP_MANIFEST, 0), false, err,
                           &version);
  skv_version_unref(empty);
  skv_version_unref(version);
  return rc;
}

static int backup_head(backup *b, skv_err *err) {
  skv_buf bytes = {0};
  skv_manifest_end end;
  int rc = backup_try_edit(b, err);
  if (rc != STRATAKV_OK) return rc;
  skv_manifest_encode(b->store_id, BACKUP_MANIFEST, skv_buf_bytes(&b->edit),
                      &bytes, &end);
  rc = bytes.rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
  if (rc == STRATAKV_OK) rc = skv_store_sync_names(b->store, err); /* INV-7 */
  SKV_POINT("backup.named");
  if (rc == STRATAKV_OK)
    rc = skv_head_replace(b->store, b->store_id, BACKUP_MANIFEST, bytes.data,
                          bytes.size, err);
  skv_buf_clear(&bytes);
  SKV_POINT("backup.done");
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
  skv_env *env = skv_store_env(b->store);
  skv_state *state = b->view.state;
  const skv_version *version = state->version;
  b->tree = (skv_tree){.store = b->store};
  b->can_link = env == b->db->env;
  b->first_file = b->next_file = version->next_file;
  b->watcher.total = backup_total(b);
  int rc = env->random(env, b->store_id, 16, err);
  for (size_t i = 0; i < version->table_count; i++)
    skv_edit_table(&b->edit, &version->tables[i]);
  if (rc == STRATAKV_OK) rc = backup_segments(b, err);
  for (size_t i = 0; rc == STRATAKV_OK && i < state->log_count; i++)
    rc = backup_log(b, state->logs[i], err);
  if (rc == STRATAKV_OK) rc = backup_new_log(b, err);
  if (rc == STRATAKV_OK) rc = skv_watcher_step(&b->watcher, 0, err);
  return rc == STRATAKV_OK ? backup_head(b, err) : rc;
}

static void backup_remove(backup *b, int kind, uint64_t number) {
  skv_name name = {.kind = kind, .number = number};
  (void)skv_store_remove(b->store, &name, NULL);
}

/* Only names that were made here, in a directory that was empty. CURRENT goes
 * first and for good: without it the rest is no store. */
static void backup_undo(backup *b) {
  skv_dir *dir = skv_store_dir(b->store);
  size_t count = 0;
  skv_segref *const *segs = NULL;
  (void)dir->env->dir_unlink(dir, "CURRENT", NULL);
  (void)skv_store_sync_names(b->store, NULL);
  backup_remove(b, SKV_NAME_MANIFEST, BACKUP_MANIFEST);
  if (b->view.state) segs = skv_version_segs(b->view.state->version, &count);
  for (size_t i = 0; i < b->linked && i < count; i++)
    backup_remove(b, SKV_NAME_SEG, segs[i]->number);
  for (uint64_t n = b->first_file; n < b->next_file; n++) {
    backup_remove(b, SKV_NAME_SEG, n);
    backup_remove(b, SKV_NAME_WAL, n);
  }
  for (uint64_t n = 0; n < b->tmp_count; n++) backup_remove(b, SKV_NAME_TMP, n);
}

/* A directory that was there keeps LOCK: someone may be waiting for it, and
 * two files of that name would be two locks. */
static void backup_undo_dir(backup *b) {
  skv_dir *dir = skv_store_dir(b->store);
  if (!b->made_dir) return;
  if (!b->shares_lock) (void)dir->env->dir_unlink(dir, "LOCK", NULL);
  (void)dir->env->dir_remove(dir, NULL);
}

static int backup_run(backup *b, skv_err *err) {
  int rc = STRATAKV_OK;
  if (backup_is_within(b))
    return backup_refuse(b, "is inside the store itself", err);
  rc = backup_claim(b, err);
  if (rc == STRATAKV_OK) rc = skv_view_take(b->db, err, &b->view);
  if (rc == STRATAKV_OK) rc = backup_fill(b, err);
  return rc;
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
  rc = backup_open(env, base, path, err, &b);
  if (rc != STRATAKV_OK) return rc;
  rc = backup_run(&b, err);
  if (rc != STRATAKV_OK && b.claimed) backup_undo(&b);
  if (rc != STRATAKV_OK) backup_undo_dir(&b);
  if (rc == STRATAKV_OK && lsn) *lsn = b.view.lsn;
  if (rc == STRATAKV_OK) skv_watcher_end(&b.watcher);
  skv_view_release(&b.view);
  skv_store_close(b.store);
  skv_buf_clear(&b.edit);
  return rc;
}
