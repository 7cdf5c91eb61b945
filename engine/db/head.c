/*
 * The head: reading what other processes appended to the manifest, and being
 * the one who appends (P3).
 *
 * The head has one writer at a time: HEAD of LOCK between processes,
 * head_mutex within one. A dead writer may leave a whole edit unpublished; the
 * next writer adopts it: makes it durable by writing it again (P12), then
 * publishes it together with its own.
 */
#include "engine/db/db.h"
#include "engine/util/point.h"

#define HEAD_POLL_NS 20000u
#define HEAD_WAIT_S 10u /* its owner syncs a few files; longer is a stop */
#define HEAD_WAIT_NS (HEAD_WAIT_S * UINT64_C(1000000000))

int skv_head_lock(skv_db *db, skv_err *err) {
  uint64_t end = db->env->now(db->env) + HEAD_WAIT_NS;
  for (;;) {
    skv_mutex_lock(&db->head_mutex);
    if (db->is_private) return STRATAKV_OK;
    int rc = skv_store_lock(db->store, SKV_LOCK_HEAD, SKV_EXCLUSIVE, err);
    if (rc == STRATAKV_OK) rc = skv_write_look(db, err);
    if (rc == STRATAKV_OK) {
      SKV_POINT("head.locked");
      return rc;
    }
    if (atomic_load(&db->is_gone))
      (void)skv_store_lock(db->store, SKV_LOCK_HEAD, SKV_UNLOCK, NULL);
    skv_mutex_unlock(&db->head_mutex); /* readers follow the head meanwhile */
    if (rc != STRATAKV_BUSY) return rc;
    if (db->env->now(db->env) > end)
      return SKV_ERROR(err, rc,
                       "waited %u s for another process that is "
                       "changing the manifest",
                       HEAD_WAIT_S);
    db->env->sleep(db->env, HEAD_POLL_NS);
  }
}

void skv_head_unlock(skv_db *db) {
  if (!db->is_private)
    (void)skv_store_lock(db->store, SKV_LOCK_HEAD, SKV_UNLOCK, NULL);
  skv_mutex_unlock(&db->head_mutex);
  SKV_POINT("head.released");
}

/* Read manifest `file` on from where we are, or anew: all of it for the next
 * writer, what is published for everybody else. *out: a new reference. */
static int head_read(skv_db *db, uint64_t file, skv_head_pos published,
                     bool all, skv_err *err, skv_manifest_end *end,
                     skv_version **out) {
  skv_version *base = db->state ? db->state->version : NULL;
  bool continues = base && skv_head_file(db->head_end.pos) == file;
  const skv_manifest_end *from = continues ? &db->head_end : NULL;
  return all ? skv_manifest_read(&db->tree, db->store_id, file, from, base,
                                 published, err, end, out)
             : skv_manifest_follow(&db->tree, db->store_id, file, from, base,
                                   published, err, end, out);
}

/* The word first: a head may show an INGEST, and what one process's readers
 * have seen, readers of every other must see from then on. */
static void head_publish(skv_db *db, const skv_manifest_end *end,
                         skv_state *state) {
  skv_raise(&db->shared->head, end->pos);
  SKV_POINT("head.raised");
  skv_state_publish(db, state);
  db->head_end = *end;
}

static int head_install(skv_db *db, const skv_manifest_end *end,
                        skv_version *version, skv_err *err) {
  if (db->state && version->pos == db->state->version->pos) {
    skv_version_unref(version);
    skv_raise(&db->shared->head, end->pos);
    return STRATAKV_OK;
  }
  skv_state *state;
  int rc = skv_state_make(db, version, err, &state);
  if (rc == STRATAKV_OK) head_publish(db, end, state);
  return rc;
}

/* The number of the manifest that is the head: CURRENT, which a dead writer
 * may have swapped without publishing. */
static int head_file(skv_db *db, skv_err *err, uint64_t *file) {
  uint8_t id[16];
  int rc = skv_head_current(db->store, err, id, file);
  if (rc == STRATAKV_NOTFOUND)
    rc = SKV_ERROR(err, STRATAKV_CORRUPT, "CURRENT is missing");
  if (rc == STRATAKV_OK && memcmp(id, db->store_id, 16) != 0)
    rc = SKV_ERROR(err, STRATAKV_CORRUPT, "CURRENT is of another store");
  return rc;
}

/* NOTFOUND, though there is no newer head: INV-7 is broken. */
static int head_missing(skv_err *err) {
  char what[sizeof err->message] = "";
  if (err) memcpy(what, err->message, sizeof what);
  return SKV_ERROR(err, STRATAKV_CORRUPT,
                   "a file that the manifest names is missing: %.400s", what);
}

static int head_adopt_locked(skv_db *db, skv_err *err) {
  for (int attempt = 0;; attempt++) {
    skv_head_pos published = skv_load(&db->shared->head);
    if (db->state && db->state->version->pos >= published) return STRATAKV_OK;
    skv_manifest_end end;
    skv_version *version = NULL;
    int rc = head_read(db, skv_head_file(published), published, false, err,
                       &end, &version);
    if (rc == STRATAKV_OK) rc = head_install(db, &end, version, err);
    SKV_POINT("head.followed");
    if (rc != STRATAKV_NOTFOUND) return rc;
    /* A file that vanished belongs to a newer head; without one it is lost. */
    if (skv_peek(&db->shared->head) == published && attempt > 0)
      return head_missing(err);
  }
}

int skv_head_follow(skv_db *db, skv_err *err) {
  skv_head_pos adopted = skv_peek(&db->adopted);
  if (adopted != 0 && adopted >= skv_peek(&db->shared->head))
    return STRATAKV_OK;
  skv_mutex_lock(&db->head_mutex);
  int rc = head_adopt_locked(db, err);
  skv_mutex_unlock(&db->head_mutex);
  return rc;
}

/* Edits behind the published head: a dead writer's. */
int skv_head_settle(skv_db *db, skv_err *err) {
  uint64_t file = 0;
  int rc = head_file(db, err, &file);
  if (rc != STRATAKV_OK) return rc;
  skv_head_pos published = skv_peek(&db->shared->head);
  skv_manifest_end end, before = db->head_end;
  skv_version *version = NULL;
  rc = head_read(db, file, published, true, err, &end, &version);
  if (rc == STRATAKV_NOTFOUND) rc = head_missing(err);
  if (rc != STRATAKV_OK) return rc;
  if (end.pos > published) {
    uint64_t from =
        skv_head_file(before.pos) == file ? skv_head_offset(before.pos) : 0;
    skv_buf bytes = {0};
    rc = skv_head_read(db->store, file, from, err, &bytes);
    if (rc == STRATAKV_OK) {
      skv_manifest_pad(&bytes, from, skv_head_offset(end.pos), db->store_id,
                       file);
      rc = bytes.rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
    }
    if (rc == STRATAKV_OK)
      rc = skv_head_append(db->store, file, from, bytes.data,
                           skv_head_offset(end.pos) - from, err);
    skv_buf_clear(&bytes);
    if (rc == STRATAKV_OK && skv_head_file(published) != file)
      rc = skv_store_sync_names(db->store, err); /* CURRENT */
    if (rc != STRATAKV_OK) {
      skv_version_unref(version);
      return skv_write_fence(db, rc);
    }
    SKV_POINT("head.adopted");
  }
  return head_install(db, &end, version, err);
}

/* Write `edit`, already applied as `version`, to the manifest. */
static int head_write(skv_db *db, skv_slice edit, skv_version *version,
                      skv_manifest_end *end, skv_err *err) {
  skv_buf bytes = {0};
  int rc = STRATAKV_OK;
  uint64_t at = skv_head_offset(end->pos);
  if (at > db->head_roll || db->head_doubted) {
    skv_buf whole = {0};
    skv_version_encode(version, &whole);
    bool rolls = db->head_doubted || whole.size * 4 < at;
    if (whole.rc == STRATAKV_OK && rolls) {
      uint64_t file = skv_head_file(end->pos) + 1; /* a count of its own */
      skv_manifest_encode(db->store_id, file, skv_buf_bytes(&whole), &bytes,
                          end);
      rc = bytes.rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
      if (rc == STRATAKV_OK)
        rc = skv_head_replace(db->store, db->store_id, file, bytes.data,
                              bytes.size, err);
      if (rc == STRATAKV_OK) {
        db->head_doubted = false;
        SKV_POINT("head.rolled");
      }
      skv_buf_clear(&whole);
      skv_buf_clear(&bytes);
      version->pos = end->pos;
      return rc;
    }
    skv_buf_clear(&whole);
  }
  skv_manifest_edit(db->store_id, edit, &bytes, end);
  rc = bytes.rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
  if (rc == STRATAKV_OK)
    rc = skv_head_append(db->store, skv_head_file(end->pos), at, bytes.data,
                         bytes.size, err);
  skv_buf_clear(&bytes);
  version->pos = end->pos;
  return rc;
}

static int head_edit_locked(skv_db *db, skv_edit_build build, void *arg,
                            skv_err *err) {
  skv_buf edit = {0};
  skv_version *version = NULL;
  skv_state *state = NULL;
  int rc = skv_write_fenced(db, err);
  if (rc == STRATAKV_OK) rc = skv_head_settle(db, err);
  if (rc == STRATAKV_OK) rc = build(arg, db->state->version, &edit, err);
  if (rc == STRATAKV_OK && edit.rc != STRATAKV_OK) rc = skv_error_nomem(err);
  if (rc != STRATAKV_OK || edit.size == 0) goto out;
  SKV_POINT("head.built");

  skv_manifest_end end = db->head_end;
  rc = skv_version_apply(&db->tree, db->state->version, skv_buf_bytes(&edit),
                         end.pos + 1, true, err, &version);
  /* INV-10: all that can fail comes before the edit is durable. */
  if (rc == STRATAKV_OK) rc = skv_state_make(db, version, err, &state);
  if (rc == STRATAKV_OK)
    rc = head_write(db, skv_buf_bytes(&edit), version, &end, err);
  if (rc == STRATAKV_OK) rc = skv_write_fenced(db, err); /* P12 */
  if (rc != STRATAKV_OK) goto out;
  SKV_POINT("head.written");
  head_publish(db, &end, state);
  state = NULL;
  SKV_POINT("head.published");

out:
  skv_state_unref(state);
  skv_buf_clear(&edit);
  return skv_write_fence(db, rc); /* a name's or a log's sync in build, too */
}

int skv_head_edit(skv_db *db, skv_edit_build build, void *arg, skv_err *err) {
  int rc = skv_head_lock(db, err);
  if (rc != STRATAKV_OK) return rc;
  rc = head_edit_locked(db, build, arg, err);
  skv_head_unlock(db);
  if (rc == STRATAKV_OK) skv_work_progress(db);
  return rc;
}

/* Only behind edits that were published: of the others nobody knows whether
 * they are on the disk. */
static int head_end_log_locked(skv_db *db, uint64_t lsn, skv_err *err) {
  skv_head_pos published = skv_peek(&db->shared->head);
  uint64_t file = skv_head_file(published);
  skv_manifest_end end;
  skv_version *version = NULL;
  skv_buf edit = {0}, bytes = {0};
  int rc = head_read(db, file, published, true, err, &end, &version);
  if (rc != STRATAKV_OK) return rc;
  skv_version_unref(version);
  if (end.pos != published)
    return SKV_ERROR(err, STRATAKV_BUSY, "another process's edit is pending");
  skv_edit_clean(&edit, lsn);
  skv_manifest_edit(db->store_id, skv_buf_bytes(&edit), &bytes, &end);
  rc = edit.rc == STRATAKV_OK && bytes.rc == STRATAKV_OK ? STRATAKV_OK
                                                         : skv_error_nomem(err);
  if (rc == STRATAKV_OK)
    rc = skv_head_append(db->store, file, skv_head_offset(published),
                         bytes.data, bytes.size, err);
  skv_buf_clear(&bytes);
  skv_buf_clear(&edit);
  return rc;
}

int skv_head_end_log(skv_db *db, uint64_t lsn, skv_err *err) {
  int rc = skv_head_lock(db, err);
  if (rc != STRATAKV_OK) return rc;
  rc = head_end_log_locked(db, lsn, err);
  skv_head_unlock(db);
  return rc;
}

int skv_head_name(skv_db *db, skv_products *products, uint32_t level,
                  uint64_t run, uint64_t ingest_lsn, uint64_t *next,
                  skv_buf *edit, skv_err *err) {
  for (size_t i = 0; i < products->count; i++) {
    skv_product *p = &products->list[i];
    uint64_t number = (*next)++;
    int rc = skv_seg_name(db->store, &p->tmp, number, err);
    if (rc != STRATAKV_OK) return rc;
    SKV_POINT("head.seg_named");
    skv_edit_seg(edit, number, level, run, ingest_lsn, &p->meta,
                 skv_slice_of(NULL, 0));
  }
  if (products->count == 0) return STRATAKV_OK;
  return skv_store_sync_names(db->store, err); /* INV-7 */
}
