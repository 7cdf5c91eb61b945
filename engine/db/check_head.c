/*
 * Check: CURRENT, and the manifest from its first byte. See check.h.
 *
 * RACES  The head may be changed while it is read: CURRENT may name a newer
 *   manifest than the view is of. Then the view is taken anew. A dead writer
 *   may have swapped CURRENT without publishing: what the view does not follow
 *   to is read, and not compared.
 */
#include <stdio.h>

#include "engine/db/check.h"

#define HEAD_ATTEMPTS 100
#define HEAD_PAUSE_NS 1000000u

typedef struct head_walk {
  skv_check *check;
  char name[SKV_NAME_SIZE];
  uint64_t file;
  skv_buf bytes;
  uint64_t must;        /* edits below this offset were published */
  skv_version *version; /* of the edits so far; NULL once one did not fit */
  uint64_t chain;
  bool compared;
  skv_seek seek;
} head_walk;

static int head_damage(head_walk *walk, uint64_t at, skv_err *err,
                       const char *text) {
  return skv_check_damage(walk->check, walk->name, at, err, text);
}

/* The edits up to the view's must make the view's version. */
static int head_compare(head_walk *walk, uint64_t at, skv_err *err) {
  skv_buf want = {0}, have = {0};
  walk->compared = true;
  skv_version_encode(skv_state_head(walk->check->view.state), &want);
  skv_version_encode(walk->version, &have);
  int rc = STRATAKV_OK;
  if (want.rc != STRATAKV_OK || have.rc != STRATAKV_OK)
    rc = skv_error_nomem(err);
  else if (!skv_equal(skv_buf_bytes(&want), skv_buf_bytes(&have)))
    rc = head_damage(walk, at, err,
                     "the edits do not make the version that is in use");
  skv_buf_clear(&want);
  skv_buf_clear(&have);
  return rc;
}

static int head_apply(head_walk *walk, const skv_edit_info *edit,
                      skv_err *err) {
  skv_version *next = NULL;
  skv_err why = {0};
  if (!walk->version) return STRATAKV_OK;
  if (edit->prev != walk->chain) {
    skv_version_unref(walk->version);
    walk->version = NULL;
    return head_damage(walk, edit->offset, err, "edit of another chain");
  }
  walk->chain = edit->checksum;
  int rc =
      skv_version_apply(&walk->check->db->tree, walk->version, edit->payload,
                        skv_head_at(walk->file, edit->end), false, &why, &next);
  skv_version_unref(walk->version);
  walk->version = next;
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  if (rc != STRATAKV_OK)
    return head_damage(walk, edit->offset, err, why.message);
  if (edit->end == walk->must) return head_compare(walk, edit->offset, err);
  return rc;
}

static int head_gap(head_walk *walk, uint64_t from, skv_err *err) {
  const char *what = "invalid edit";
  if (walk->seek.untried > 0)
    what = "invalid edit, and behind it too many places that look like one to "
           "try them all";
  walk->seek.untried = 0;
  skv_version_unref(walk->version);
  walk->version = NULL;
  return head_damage(walk, from, err, what);
}

/* Edits, wherever they stand. *gap: where what has none behind it begins, or
 * 0; *end: behind the last one, or the file. */
static int head_walk_edits(head_walk *walk, const uint8_t store_id[16],
                           skv_err *err, uint64_t *gap, uint64_t *end) {
  uint64_t at = SKV_MANIFEST_HEADER;
  const skv_buf *bytes = &walk->bytes;
  skv_edit_info edit;
  int rc = STRATAKV_OK;
  bool found = true;
  walk->seek = skv_seek_new(skv_watcher_pause(&walk->check->watcher));
  while (rc == STRATAKV_OK && found && at < bytes->size) {
    *gap = 0;
    if (!skv_manifest_edit_at(bytes->data, bytes->size, store_id, walk->file,
                              at, &edit)) {
      *gap = at;
      rc = skv_manifest_seek(bytes->data, bytes->size, store_id, walk->file,
                             &walk->seek, err, &at, &edit, &found);
      if (rc != STRATAKV_OK || !found) break;
      rc = head_gap(walk, *gap, err);
      *gap = 0;
    }
    if (rc == STRATAKV_OK && !edit.is_padded)
      rc = head_damage(walk, edit.offset, err, "padding is not zero");
    if (rc == STRATAKV_OK) rc = head_apply(walk, &edit, err);
    if (rc == STRATAKV_OK)
      rc = skv_seek_step(&walk->seek, edit.end - edit.offset, err);
    at = edit.end;
  }
  *end = at;
  return rc;
}

static int head_edits(head_walk *walk, const uint8_t store_id[16],
                      skv_err *err) {
  uint64_t gap = 0, at;
  int rc = head_walk_edits(walk, store_id, err, &gap, &at);
  /* Behind the published edits one may be in the making. */
  if (rc == STRATAKV_OK && gap != 0 &&
      (gap < walk->must || walk->seek.untried > 0))
    rc = head_gap(walk, gap, err);
  else if (rc == STRATAKV_OK && gap != 0 && walk->check->db->is_private &&
           !walk->check->db->is_beside)
    rc = skv_check_note(walk->check, walk->name, gap, err,
                        "an edit that was not finished");
  if (rc == STRATAKV_OK && walk->version && walk->must != 0 && !walk->compared)
    rc = head_damage(walk, at, err, "the published edits do not end here");
  return rc;
}

static int head_walk_all(head_walk *walk, skv_err *err) {
  uint8_t store_id[16];
  uint64_t file;
  skv_err why = {0};
  skv_db *db = walk->check->db;
  int rc = skv_manifest_header(walk->bytes.data, walk->bytes.size, walk->name,
                               &why, store_id, &file);
  if (rc != STRATAKV_OK) {
    rc = head_damage(walk, 0, err, why.message);
  } else if (memcmp(store_id, db->store_id, 16) != 0 || file != walk->file) {
    rc = head_damage(walk, 16, err, "another file's header");
  }
  if (rc == STRATAKV_OK)
    rc = skv_version_new(&db->tree, db->store_id, err, &walk->version);
  if (rc == STRATAKV_OK) rc = head_edits(walk, db->store_id, err);
  skv_version_unref(walk->version);
  return rc;
}

/* The view follows what was published meanwhile. */
static int head_retake(skv_check *check, skv_err *err) {
  skv_view newer;
  int rc = skv_view_take(check->db, err, &newer);
  if (rc != STRATAKV_OK) return rc;
  skv_view_release(&check->view);
  check->view = newer;
  check->db->env->sleep(check->db->env, HEAD_PAUSE_NS);
  return rc;
}

/* CURRENT's manifest; *stop if that cannot be known. */
static int head_current(skv_check *check, skv_err *err, uint64_t *file,
                        bool *stop) {
  uint8_t id[16];
  skv_err why = {0};
  int rc = skv_head_current(check->db->store, &why, id, file);
  *stop = true;
  if (rc != STRATAKV_OK)
    return skv_check_failed(check, "CURRENT", rc, &why, err);
  if (memcmp(id, check->db->store_id, 16) != 0)
    return skv_check_damage(check, "CURRENT", 16, err, "of another store");
  *stop = false;
  return rc;
}

int skv_check_head(skv_check *check, skv_err *err) {
  head_walk walk = {.check = check};
  skv_err why = {0};
  for (int attempt = 0;; attempt++) {
    bool stop;
    uint64_t pos_file = skv_head_file(check->view.state->version->pos);
    int rc = head_current(check, err, &walk.file, &stop);
    if (rc != STRATAKV_OK) return rc;
    if (stop) walk.file = pos_file; /* the manifest all the same */
    if (walk.file < pos_file)
      return skv_check_damage(check, "CURRENT", 32, err,
                              "names an older manifest than is in use");
    rc = skv_head_read(check->db->store, walk.file, 0, &why, &walk.bytes);
    const skv_db *db = check->db;
    bool again =
        attempt < HEAD_ATTEMPTS && !stop &&
        (!db->is_private || (db->is_beside && rc == STRATAKV_NOTFOUND));
    if (again && (rc == STRATAKV_NOTFOUND || walk.file > pos_file)) {
      skv_buf_clear(&walk.bytes);
      rc = head_retake(check, err);
      if (rc != STRATAKV_OK) return rc;
      continue;
    }
    skv_name name = {.kind = SKV_NAME_MANIFEST, .number = walk.file};
    skv_name_format(&name, walk.name);
    skv_head_pos pos = check->view.state->version->pos;
    if (walk.file == skv_head_file(pos)) walk.must = skv_head_offset(pos);
    rc = rc == STRATAKV_OK ? head_walk_all(&walk, err)
                           : skv_check_failed(check, walk.name, rc, &why, err);
    skv_buf_clear(&walk.bytes);
    return rc;
  }
}
