/*
 * stratakv_check: the call itself, the names in the directory, and OWNERS. See
 * check.h.
 */
#include "engine/db/check.h"

#include <stdio.h>

/* ---- Findings ------------------------------------------------------------ */

int skv_check_damage(skv_check *check, const char *file, uint64_t at,
                     skv_err *err, const char *text) {
  return skv_watcher_find(&check->watcher, STRATAKV_DAMAGE, file, at, err,
                          text);
}

int skv_check_note(skv_check *check, const char *file, uint64_t at,
                   skv_err *err, const char *text) {
  return skv_watcher_find(&check->watcher, STRATAKV_NOTE, file, at, err, text);
}

int skv_check_failed(skv_check *check, const char *file, int rc,
                     const skv_err *why, skv_err *err) {
  if (rc == STRATAKV_OK) return rc;
  if (rc == STRATAKV_NOMEM || rc == STRATAKV_INTERRUPT) {
    if (err) *err = *why;
    return rc;
  }
  return skv_check_damage(check, file, UINT64_MAX, err, why->message);
}

static bool check_version_names(const skv_version *version, int kind,
                                uint64_t number) {
  size_t count;
  skv_segref *const *segs = skv_version_segs(version, &count);
  if (kind == SKV_NAME_SEG)
    for (size_t i = 0; i < count; i++)
      if (segs[i]->number == number) return true;
  if (kind != SKV_NAME_WAL) return false;
  for (size_t i = 0; i < version->wal_count; i++)
    if (version->wals[i].number == number) return true;
  for (size_t i = 0; i < version->retired_count; i++)
    if (version->retired[i] == number) return true;
  return false;
}

bool skv_check_named(skv_check *check, int kind, uint64_t number) {
  skv_view now;
  if (check->db->is_beside) return false; /* nobody tells what is replaced */
  if (skv_view_take(check->db, NULL, &now) != STRATAKV_OK) return true;
  bool named = check_version_names(skv_state_head(now.state), kind, number);
  skv_view_release(&now);
  return named;
}

/* ---- The directory ------------------------------------------------------- */

typedef struct check_names {
  skv_check *check;
  const skv_version *version;
  bool has_unnamed; /* segments of an INGEST */
  skv_buf found;    /* names that nothing accounts for, each with its NUL */
} check_names;

static bool check_accounts(const check_names *names, const skv_name *name) {
  bool is_segment = name->kind == SKV_NAME_SEG || name->kind == SKV_NAME_TMP;
  if (is_segment && names->has_unnamed) return true;
  switch (name->kind) {
  case SKV_NAME_FIXED: return true;
  case SKV_NAME_TMP: return skv_creator_lives(names->check->db, name);
  case SKV_NAME_MANIFEST:
    return name->number == skv_head_file(names->version->pos);
  default: return check_version_names(names->version, name->kind, name->number);
  }
}

static int check_name(void *arg, const char *text) {
  check_names *names = arg;
  skv_name name = skv_name_parse(text);
  if (name.kind == SKV_NAME_OTHER || !check_accounts(names, &name))
    skv_buf_append(&names->found, text, strlen(text) + 1);
  return 0;
}

/* Under HEAD, where a numbered file that the head does not name is nobody's.
 * If that is not to be had, another process is at work: not now. Beside others
 * the head is not followed. */
static int check_list(check_names *names, skv_err *err) {
  skv_db *db = names->check->db;
  if (db->is_beside) return STRATAKV_OK;
  skv_dir *dir = skv_store_dir(db->store);
  int rc = skv_head_lock(db, NULL);
  if (rc != STRATAKV_OK) return STRATAKV_OK;
  skv_state *state = skv_state_ref(db);
  names->version = state->version;
  names->has_unnamed = skv_ingest_unnamed(db, state) != 0;
  if (db->is_private || state->version->pos >= skv_peek(&db->shared->head))
    rc = dir->env->dir_list(dir, check_name, names, err);
  skv_state_unref(state);
  skv_head_unlock(db);
  if (names->found.rc != STRATAKV_OK) return skv_error_nomem(err);
  return rc;
}

static int check_directory(skv_check *check, skv_err *err) {
  check_names names = {.check = check};
  skv_err why = {0};
  (void)skv_head_follow(check->db, NULL);
  int rc = check_list(&names, &why);
  rc = skv_check_failed(check, ".", rc, &why, err);
  const char *p = (const char *)names.found.data;
  const char *end = p ? p + names.found.size : p;
  for (; rc == STRATAKV_OK && p < end; p += strlen(p) + 1)
    rc = skv_check_note(check, p, UINT64_MAX, err,
                        "a file that the store does not use");
  skv_buf_clear(&names.found);
  return rc;
}

static int check_owners(skv_check *check, skv_err *err) {
  skv_err why = {0};
  int rc = skv_owners_check(check->db, &why);
  if (rc == STRATAKV_AUTH)
    return skv_check_note(check, "OWNERS", UINT64_MAX, err, why.message);
  return skv_check_failed(check, "OWNERS", rc, &why, err);
}

/* ---- All of it ----------------------------------------------------------- */

static uint64_t check_total(const skv_check *check) {
  const skv_state *state = check->view.state;
  uint64_t total = 0;
  for (unsigned level = 0; level < SKV_LEVELS; level++)
    total += skv_version_level_bytes(state->version, level);
  for (size_t i = 0; i < state->log_count; i++)
    total += skv_memlog_limit(state->logs[i], check->view.lsn);
  return total;
}

/* The head first: it may take the view anew, and all behind it is of one. */
static int check_run(skv_check *check, skv_err *err) {
  size_t count;
  check->watcher.total = check_total(check);
  int rc = skv_watcher_step(&check->watcher, 0, err);
  if (rc == STRATAKV_OK) rc = skv_check_head(check, err);
  check->watcher.total = check_total(check);
  skv_segref *const *segs =
      skv_version_segs(check->view.state->version, &count);
  for (size_t i = 0; rc == STRATAKV_OK && i < check->view.state->log_count; i++)
    rc = skv_check_log(check, i, err);
  for (size_t i = 0; rc == STRATAKV_OK && i < count; i++)
    rc = skv_check_seg(check, segs[i], err);
  if (rc == STRATAKV_OK) rc = check_directory(check, err);
  if (rc == STRATAKV_OK) rc = check_owners(check, err);
  return rc;
}

int stratakv_check(stratakv_store *store, const stratakv_watch *watch,
                   stratakv_error *err) {
  skv_check check = {0};
  int rc = skv_handle_check(store, err);
  if (rc != STRATAKV_OK) return rc;
  check.db = store->db;
  skv_watcher_init(&check.watcher, watch);
  rc = skv_view_take(check.db, err, &check.view);
  if (rc != STRATAKV_OK) return rc;
  rc = check_run(&check, err);
  skv_view_release(&check.view);
  if (rc != STRATAKV_OK) return rc;
  skv_watcher_end(&check.watcher);
  if (check.watcher.damages == 0) return rc;
  if (err) *err = check.watcher.first;
  return STRATAKV_CORRUPT;
}
