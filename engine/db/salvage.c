/*
 * stratakv_salvage: the lock, the head, which files are read. See salvage.h.
 *
 * WHICH FILES  If the manifest verifies to its end, those that it names, as it
 *   says. Else every segment and every log of the directory: what was merged
 *   or flushed and not removed yet is among them, so entries that were deleted
 *   may come back. Of a manifest whose end is damaged the tables are taken.
 *
 * TORN TAIL  Bytes that are no edit, with surely none behind them, are what a
 *   power cut leaves of an edit that was being written. It did nothing yet as
 *   long as every file is there that the edits before it name, and no log is
 *   newer (salvage_judge): then they are all of it.
 *
 * LOST TAIL  Where a log ends nothing of it may be missing that the manifest
 *   (END, CLEAN, the size) or SHARED (its durable word, as far as opening would
 *   believe it) vouches for.
 */
#include "engine/db/salvage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SALVAGE_FIRST_FILE 2
#define SALVAGE_START 4096 /* least LSN of the new store's log */

int skv_salvage_damage(skv_salvage *s, const char *file, uint64_t at,
                       skv_err *err, const char *text) {
  return skv_watcher_find(&s->watcher, STRATAKV_DAMAGE, file, at, err, text);
}

int skv_salvage_note(skv_salvage *s, const char *file, uint64_t at,
                     skv_err *err, const char *text) {
  return skv_watcher_find(&s->watcher, STRATAKV_NOTE, file, at, err, text);
}

/* ---- The directory ------------------------------------------------------- */

/* Nobody has it open, nor will: LOCK is taken, or missing, or on a file system
 * that nobody writes to. Whatever else keeps it from being taken may have to
 * do with this process alone. */
static int salvage_lock(skv_salvage *s, skv_err *err) {
  const skv_dir_info *info = skv_store_info(s->from);
  skv_err why = {0};
  int rc = skv_store_lock_open(s->from, false, &why);
  if (rc == STRATAKV_NOTFOUND) return STRATAKV_OK;
  if (rc == STRATAKV_OK)
    rc = skv_store_lock(s->from, SKV_LOCK_ATTACH, SKV_EXCLUSIVE, &why);
  if (rc == STRATAKV_OK)
    rc = skv_store_lock(s->from, SKV_LOCK_ALIVE, SKV_EXCLUSIVE, &why);
  if (rc == STRATAKV_OK) return rc;
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  if (rc == STRATAKV_BUSY)
    return SKV_ERROR(err, rc, "\"%s\" is open; close it everywhere",
                     info->path);
  if (info->is_read_only) return STRATAKV_OK;
  return SKV_ERROR(err, rc, "whether \"%s\" is open cannot be known: %s",
                   info->path, why.message);
}

/* Before the manifest and the logs: whoever is at work all the same only adds
 * to what they must hold. */
static int salvage_page(skv_salvage *s, skv_err *err) {
  skv_err why = {0};
  int rc = skv_page_copy(s->from, &why, &s->shared);
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  return STRATAKV_OK; /* what cannot be read vouches for nothing */
}

static int salvage_list_one(void *arg, const skv_name *name) {
  skv_salvage *s = arg;
  skv_buf *list = name->kind == SKV_NAME_SEG        ? &s->segs
                  : name->kind == SKV_NAME_WAL      ? &s->wals
                  : name->kind == SKV_NAME_MANIFEST ? &s->manifests
                                                    : NULL;
  if (list) skv_buf_u64(list, name->number);
  return 0;
}

static int compare_numbers(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static size_t salvage_numbers(const skv_buf *list, uint64_t **out) {
  *out = (uint64_t *)(void *)list->data;
  return list->size / sizeof **out;
}

static int salvage_list(skv_salvage *s, skv_err *err) {
  skv_buf *lists[] = {&s->segs, &s->wals, &s->manifests};
  int rc = skv_store_list(s->from, salvage_list_one, s, err);
  size_t total = 0;
  for (int i = 0; rc == STRATAKV_OK && i < 3; i++) {
    uint64_t *numbers;
    size_t count = salvage_numbers(lists[i], &numbers);
    if (lists[i]->rc != STRATAKV_OK) return skv_error_nomem(err);
    if (count > 0) qsort(numbers, count, sizeof *numbers, compare_numbers);
    total += count;
  }
  if (rc != STRATAKV_OK || total > 0) return rc;
  return SKV_ERROR(err, STRATAKV_CANTOPEN, "nothing of a store is at \"%s\"",
                   skv_store_info(s->from)->path);
}

/* ---- The manifest -------------------------------------------------------- */

typedef struct manifest_walk {
  skv_salvage *s;
  char name[SKV_NAME_SIZE];
  skv_buf bytes;
  uint64_t file;
  skv_version *version;
  bool is_whole;
} manifest_walk;

/* Edits as long as they verify, follow one another and fit. */
static int manifest_edits(manifest_walk *walk, uint64_t *at, skv_err *err) {
  uint64_t chain = 0;
  skv_edit_info edit;
  skv_err why = {0};
  int rc = STRATAKV_OK;
  *at = SKV_MANIFEST_HEADER;
  while (rc == STRATAKV_OK &&
         skv_manifest_edit_at(walk->bytes.data, walk->bytes.size,
                              walk->s->store_id, walk->file, *at, &edit) &&
         edit.prev == chain) {
    skv_version *next = NULL;
    rc = skv_version_apply(NULL, walk->version, edit.payload,
                           skv_head_at(walk->file, edit.end), false, &why,
                           &next);
    if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
    if (rc != STRATAKV_OK) return STRATAKV_OK;
    skv_version_unref(walk->version);
    walk->version = next;
    chain = edit.checksum;
    *at = edit.end;
  }
  return rc;
}

/* What this program cannot read is not damaged. */
static int salvage_newer(const skv_err *why, skv_err *err) {
  return SKV_ERROR(err, STRATAKV_NOTADB,
                   "a store of a newer format is not salvaged: %s",
                   why->message);
}

/* Whether a valid edit stands anywhere behind `at`, whatever comes before it,
 * or perhaps does: not every place that looks like one could be tried. */
static int manifest_goes_on(const manifest_walk *walk, uint64_t at,
                            skv_err *err, bool *goes_on) {
  skv_edit_info edit;
  skv_seek seek = skv_seek_new(skv_watcher_pause(&walk->s->watcher));
  int rc =
      skv_manifest_seek(walk->bytes.data, walk->bytes.size, walk->s->store_id,
                        walk->file, &seek, err, &at, &edit, goes_on);
  *goes_on |= seek.untried > 0;
  return rc;
}

static bool salvage_has(const skv_buf *list, uint64_t number) {
  uint64_t *numbers;
  size_t count = salvage_numbers(list, &numbers);
  return count > 0 && bsearch(&number, numbers, count, sizeof number,
                              compare_numbers) != NULL;
}

bool skv_salvage_has_seg(const skv_salvage *s, uint64_t number) {
  return salvage_has(&s->segs, number);
}

/* Whether every file that the version names is there. */
static bool manifest_has_files(const manifest_walk *walk) {
  const skv_version *version = walk->version;
  size_t count;
  skv_segref *const *segs = skv_version_segs(version, &count);
  for (size_t i = 0; i < count; i++)
    if (!salvage_has(&walk->s->segs, segs[i]->number)) return false;
  for (size_t i = 0; i < version->wal_count; i++)
    if (!salvage_has(&walk->s->wals, version->wals[i].number)) return false;
  return true;
}

static int manifest_walk_all(manifest_walk *walk, skv_err *err) {
  skv_salvage *s = walk->s;
  skv_err why = {0};
  uint64_t file, at;
  int rc = skv_manifest_header(walk->bytes.data, walk->bytes.size, walk->name,
                               &why, s->store_id, &file);
  if (rc == STRATAKV_NOTADB && skv_head_is_newer(walk->bytes.data))
    return salvage_newer(&why, err);
  if (rc != STRATAKV_OK)
    return skv_salvage_damage(s, walk->name, 0, err, why.message);
  rc = skv_version_new(NULL, s->store_id, err, &walk->version);
  if (rc == STRATAKV_OK) rc = manifest_edits(walk, &at, err);
  if (rc != STRATAKV_OK) return rc;
  walk->is_whole = at > SKV_MANIFEST_HEADER;
  if (walk->is_whole && at >= walk->bytes.size) return rc;
  if (walk->is_whole) {
    bool goes_on;
    rc = manifest_goes_on(walk, at, err, &goes_on);
    walk->is_whole = !goes_on && manifest_has_files(walk);
  }
  if (rc != STRATAKV_OK) return rc;
  if (walk->is_whole)
    return skv_salvage_note(s, walk->name, at, err,
                            "no edit from here on: one was being written");
  return skv_salvage_damage(s, walk->name, at, err,
                            "the manifest is damaged from here on");
}

/* Manifest `file`; *used if it gave anything. */
static int salvage_manifest(skv_salvage *s, uint64_t file, skv_err *err,
                            bool *used) {
  manifest_walk walk = {.s = s, .file = file};
  skv_name name = {.kind = SKV_NAME_MANIFEST, .number = file};
  skv_err why = {0};
  skv_name_format(&name, walk.name);
  int rc = skv_head_read(s->from, file, 0, &why, &walk.bytes);
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  rc = rc == STRATAKV_OK
           ? manifest_walk_all(&walk, err)
           : skv_salvage_damage(s, walk.name, UINT64_MAX, err, why.message);
  skv_buf_clear(&walk.bytes);
  *used = rc == STRATAKV_OK && walk.version && walk.version->pos != 0;
  if (!*used) {
    skv_version_unref(walk.version);
    return rc;
  }
  s->version = walk.version;
  s->is_whole = walk.is_whole;
  return rc;
}

/* What the manifest says is all there is, but for a log that it does not know
 * with a record in it: then its last edit is missing. */
static void salvage_judge(skv_salvage *s) {
  uint64_t *wals;
  size_t count = salvage_numbers(&s->wals, &wals);
  while (count-- > 0 && wals[count] >= s->version->next_file)
    if (skv_log_has_record(s->from, wals[count], s->store_id))
      s->is_whole = false;
  if (s->version->wal_count == 0) s->is_whole = false;
}

static int salvage_head(skv_salvage *s, skv_err *err) {
  uint8_t id[16];
  uint64_t file = 0, *manifests;
  skv_err why = {0};
  bool used = false;
  size_t count = salvage_numbers(&s->manifests, &manifests);
  int rc = skv_head_current(s->from, &why, id, &file);
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  if (rc == STRATAKV_NOTADB && skv_head_current_is_newer(s->from))
    return salvage_newer(&why, err);
  if (rc == STRATAKV_OK)
    rc = salvage_manifest(s, file, err, &used);
  else
    rc = skv_salvage_damage(s, "CURRENT", 0, err, why.message);
  while (rc == STRATAKV_OK && !used && count-- > 0)
    if (manifests[count] != file)
      rc = salvage_manifest(s, manifests[count], err, &used);
  if (rc != STRATAKV_OK || !used) return rc;
  s->page = skv_page_read(skv_store_env(s->from), s->shared, s->store_id,
                          skv_store_info(s->from)->is_read_only);
  bool before = s->is_whole;
  salvage_judge(s);
  if (before && !s->is_whole)
    rc = skv_salvage_damage(s, "CURRENT", UINT64_MAX, err,
                            "a log is newer than the manifest");
  return rc;
}

/* ---- The files ----------------------------------------------------------- */

static void seg_text(uint64_t number, char text[SKV_NAME_SIZE]) {
  skv_name name = {.kind = SKV_NAME_SEG, .number = number};
  skv_name_format(&name, text);
}

static skv_salvage_ref salvage_ref_of(const skv_segref *ref) {
  return (skv_salvage_ref){ref->number, ref->meta.uid, ref->ingest_lsn,
                           ref->trim};
}

bool skv_salvage_find(const skv_salvage *s, uint64_t number, bool by_uid,
                      skv_salvage_ref *out) {
  size_t count = 0;
  skv_segref *const *segs =
      s->version ? skv_version_segs(s->version, &count) : NULL;
  for (size_t i = 0; i < count; i++)
    if (number == (by_uid ? segs[i]->meta.uid : segs[i]->number)) {
      *out = salvage_ref_of(segs[i]);
      return true;
    }
  return false;
}

/* As the manifest says. */
static int salvage_named(skv_salvage *s, skv_err *err) {
  size_t count;
  const skv_version *version = s->version;
  skv_segref *const *segs = skv_version_segs(version, &count);
  int rc = STRATAKV_OK;
  for (size_t i = 0; rc == STRATAKV_OK && i < count; i++) {
    char text[SKV_NAME_SIZE];
    skv_salvage_ref ref = salvage_ref_of(segs[i]);
    seg_text(segs[i]->number, text);
    rc = skv_salvage_seg(s, text, &ref, err);
    if (rc == STRATAKV_NOTFOUND)
      rc = skv_salvage_damage(s, text, UINT64_MAX, err, "missing");
  }
  for (size_t i = 0; rc == STRATAKV_OK && i < version->wal_count; i++)
    rc = skv_salvage_log(s, version->wals[i].number, &version->wals[i], false,
                         err);
  return rc;
}

/* What is known of a segment of which the manifest may not know, or no more:
 * all of its keys are taken. */
static bool salvage_ref(const skv_salvage *s, uint64_t number,
                        skv_salvage_ref *out) {
  const skv_salvage_ref *list =
      (const skv_salvage_ref *)(const void *)s->ingests.data;
  size_t count = s->ingests.size / sizeof *list;
  bool is_known = skv_salvage_find(s, number, false, out);
  for (size_t i = 0; i < count && !is_known; i++) {
    *out = list[i];
    is_known = out->number == number;
  }
  out->trim = skv_slice_of(NULL, 0);
  return is_known;
}

/* Everything that is there. */
static int salvage_all(skv_salvage *s, skv_err *err) {
  uint64_t *segs, *wals;
  size_t seg_count = salvage_numbers(&s->segs, &segs);
  size_t wal_count = salvage_numbers(&s->wals, &wals);
  int rc = skv_salvage_damage(
      s, ".", UINT64_MAX, err,
      "which files are in use is not known: all are read, and entries that "
      "were deleted may come back");
  for (size_t i = 0; rc == STRATAKV_OK && i < wal_count; i++)
    rc = skv_salvage_log(s, wals[i], NULL, true, err);
  for (size_t i = 0; rc == STRATAKV_OK && i < seg_count; i++) {
    char text[SKV_NAME_SIZE];
    skv_salvage_ref ref;
    bool is_known = salvage_ref(s, segs[i], &ref);
    seg_text(segs[i], text);
    rc = skv_salvage_seg(s, text, is_known ? &ref : NULL, err);
    if (rc == STRATAKV_NOTFOUND) rc = STRATAKV_OK;
  }
  for (size_t i = 0; rc == STRATAKV_OK && i < wal_count; i++)
    rc = skv_salvage_log(s, wals[i], NULL, false, err);
  return rc;
}

/* ---- The new store ------------------------------------------------------- */

/* A name that no table has. */
static void salvage_table_name(const skv_salvage *s, uint32_t id,
                               char name[STRATAKV_MAX_TABLE_NAME + 1]) {
  snprintf(name, STRATAKV_MAX_TABLE_NAME + 1, "table_%u", (unsigned)id);
  while (s->version && skv_version_table(s->version, name)) strcat(name, "_");
}

static bool salvage_has_table(const skv_salvage *s, uint32_t id) {
  for (size_t i = 0; s->version && i < s->version->table_count; i++)
    if (s->version->tables[i].id == id) return true;
  return false;
}

static int salvage_tables(skv_salvage *s, uint64_t *count, skv_err *err) {
  int rc = STRATAKV_OK;
  *count = 0;
  for (size_t i = 0; s->version && i < s->version->table_count; i++) {
    skv_edit_table(&s->target.edit, &s->version->tables[i]);
    ++*count;
  }
  for (uint32_t id = 1; rc == STRATAKV_OK && id <= STRATAKV_MAX_TABLES; id++) {
    if (!(s->tables[id / 8] >> (id % 8) & 1) || salvage_has_table(s, id))
      continue;
    stratakv_table_info table = {.id = id, .key_type = STRATAKV_KEY_BLOB};
    char text[200];
    salvage_table_name(s, id, table.name);
    skv_edit_table(&s->target.edit, &table);
    ++*count;
    snprintf(text, sizeof text,
             "name and key type of table %u are lost: it is called %s, with "
             "blob keys",
             (unsigned)id, table.name);
    rc = skv_salvage_damage(s, "CURRENT", UINT64_MAX, err, text);
  }
  return rc;
}

/* The level where so many bytes belong. */
static uint32_t salvage_level(const skv_products *products) {
  uint64_t bytes = 0, room = UINT64_C(64) << 20;
  uint32_t level = 1;
  for (size_t i = 0; i < products->count; i++)
    bytes += products->list[i].meta.size;
  for (; bytes > room && level < SKV_LEVELS - 1; level++) room *= 10;
  return level;
}

static int salvage_write(skv_salvage *s, skv_err *err, stratakv_salvaged *out) {
  skv_products products = {0};
  int rc = salvage_tables(s, &out->tables, err);
  if (rc == STRATAKV_OK)
    rc = skv_sorter_finish(&s->sorter, &s->watcher, err, &products);
  for (size_t i = 0; i < products.count; i++)
    out->entries += products.list[i].meta.entries;
  if (rc == STRATAKV_OK)
    rc = skv_target_name(&s->target, &products, salvage_level(&products), 0,
                         err);
  skv_products_clear(&products);
  uint64_t start = ((s->sorter.max_lsn | 4095) + 1);
  if (start < SALVAGE_START) start = SALVAGE_START;
  if (rc == STRATAKV_OK)
    rc = skv_target_finish(&s->target, start, SKV_FIRST_WAL, err);
  return rc;
}

/* Each is read, and merged. Of a log most may be zeros: then it ends early. */
static uint64_t salvage_total_of(skv_salvage *s, const skv_buf *list,
                                 int kind) {
  uint64_t total = 0, *numbers;
  size_t count = salvage_numbers(list, &numbers);
  for (size_t i = 0; i < count; i++) {
    char text[SKV_NAME_SIZE];
    skv_name name = {.kind = kind, .number = numbers[i]};
    skv_in *in = NULL;
    skv_name_format(&name, text);
    if (skv_in_open_name(s->from, text, false, NULL, &in) == STRATAKV_OK)
      total += 2 * skv_in_size(in);
    skv_in_close(in);
  }
  return total;
}

static int salvage_run(skv_salvage *s, skv_err *err, stratakv_salvaged *out) {
  s->watcher.total = salvage_total_of(s, &s->segs, SKV_NAME_SEG) +
                     salvage_total_of(s, &s->wals, SKV_NAME_WAL);
  int rc = skv_watcher_step(&s->watcher, 0, err);
  if (rc == STRATAKV_OK) rc = salvage_head(s, err);
  if (rc == STRATAKV_OK)
    rc = s->is_whole ? salvage_named(s, err) : salvage_all(s, err);
  return rc == STRATAKV_OK ? salvage_write(s, err, out) : rc;
}

static void salvage_clear(skv_salvage *s) {
  skv_sorter_clear(&s->sorter);
  skv_free(s->shared);
  skv_version_unref(s->version);
  skv_buf_clear(&s->segs);
  skv_buf_clear(&s->wals);
  skv_buf_clear(&s->manifests);
  skv_buf_clear(&s->ingests);
  skv_store_close(s->from);
  skv_free(s);
}

static int salvage_open(skv_salvage *s, skv_env *env, const char *from,
                        const char *to, skv_err *err) {
  int rc = skv_store_open(env, NULL, from, 0, err, &s->from);
  if (rc == STRATAKV_OK) rc = salvage_list(s, err);
  if (rc == STRATAKV_OK) rc = salvage_lock(s, err);
  if (rc == STRATAKV_OK) rc = salvage_page(s, err);
  if (rc == STRATAKV_OK)
    rc = skv_target_open(env, NULL, to, s->from, SALVAGE_FIRST_FILE, err,
                         &s->target);
  return rc;
}

int skv_salvage_in(skv_env *env, const char *from, const char *to,
                   const stratakv_watch *watch, skv_err *err,
                   stratakv_salvaged *out) {
  stratakv_salvaged kept = {0};
  int rc = STRATAKV_OK;
  if (out) memset(out, 0, sizeof *out);
  if (!from || !*from || !to || !*to)
    return SKV_ERROR(err, STRATAKV_ERROR, "no path");
  skv_salvage *s = skv_new(sizeof *s, &rc);
  if (!s) return skv_error_nomem(err);
  skv_watcher_init(&s->watcher, watch);
  rc = salvage_open(s, env, from, to, err);
  s->sorter.target = &s->target;
  if (rc == STRATAKV_OK) {
    rc = salvage_run(s, err, &kept);
    if (rc == STRATAKV_OK) skv_watcher_end(&s->watcher);
    kept.findings = s->watcher.damages;
    if (rc == STRATAKV_OK && out) *out = kept;
    if (rc != STRATAKV_OK) {
      skv_target_undo_head(&s->target);
      skv_target_undo_files(&s->target);
    }
    skv_target_close(&s->target);
  }
  salvage_clear(s);
  return rc;
}

int stratakv_salvage(const char *from, const char *to,
                     const stratakv_watch *watch, stratakv_error *err,
                     stratakv_salvaged *out) {
  return skv_salvage_in(skv_env_posix(), from, to, watch, err, out);
}
