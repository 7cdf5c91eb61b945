/*
 * gc: the only code that deletes files of a store. It removes what the head
 * does not name, by parsed name, in the store's directory, under HEAD: there,
 * a numbered file that the head does not name is nobody's.
 *
 * Unnamed files belong to their creator while it lives (P4), and to an INGEST
 * that is not finished: none can be while visible has reached the tail, but one
 * that was left (skv_ingest_unnamed). Logs are in no INGEST. What had to stay
 * for that is looked at again soon.
 */
#include "engine/db/db.h"
#include "engine/util/point.h"

void skv_gc_unnamed(skv_db *db, const skv_name *tmp) {
  if (skv_write_look(db, NULL) != STRATAKV_OK) return;
  (void)skv_store_remove(db->store, tmp, NULL); /* ours; absent is fine */
}

typedef struct gc_pass {
  skv_db *db;
  const skv_version *version;
  skv_name *doomed;
  size_t count, capacity;
} gc_pass;

static bool gc_names_segment(const skv_version *version, uint64_t number) {
  for (size_t r = 0; r < version->run_count; r++)
    for (size_t i = 0; i < version->runs[r].count; i++)
      if (version->runs[r].segs[i]->number == number) return true;
  for (int level = 1; level < SKV_LEVELS; level++)
    for (size_t i = 0; i < version->levels[level].count; i++)
      if (version->levels[level].segs[i]->number == number) return true;
  return false;
}

static bool gc_names_log(const skv_version *version, uint64_t number) {
  for (size_t i = 0; i < version->wal_count; i++)
    if (version->wals[i].number == number) return true;
  /* Retired ones wait to be recycled, one at a time. */
  return version->retired_count > 0 &&
         version->retired[version->retired_count - 1] == number;
}

bool skv_creator_lives(skv_db *db, const skv_name *name) {
  if (name->slot == 0xff) return false; /* CURRENT's, and we hold HEAD */
  if (name->slot >= SKV_SLOTS) return false;
  /* Acquire: if the slot has a new owner, what the old one did last is seen. */
  if (skv_load(&db->shared->slots[name->slot].incarnation) != name->incarnation)
    return false;
  return skv_slot_alive(db, name->slot);
}

static bool gc_is_garbage(gc_pass *pass, const skv_name *name) {
  const skv_version *version = pass->version;
  switch (name->kind) {
  case SKV_NAME_MANIFEST: return name->number != skv_head_file(version->pos);
  case SKV_NAME_WAL: return !gc_names_log(version, name->number);
  case SKV_NAME_SEG: return !gc_names_segment(version, name->number);
  case SKV_NAME_TMP: return !skv_creator_lives(pass->db, name);
  default: return false;
  }
}

static int gc_look(void *arg, const skv_name *name) {
  gc_pass *pass = arg;
  if (!gc_is_garbage(pass, name)) return 0;
  if (pass->count == pass->capacity) {
    size_t more = pass->capacity ? pass->capacity * 2 : 16;
    skv_name *grown = skv_realloc(pass->doomed, more * sizeof *grown);
    if (!grown) return 1; /* the rest next time */
    pass->doomed = grown;
    pass->capacity = more;
  }
  pass->doomed[pass->count++] = *name;
  return 0;
}

/* Retired logs of which the file is gone, or is about to be: all but the last
 * *arg. */
static int gc_forget_build(void *arg, const skv_version *version, skv_buf *edit,
                           skv_err *err) {
  const size_t *kept = arg;
  SKV_UNUSED(err);
  for (size_t i = 0; i + *kept < version->retired_count; i++)
    skv_edit_forget(edit, version->retired[i]);
  return STRATAKV_OK;
}

/* Files that are unlinked but kept open: freeing their blocks may take the file
 * system long, and writers who rotate wait for HEAD. */
#define GC_HELD 64
typedef struct gc_held {
  skv_file *files[GC_HELD];
  size_t count;
} gc_held;

static int gc_remove(skv_db *db, const skv_name *name, gc_held *held,
                     skv_err *err) {
  char text[SKV_NAME_SIZE];
  skv_file *file = NULL;
  skv_name_format(name, text);
  if (held->count < GC_HELD &&
      db->env->file_open(skv_store_dir(db->store), text, 0, NULL, &file) ==
          STRATAKV_OK)
    held->files[held->count++] = file;
  return skv_store_remove(db->store, name, err);
}

static void gc_let_go(skv_db *db, gc_held *held) {
  for (size_t i = 0; i < held->count; i++) db->env->file_close(held->files[i]);
}

static bool gc_is_settled(skv_db *db, const skv_state *state) {
  return skv_load(&db->shared->visible) == skv_peek(&db->shared->tail) &&
         skv_ingest_unnamed(db, state) == 0;
}

/* All but logs stay; whether any. */
static bool gc_spare_files(gc_pass *pass) {
  size_t all = pass->count, logs = 0;
  for (size_t i = 0; i < all; i++)
    if (pass->doomed[i].kind == SKV_NAME_WAL)
      pass->doomed[logs++] = pass->doomed[i];
  pass->count = logs;
  return logs < all;
}

static int gc_locked(skv_db *db, gc_held *held, skv_err *err) {
  /* An edit that a dead writer did not publish names files too, and after a
   * failed sync nobody knows which edits there are. */
  if (skv_peek(&db->shared->fence)) return STRATAKV_OK;
  int rc = skv_head_settle(db, err);
  if (rc != STRATAKV_OK) return rc;
  /* Dead or alive first, then whether an INGEST is pending: a dead process
   * begins none, and none is finished while this holds HEAD. */
  skv_state *state = skv_state_ref(db);
  gc_pass pass = {.db = db, .version = state->version};
  if (state->version->pos == skv_peek(&db->shared->head)) {
    rc = skv_store_list(db->store, gc_look, &pass, err);
    if (rc == 1) rc = STRATAKV_OK;
    SKV_POINT("gc.listed");
  }
  bool again = !gc_is_settled(db, state) && gc_spare_files(&pass);
  atomic_store(&db->gc_again, again);
  for (size_t i = 0; rc == STRATAKV_OK && i < pass.count; i++) {
    rc = gc_remove(db, &pass.doomed[i], held, err);
    SKV_POINT("gc.removed");
  }
  skv_free(pass.doomed);
  skv_state_unref(state);
  return rc;
}

int skv_gc(skv_db *db, skv_err *err) {
  int rc = STRATAKV_OK;
  skv_mutex_lock(&db->state_mutex);
  size_t retired = db->state->version->retired_count;
  skv_mutex_unlock(&db->state_mutex);
  size_t kept = retired > 0 && skv_disk_keeps_log(db);
  bool many = retired > kept;
  if (many) rc = skv_head_edit(db, gc_forget_build, &kept, err);
  if (many) SKV_POINT("gc.forgotten");
  atomic_store(&db->gc_again, false);
  if (rc == STRATAKV_OK) rc = skv_head_lock(db, err);
  if (rc != STRATAKV_OK) return rc;
  gc_held held = {.count = 0};
  rc = gc_locked(db, &held, err);
  skv_head_unlock(db);
  gc_let_go(db, &held);
  return rc;
}
