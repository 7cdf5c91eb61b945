/*
 * Making a whole store that nobody can open before it is complete. See
 * target.h.
 */
#include "engine/db/target.h"

#include "engine/util/point.h"

#define TARGET_MANIFEST 1

/* ---- The directory ------------------------------------------------------- */

static int target_open_dir(skv_env *env, const char *base, const char *path,
                           skv_err *err, skv_target *t) {
  /* CREATE in any case: the directory above is then synced. */
  int flags = SKV_DIR_CREATE;
  if (base && path[0] != '/') flags |= SKV_DIR_BENEATH;
  int rc = skv_store_open(env, base, path, flags | SKV_DIR_EXCLUSIVE, err,
                          &t->store);
  t->made_dir = rc == STRATAKV_OK;
  if (rc == STRATAKV_CONSTRAINT)
    rc = skv_store_open(env, base, path, flags, err, &t->store);
  return rc;
}

static bool target_is_within(const skv_target *t, skv_store *outside) {
  const char *store = skv_store_info(outside)->path;
  const char *path = skv_store_info(t->store)->path;
  size_t n = strlen(store);
  return skv_store_env(t->store) == skv_store_env(outside) &&
         strncmp(store, path, n) == 0 && (path[n] == '/' || path[n] == 0);
}

/* Anything but LOCK, which one that failed may have left. */
static int target_look(void *arg, const char *name) {
  bool *is_empty = arg;
  if (strcmp(name, "LOCK") != 0) *is_empty = false;
  return 0;
}

static int target_refuse(const skv_target *t, const char *why, skv_err *err) {
  return SKV_ERROR(err, STRATAKV_CANTOPEN, "\"%s\" %s",
                   skv_store_info(t->store)->path, why);
}

static int target_check_empty(const skv_target *t, skv_err *err) {
  skv_dir *dir = skv_store_dir(t->store);
  bool is_empty = true;
  int rc = dir->env->dir_list(dir, target_look, &is_empty, err);
  if (rc != STRATAKV_OK || is_empty) return rc;
  return target_refuse(t, "is not empty", err);
}

/* Nobody else makes a store here; again is no matter. */
static int target_lock(const skv_target *t, skv_err *err) {
  int rc = skv_store_lock(t->store, SKV_LOCK_ATTACH, SKV_EXCLUSIVE, err);
  if (rc != STRATAKV_OK) return rc;
  return skv_store_lock(t->store, SKV_LOCK_ALIVE, SKV_EXCLUSIVE, err);
}

/* Empty, and ours. Looked at before LOCK is made, too: what is foreign is not
 * touched. */
static int target_claim(skv_target *t, skv_err *err) {
  int rc = target_check_empty(t, err);
  if (rc == STRATAKV_OK) rc = skv_store_lock_open(t->store, true, err);
  if (rc == STRATAKV_OK) rc = target_lock(t, err);
  if (rc == STRATAKV_BUSY)
    return target_refuse(t, "is being used by another process", err);
  if (rc == STRATAKV_OK) rc = target_check_empty(t, err);
  t->claimed = rc == STRATAKV_OK;
  SKV_POINT("backup.claimed");
  return rc;
}

int skv_target_open(skv_env *env, const char *base, const char *path,
                    skv_store *outside, uint64_t first_file, skv_err *err,
                    skv_target *t) {
  memset(t, 0, sizeof *t);
  t->first_file = t->next_file = first_file;
  int rc = target_open_dir(env, base, path, err, t);
  if (rc != STRATAKV_OK) return rc;
  t->tree = (skv_tree){.store = t->store};
  if (outside && target_is_within(t, outside))
    rc = target_refuse(t, "is inside the store itself", err);
  if (rc == STRATAKV_OK) rc = target_claim(t, err);
  if (rc == STRATAKV_OK) rc = env->random(env, t->store_id, 16, err);
  if (rc == STRATAKV_OK) return rc;
  skv_target_undo_files(t);
  skv_target_close(t);
  return rc;
}

void skv_target_close(skv_target *t) {
  skv_store_close(t->store);
  t->store = NULL;
  skv_buf_clear(&t->edit);
}

/* ---- Files --------------------------------------------------------------- */

void skv_target_next_name(void *arg, skv_name *out) {
  skv_target *t = arg;
  *out = (skv_name){SKV_NAME_TMP, t->tmp_count++, 0, 0};
}

void skv_target_discard(void *arg, const skv_name *tmp) {
  skv_target *t = arg;
  (void)skv_store_remove(t->store, tmp, NULL);
}

int skv_target_name(skv_target *t, skv_products *products, uint32_t level,
                    uint64_t run, skv_err *err) {
  int rc = STRATAKV_OK;
  for (size_t i = 0; rc == STRATAKV_OK && i < products->count; i++) {
    skv_product *p = &products->list[i];
    uint64_t number = t->next_file++;
    rc = skv_seg_name(t->store, &p->tmp, number, err);
    skv_edit_seg(&t->edit, number, level, run, 0, &p->meta,
                 skv_slice_of(NULL, 0));
  }
  return rc;
}

/* ---- The head ------------------------------------------------------------ */

static int target_new_log(skv_target *t, uint64_t start, uint64_t size,
                          skv_err *err) {
  skv_name tmp;
  skv_wal_header header = {.number = t->next_file++, .start = start};
  memcpy(header.store_id, t->store_id, 16);
  skv_target_next_name(t, &tmp);
  int rc = skv_log_begin(t->store, &tmp, &header, size, err);
  skv_edit_wal(&t->edit, header.number, start, size);
  skv_edit_next(&t->edit, t->next_file);
  skv_edit_clean(&t->edit, start);
  SKV_POINT("target.logged");
  return rc;
}

/* Whether the edit makes a version: it must, before anything names it. */
static int target_try_edit(skv_target *t, skv_err *err) {
  skv_version *empty = NULL, *version = NULL;
  int rc = t->edit.rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
  if (rc == STRATAKV_OK)
    rc = skv_version_new(&t->tree, t->store_id, err, &empty);
  if (rc == STRATAKV_OK)
    rc = skv_version_apply(&t->tree, empty, skv_buf_bytes(&t->edit),
                           skv_head_at(TARGET_MANIFEST, 0), false, err,
                           &version);
  skv_version_unref(empty);
  skv_version_unref(version);
  return rc;
}

static int target_head(skv_target *t, skv_err *err) {
  skv_buf bytes = {0};
  skv_manifest_end end;
  int rc = target_try_edit(t, err);
  if (rc != STRATAKV_OK) return rc;
  skv_manifest_encode(t->store_id, TARGET_MANIFEST, skv_buf_bytes(&t->edit),
                      &bytes, &end);
  rc = bytes.rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
  SKV_POINT("target.named");
  /* INV-7: it syncs the directory, in which all names are, before CURRENT. */
  if (rc == STRATAKV_OK)
    rc = skv_head_replace(t->store, t->store_id, TARGET_MANIFEST, bytes.data,
                          bytes.size, err);
  skv_buf_clear(&bytes);
  SKV_POINT("target.done");
  return rc;
}

int skv_target_finish(skv_target *t, uint64_t start, uint64_t wal_size,
                      skv_err *err) {
  int rc = target_new_log(t, start, wal_size, err);
  return rc == STRATAKV_OK ? target_head(t, err) : rc;
}

/* ---- Taking it back ------------------------------------------------------ */

static void target_remove(skv_target *t, int kind, uint64_t number) {
  skv_name name = {.kind = kind, .number = number};
  (void)skv_store_remove(t->store, &name, NULL);
}

/* CURRENT first and for good: without it the rest is no store. */
void skv_target_undo_head(skv_target *t) {
  skv_dir *dir = skv_store_dir(t->store);
  if (!t->claimed) return;
  (void)dir->env->dir_unlink(dir, "CURRENT", NULL);
  (void)skv_store_sync_names(t->store, NULL);
  target_remove(t, SKV_NAME_MANIFEST, TARGET_MANIFEST);
}

/* A directory that was there keeps LOCK, and so does one that another process
 * has found and uses: two files of that name would be two locks. */
void skv_target_undo_files(skv_target *t) {
  skv_dir *dir = skv_store_dir(t->store);
  for (uint64_t n = t->first_file; t->claimed && n < t->next_file; n++) {
    target_remove(t, SKV_NAME_SEG, n);
    target_remove(t, SKV_NAME_WAL, n);
  }
  for (uint64_t n = 0; t->claimed && n < t->tmp_count; n++)
    target_remove(t, SKV_NAME_TMP, n);
  if (!t->made_dir) return;
  if (target_lock(t, NULL) == STRATAKV_OK &&
      target_check_empty(t, NULL) == STRATAKV_OK)
    (void)dir->env->dir_unlink(dir, "LOCK", NULL);
  (void)dir->env->dir_remove(dir, NULL);
}
