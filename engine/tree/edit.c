/*
 * Edits: building them, applying them, and writing a version as one. The
 * format and what fits a version stand in version.h.
 *
 * Applying works on a copy of the version's lists. Operands are read through
 * calls that do nothing once the edit was found wrong, so that each operation
 * asks once, after its last operand.
 */
#include <inttypes.h>

#include "engine/tree/version_impl.h"
#include "engine/util/alloc.h"

/* ---- Building ------------------------------------------------------------ */

static void edit_numbers(skv_buf *edit, uint8_t tag, const uint64_t *numbers,
                         size_t count) {
  skv_buf_u8(edit, tag);
  for (size_t i = 0; i < count; i++) skv_buf_varint(edit, numbers[i]);
}

void skv_edit_next(skv_buf *edit, uint64_t next_file) {
  edit_numbers(edit, SKV_EDIT_NEXT, &next_file, 1);
}

void skv_edit_table(skv_buf *edit, const stratakv_table_info *table) {
  uint64_t numbers[2] = {table->id, (uint64_t)table->key_type};
  edit_numbers(edit, SKV_EDIT_TABLE, numbers, 2);
  skv_buf_slice(edit, skv_slice_of(table->name, strlen(table->name)));
}

void skv_edit_wal(skv_buf *edit, uint64_t number, uint64_t start,
                  uint64_t size) {
  uint64_t numbers[3] = {number, start, size};
  edit_numbers(edit, SKV_EDIT_WAL, numbers, 3);
}

void skv_edit_end(skv_buf *edit, uint64_t number, uint64_t end) {
  uint64_t numbers[2] = {number, end};
  edit_numbers(edit, SKV_EDIT_END, numbers, 2);
}

void skv_edit_flushed(skv_buf *edit, uint64_t number) {
  edit_numbers(edit, SKV_EDIT_FLUSHED, &number, 1);
}

void skv_edit_seg(skv_buf *edit, uint64_t number, uint32_t level, uint64_t run,
                  uint64_t ingest_lsn, const skv_seg_meta *meta,
                  skv_slice trim) {
  uint64_t numbers[11] = {
      number,          level,         run,           ingest_lsn,
      meta->uid,       meta->size,    meta->entries, meta->tombstones,
      meta->raw_bytes, meta->min_lsn, meta->max_lsn};
  edit_numbers(edit, SKV_EDIT_SEG, numbers, 11);
  skv_buf_slice(edit, meta->min_key);
  skv_buf_slice(edit, meta->max_key);
  skv_buf_slice(edit, trim);
}

void skv_edit_remove(skv_buf *edit, uint64_t number) {
  edit_numbers(edit, SKV_EDIT_REMOVE, &number, 1);
}

void skv_edit_trim(skv_buf *edit, uint64_t number, skv_slice key) {
  edit_numbers(edit, SKV_EDIT_TRIM, &number, 1);
  skv_buf_slice(edit, key);
}

void skv_edit_clean(skv_buf *edit, uint64_t lsn) {
  edit_numbers(edit, SKV_EDIT_CLEAN, &lsn, 1);
}

void skv_edit_forget(skv_buf *edit, uint64_t wal) {
  edit_numbers(edit, SKV_EDIT_FORGET, &wal, 1);
}

/* ---- A whole version ----------------------------------------------------- */

static void edit_encode_logs(const skv_version *version, skv_buf *edit) {
  bool is_known = version->flushed_wal == 0;
  for (size_t i = 0; i < version->retired_count; i++) {
    skv_edit_flushed(edit, version->retired[i]);
    is_known |= version->retired[i] == version->flushed_wal;
  }
  if (!is_known) {
    skv_edit_flushed(edit, version->flushed_wal);
    skv_edit_forget(edit, version->flushed_wal);
  }
  for (size_t i = 0; i < version->wal_count; i++) {
    const skv_wal_info *wal = &version->wals[i];
    skv_edit_wal(edit, wal->number, wal->start, wal->size);
    if (wal->end != 0) skv_edit_end(edit, wal->number, wal->end);
  }
}

void skv_version_encode(const skv_version *version, skv_buf *edit) {
  const skv_version_object *object = skv_version_object_of(version);
  skv_edit_next(edit, version->next_file);
  for (size_t i = 0; i < version->table_count; i++) {
    skv_edit_table(edit, &version->tables[i]);
  }
  edit_encode_logs(version, edit);
  for (size_t i = 0; i < object->seg_count; i++) {
    const skv_segref *ref = object->segs[i];
    skv_edit_seg(edit, ref->number, ref->level, ref->run, ref->ingest_lsn,
                 &ref->meta, ref->trim);
  }
  if (version->clean != 0) skv_edit_clean(edit, version->clean);
}

/* ---- Applying: the state ------------------------------------------------- */

/* A version's lists while an edit changes them. Bytes in the buffers are
 * arrays of the named type; their memory goes to the version. */
typedef struct edit_state {
  const skv_version *base;
  uint64_t next_file;
  uint64_t clean;
  uint64_t flushed_wal;
  skv_buf wals;     /* skv_wal_info, in order */
  skv_buf retired;  /* uint64_t, ascending */
  skv_buf segs;     /* skv_segref *, by number, each a reference */
  skv_buf tables;   /* stratakv_table_info by id, if has_tables */
  bool has_tables;  /* copied from base, because one came */
  const uint8_t *p; /* the edit, from here */
  const uint8_t *end;
  int rc; /* of the edit: sticky */
  skv_err *err;
} edit_state;

#define EDIT_WRONG(s, ...)                                                     \
  ((s)->rc = SKV_ERROR((s)->err, STRATAKV_CORRUPT, __VA_ARGS__))

/* Make room for item number `at` of `size` bytes and copy it there. */
static void edit_insert(skv_buf *list, size_t at, const void *item,
                        size_t size) {
  size_t behind = list->size - at * size;
  uint8_t *end = skv_buf_reserve(list, size);
  if (end == NULL) return;
  memmove(end - behind + size, end - behind, behind);
  memcpy(end - behind, item, size);
  list->size += size;
}

static void edit_delete(skv_buf *list, size_t at, size_t size) {
  uint8_t *p = list->data + at * size;
  list->size -= size;
  memmove(p, p + size, list->size - at * size);
}

static size_t edit_seg_count(const edit_state *s) {
  return s->segs.size / sizeof(skv_segref *);
}

static skv_segref **edit_segs(const edit_state *s) {
  return (skv_segref **)(void *)s->segs.data;
}

static size_t edit_wal_count(const edit_state *s) {
  return s->wals.size / sizeof(skv_wal_info);
}

static skv_wal_info *edit_wals(const edit_state *s) {
  return (skv_wal_info *)(void *)s->wals.data;
}

static size_t edit_retired_count(const edit_state *s) {
  return s->retired.size / sizeof(uint64_t);
}

static uint64_t *edit_retired(const edit_state *s) {
  return (uint64_t *)(void *)s->retired.data;
}

static void edit_copy_base(edit_state *s) {
  const skv_version *base = s->base;
  const skv_version_object *object = skv_version_object_of(base);
  s->next_file = base->next_file;
  s->flushed_wal = base->flushed_wal;
  skv_buf_append(&s->wals, base->wals, base->wal_count * sizeof *base->wals);
  skv_buf_append(&s->retired, base->retired,
                 base->retired_count * sizeof *base->retired);
  skv_buf_append(&s->segs, object->segs,
                 object->seg_count * sizeof *object->segs);
  if (s->segs.rc != STRATAKV_OK) return;
  for (size_t i = 0; i < object->seg_count; i++) {
    skv_segref_ref(object->segs[i]);
  }
}

static void edit_clear(edit_state *s) {
  for (size_t i = 0; i < edit_seg_count(s); i++) {
    skv_segref_unref(edit_segs(s)[i]);
  }
  skv_buf_clear(&s->segs);
  skv_buf_clear(&s->wals);
  skv_buf_clear(&s->retired);
  skv_buf_clear(&s->tables);
}

/* ---- Applying: operands -------------------------------------------------- */

static uint64_t edit_take(edit_state *s) {
  uint64_t v = 0;
  if (s->rc != STRATAKV_OK) return 0;
  const uint8_t *p = skv_varint_get(s->p, s->end, &v);
  if (p == NULL) {
    EDIT_WRONG(s, "edit ends within an operation");
    return 0;
  }
  s->p = p;
  return v;
}

static skv_slice edit_take_slice(edit_state *s) {
  skv_slice slice = {NULL, 0};
  if (s->rc != STRATAKV_OK) return slice;
  const uint8_t *p = skv_slice_get(s->p, s->end, &slice);
  if (p == NULL) {
    EDIT_WRONG(s, "edit ends within an operation");
    return skv_slice_of(NULL, 0);
  }
  s->p = p;
  return slice;
}

/* ---- Applying: operations ------------------------------------------------ */

static void edit_op_next(edit_state *s) {
  uint64_t next = edit_take(s);
  if (s->rc != STRATAKV_OK) return;
  if (next < s->next_file) {
    EDIT_WRONG(s, "next file number sinks to %" PRIu64, next);
    return;
  }
  s->next_file = next;
}

static bool edit_name_ok(skv_slice name) {
  if (name.size == 0 || name.size > STRATAKV_MAX_TABLE_NAME) return false;
  for (size_t i = 0; i < name.size; i++) {
    uint8_t c = name.data[i];
    bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    bool is_digit = c >= '0' && c <= '9';
    if (!is_letter && c != '_' && !(is_digit && i > 0)) return false;
  }
  return true;
}

static void edit_copy_tables(edit_state *s) {
  if (s->has_tables) return;
  s->has_tables = true;
  skv_buf_append(&s->tables, s->base->tables,
                 s->base->table_count * sizeof *s->base->tables);
}

static void edit_op_table(edit_state *s) {
  uint64_t id = edit_take(s);
  uint64_t type = edit_take(s);
  skv_slice name = edit_take_slice(s);
  if (s->rc != STRATAKV_OK) return;
  if (id == 0 || id > STRATAKV_MAX_TABLES || type < STRATAKV_KEY_TEXT ||
      type > STRATAKV_KEY_INT || !edit_name_ok(name)) {
    EDIT_WRONG(s, "invalid table %" PRIu64, id);
    return;
  }
  stratakv_table_info table = {.id = (uint32_t)id, .key_type = (int)type};
  memcpy(table.name, name.data, name.size);
  edit_copy_tables(s);
  if (s->tables.rc != STRATAKV_OK) return;
  const stratakv_table_info *list =
      (const stratakv_table_info *)(void *)s->tables.data;
  size_t count = s->tables.size / sizeof *list;
  size_t at = 0;
  for (size_t i = 0; i < count; i++) {
    if (list[i].id == table.id || strcmp(list[i].name, table.name) == 0) {
      EDIT_WRONG(s, "table %" PRIu64 " exists twice", id);
      return;
    }
    if (list[i].id < table.id) at = i + 1;
  }
  edit_insert(&s->tables, at, &table, sizeof table);
}

static void edit_op_wal(edit_state *s) {
  skv_wal_info wal = {0};
  wal.number = edit_take(s);
  wal.start = edit_take(s);
  wal.size = edit_take(s);
  if (s->rc != STRATAKV_OK) return;
  edit_insert(&s->wals, edit_wal_count(s), &wal, sizeof wal);
}

static void edit_op_end(edit_state *s) {
  uint64_t number = edit_take(s);
  uint64_t end = edit_take(s);
  if (s->rc != STRATAKV_OK) return;
  skv_wal_info *wals = edit_wals(s);
  for (size_t i = 0; i < edit_wal_count(s); i++) {
    if (wals[i].number != number) continue;
    if (end == 0 || end < wals[i].start || end - wals[i].start > wals[i].size ||
        (wals[i].end != 0 && wals[i].end != end)) {
      EDIT_WRONG(s, "log %" PRIu64 " cannot end at %" PRIu64, number, end);
    }
    wals[i].end = end;
    return;
  }
  EDIT_WRONG(s, "end of log %" PRIu64 ", which is not there", number);
}

static void edit_op_flushed(edit_state *s) {
  uint64_t number = edit_take(s);
  if (s->rc != STRATAKV_OK) return;
  bool is_first = s->base->pos == 0 && edit_wal_count(s) == 0;
  const skv_wal_info *oldest = edit_wals(s);
  bool is_oldest =
      edit_wal_count(s) > 0 && oldest->number == number && oldest->end != 0;
  if ((!is_oldest && !is_first) || number <= s->flushed_wal) {
    EDIT_WRONG(s, "log %" PRIu64 " cannot be flushed", number);
    return;
  }
  if (is_oldest) edit_delete(&s->wals, 0, sizeof *oldest);
  s->flushed_wal = number;
  edit_insert(&s->retired, edit_retired_count(s), &number, sizeof number);
}

static void edit_op_forget(edit_state *s) {
  uint64_t number = edit_take(s);
  if (s->rc != STRATAKV_OK) return;
  for (size_t i = 0; i < edit_retired_count(s); i++) {
    if (edit_retired(s)[i] == number) {
      edit_delete(&s->retired, i, sizeof number);
      return;
    }
  }
  EDIT_WRONG(s, "log %" PRIu64 " is not retired", number);
}

static bool edit_key_ok(skv_slice key) {
  return key.size >= SKV_TABLE_PREFIX &&
         key.size <= SKV_TABLE_PREFIX + STRATAKV_MAX_KEY;
}

/* Whether one segment's description makes sense by itself. */
static bool edit_seg_ok(const skv_segref *ref, uint64_t level) {
  const skv_seg_meta *meta = &ref->meta;
  if (ref->number == 0 || level >= SKV_LEVELS) return false;
  if (level > 0 && ref->run != 0) return false;
  if (meta->size == 0 || meta->entries == 0 ||
      meta->tombstones > meta->entries || meta->min_lsn > meta->max_lsn) {
    return false;
  }
  skv_slice start = skv_segref_start(ref);
  if (!edit_key_ok(meta->min_key) || !edit_key_ok(meta->max_key) ||
      !edit_key_ok(start)) {
    return false;
  }
  return skv_compare(meta->min_key, start) <= 0 &&
         skv_compare(start, meta->max_key) <= 0;
}

/* Put a copy of `ref` into the list at `at`, in place of what `is_there`. */
static void edit_put_seg(edit_state *s, size_t at, bool is_there,
                         const skv_segref *ref) {
  skv_segref *copy = skv_segref_copy(ref);
  if (copy == NULL) {
    s->rc = skv_error_nomem(s->err);
    return;
  }
  if (is_there) {
    skv_segref_unref(edit_segs(s)[at]);
    edit_segs(s)[at] = copy;
    return;
  }
  edit_insert(&s->segs, at, &copy, sizeof copy);
  if (s->segs.rc != STRATAKV_OK) skv_segref_unref(copy);
}

static void edit_op_seg(edit_state *s) {
  skv_segref ref = {0};
  ref.number = edit_take(s);
  uint64_t level = edit_take(s);
  ref.run = edit_take(s);
  ref.ingest_lsn = edit_take(s);
  ref.meta.uid = edit_take(s);
  ref.meta.size = edit_take(s);
  ref.meta.entries = edit_take(s);
  ref.meta.tombstones = edit_take(s);
  ref.meta.raw_bytes = edit_take(s);
  ref.meta.min_lsn = edit_take(s);
  ref.meta.max_lsn = edit_take(s);
  ref.meta.min_key = edit_take_slice(s);
  ref.meta.max_key = edit_take_slice(s);
  ref.trim = edit_take_slice(s);
  if (s->rc != STRATAKV_OK) return;
  ref.level = (uint32_t)level;
  if (!edit_seg_ok(&ref, level)) {
    EDIT_WRONG(s, "invalid segment %" PRIu64, ref.number);
    return;
  }
  size_t count = edit_seg_count(s);
  size_t at = skv_segs_find(edit_segs(s), count, ref.number);
  if (at < count && edit_segs(s)[at]->number == ref.number) {
    EDIT_WRONG(s, "segment %" PRIu64 " exists twice", ref.number);
    return;
  }
  edit_put_seg(s, at, false, &ref);
}

/* The place of a segment that an operation names; *at is only valid if the
 * edit is still right afterwards. */
static void edit_find_seg(edit_state *s, uint64_t number, size_t *at) {
  size_t count = edit_seg_count(s);
  *at = skv_segs_find(edit_segs(s), count, number);
  if (*at == count || edit_segs(s)[*at]->number != number) {
    EDIT_WRONG(s, "segment %" PRIu64 " is not there", number);
  }
}

static void edit_op_remove(edit_state *s) {
  uint64_t number = edit_take(s);
  size_t at = 0;
  if (s->rc == STRATAKV_OK) edit_find_seg(s, number, &at);
  if (s->rc != STRATAKV_OK) return;
  skv_segref_unref(edit_segs(s)[at]);
  edit_delete(&s->segs, at, sizeof(skv_segref *));
}

static void edit_op_trim(edit_state *s) {
  uint64_t number = edit_take(s);
  skv_slice key = edit_take_slice(s);
  size_t at = 0;
  if (s->rc == STRATAKV_OK) edit_find_seg(s, number, &at);
  if (s->rc != STRATAKV_OK) return;
  skv_segref ref = *edit_segs(s)[at];
  if (!edit_key_ok(key) || skv_compare(key, skv_segref_start(&ref)) <= 0 ||
      skv_compare(key, ref.meta.max_key) > 0) {
    EDIT_WRONG(s, "invalid trim of segment %" PRIu64, number);
    return;
  }
  ref.trim = key;
  edit_put_seg(s, at, true, &ref);
}

static void edit_op_clean(edit_state *s) {
  s->clean = edit_take(s);
  if (s->rc != STRATAKV_OK) return;
  if (s->clean == 0) EDIT_WRONG(s, "clean at LSN 0");
}

/* ---- Applying: the whole ------------------------------------------------- */

static void edit_op(edit_state *s, uint8_t tag) {
  switch (tag) {
  case SKV_EDIT_NEXT: edit_op_next(s); break;
  case SKV_EDIT_TABLE: edit_op_table(s); break;
  case SKV_EDIT_WAL: edit_op_wal(s); break;
  case SKV_EDIT_END: edit_op_end(s); break;
  case SKV_EDIT_FLUSHED: edit_op_flushed(s); break;
  case SKV_EDIT_SEG: edit_op_seg(s); break;
  case SKV_EDIT_REMOVE: edit_op_remove(s); break;
  case SKV_EDIT_TRIM: edit_op_trim(s); break;
  case SKV_EDIT_CLEAN: edit_op_clean(s); break;
  case SKV_EDIT_FORGET: edit_op_forget(s); break;
  default:
    s->rc = SKV_ERROR(s->err, STRATAKV_NOTADB,
                      "unknown operation %u in an edit", (unsigned)tag);
  }
}

/* A failed allocation in a list; after it, list and count may differ. */
static bool edit_out_of_memory(edit_state *s) {
  if (s->rc == STRATAKV_NOMEM) return true;
  if (s->wals.rc == STRATAKV_OK && s->retired.rc == STRATAKV_OK &&
      s->segs.rc == STRATAKV_OK && s->tables.rc == STRATAKV_OK) {
    return false;
  }
  s->rc = skv_error_nomem(s->err);
  return true;
}

static void edit_run(edit_state *s, skv_slice edit) {
  edit_copy_base(s);
  if (edit.size == 0) return;
  s->p = edit.data;
  s->end = edit.data + edit.size;
  while (!edit_out_of_memory(s) && s->rc == STRATAKV_OK && s->p < s->end) {
    uint8_t tag = *s->p++;
    edit_op(s, tag);
  }
}

static bool edit_is_seg(const edit_state *s, uint64_t number) {
  size_t count = edit_seg_count(s);
  size_t at = skv_segs_find(edit_segs(s), count, number);
  return at < count && edit_segs(s)[at]->number == number;
}

static void edit_check_wals(edit_state *s) {
  uint64_t number = s->flushed_wal;
  uint64_t start = 0;
  const skv_wal_info *wals = edit_wals(s);
  for (size_t i = 0; i < edit_wal_count(s) && s->rc == STRATAKV_OK; i++) {
    const skv_wal_info *wal = &wals[i];
    uint64_t limit;
    if (wal->number <= number || wal->number >= s->next_file ||
        edit_is_seg(s, wal->number)) {
      EDIT_WRONG(s, "log %" PRIu64 " has a wrong number", wal->number);
    } else if (wal->start < start || wal->size == 0 ||
               __builtin_add_overflow(wal->start, wal->size, &limit)) {
      EDIT_WRONG(s, "log %" PRIu64 " has a wrong place", wal->number);
    } else if (wal->end == 0 && i + 1 < edit_wal_count(s)) {
      EDIT_WRONG(s, "log %" PRIu64 " has no end", wal->number);
    }
    number = wal->number;
    start = wal->end;
  }
}

/* What FITS says about numbers and logs, after the last operation. */
static void edit_check(edit_state *s) {
  size_t count = edit_seg_count(s);
  if (s->rc != STRATAKV_OK) return;
  if (count > 0 && edit_segs(s)[count - 1]->number >= s->next_file) {
    EDIT_WRONG(s, "segment %" PRIu64 " is not below the next file number",
               edit_segs(s)[count - 1]->number);
    return;
  }
  if (s->flushed_wal >= s->next_file) {
    EDIT_WRONG(s, "log %" PRIu64 " is not below the next file number",
               s->flushed_wal);
    return;
  }
  for (size_t i = 0; i < edit_retired_count(s); i++) {
    if (edit_is_seg(s, edit_retired(s)[i])) {
      EDIT_WRONG(s, "log %" PRIu64 " has a wrong number", edit_retired(s)[i]);
      return;
    }
  }
  edit_check_wals(s);
}

/* The tables of the new version: base's, or the changed copy. */
static skv_tables *edit_tables(edit_state *s) {
  skv_tables *tables = skv_version_object_of(s->base)->tables;
  if (!s->has_tables) {
    if (tables != NULL) {
      atomic_fetch_add_explicit(&tables->refs, 1, memory_order_relaxed);
    }
    return tables;
  }
  tables = skv_malloc(sizeof *tables + s->tables.size);
  if (tables == NULL) {
    s->rc = skv_error_nomem(s->err);
    return NULL;
  }
  atomic_init(&tables->refs, 1);
  tables->count = s->tables.size / sizeof tables->list[0];
  memcpy(tables->list, s->tables.data, s->tables.size);
  return tables;
}

/* Move a list's memory out of its buffer. */
static void *edit_give(skv_buf *list) {
  void *data = list->data;
  memset(list, 0, sizeof *list);
  return data;
}

/* The lists become a version, which owns them from here on. */
static skv_version_object *edit_build(edit_state *s, skv_head_pos pos) {
  skv_version_object *object = skv_version_alloc(&s->rc);
  if (object == NULL) {
    skv_error_nomem(s->err);
    return NULL;
  }
  skv_version *version = &object->base;
  version->pos = pos;
  memcpy(version->store_id, s->base->store_id, sizeof version->store_id);
  version->next_file = s->next_file;
  version->clean = s->clean;
  version->flushed_wal = s->flushed_wal;
  object->tables = edit_tables(s);
  if (object->tables != NULL) {
    version->tables = object->tables->list;
    version->table_count = object->tables->count;
  }
  version->wal_count = edit_wal_count(s);
  version->wals = edit_give(&s->wals);
  version->retired_count = edit_retired_count(s);
  version->retired = edit_give(&s->retired);
  object->seg_count = edit_seg_count(s);
  object->segs = edit_give(&s->segs);
  return object;
}

int skv_version_apply(skv_tree *tree, const skv_version *base, skv_slice edit,
                      skv_head_pos pos, bool open_files, skv_err *err,
                      skv_version **out) {
  edit_state s = {.base = base, .err = err};
  skv_version_object *object = NULL;
  *out = NULL;
  edit_run(&s, edit);
  edit_check(&s);
  if (s.rc != STRATAKV_OK) goto out;
  object = edit_build(&s, pos);
  if (s.rc != STRATAKV_OK) goto out;
  s.rc = skv_version_arrange(object, err);
  if (s.rc == STRATAKV_OK && open_files) {
    s.rc = skv_version_open(tree, &object->base, base, err);
  }

out:
  edit_clear(&s);
  if (s.rc != STRATAKV_OK) {
    skv_version_unref(object ? &object->base : NULL);
    return s.rc;
  }
  *out = &object->base;
  return STRATAKV_OK;
}
