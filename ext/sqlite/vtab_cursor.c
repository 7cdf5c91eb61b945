/*
 * Reading: xOpen to xClose.
 *
 * A plan number (plan.h) and its arguments become one of three walks:
 *   POINT  one key, read in xFilter, no engine cursor
 *   LIST   sorted keys of an IN, read one by one; over a transaction by
 *          seeking an engine cursor, whose view is fixed, since the
 *          transaction goes on changing
 *   SCAN   an engine cursor over [low, high)
 *
 * What a cursor shows is fixed in xFilter (INV-4): it holds a reference to the
 * view, or an engine cursor, which holds one to the transaction's state.
 * Buffers live as long as the cursor object, and the table keeps a closed one
 * for the next xOpen, so that a repeated lookup allocates nothing here.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "ext/sqlite/plan.h"
#include "ext/sqlite/vtab.h"

SQLITE_EXTENSION_INIT3

/* What a spare cursor may keep in each buffer. */
#define SPARE_KEEP 65536u

typedef enum cursor_walk {
  WALK_NONE,
  WALK_POINT,
  WALK_LIST,
  WALK_SCAN
} cursor_walk;

typedef struct cursor_list_key {
  const uint8_t *data; /* into low; an offset until the list is complete */
  size_t len;
} cursor_list_key;

struct skv_sql_cursor {
  sqlite3_vtab_cursor base; /* first: the core sees this */
  cursor_walk walk;
  int plan;
  int is_eof;
  stratakv_cursor *scan; /* SCAN; LIST over a transaction */
  skv_sql_view *view;    /* what is read when no transaction runs, or NULL */

  skv_sql_buf low;  /* POINT: the key. LIST: all keys. SCAN: first key */
  skv_sql_buf high; /* SCAN: the end, exclusive */
  int has_low;
  int has_high;
  cursor_list_key *list;
  size_t list_count;
  size_t list_capacity;
  size_t list_at; /* the next one to try, from the start or from the end */
  stratakv_value value; /* POINT and LIST: the entry */
};

static skv_sql_cursor *cursor_of(sqlite3_vtab_cursor *pCursor) {
  return (skv_sql_cursor *)pCursor;
}

static skv_sql_vtab *cursor_table(const skv_sql_cursor *cursor) {
  return (skv_sql_vtab *)cursor->base.pVtab;
}

static int cursor_fail(skv_sql_cursor *cursor, int code,
                       const stratakv_error *err) {
  cursor->is_eof = 1;
  return skv_sql_vtab_engine_fail(cursor_table(cursor), code, err);
}

/* ---- Open and close ---------------------------------------------------- */

int skv_sql_cursor_open(sqlite3_vtab *pVtab, sqlite3_vtab_cursor **ppCursor) {
  skv_sql_vtab *vtab = (skv_sql_vtab *)pVtab;
  skv_sql_cursor *cursor = vtab->spare;
  int rc = skv_sql_vtab_open(vtab);
  if (rc != SQLITE_OK) return rc;
  if (cursor != NULL) {
    vtab->spare = NULL;
  } else {
    cursor = sqlite3_malloc64(sizeof *cursor);
    if (cursor == NULL) return SQLITE_NOMEM;
    memset(cursor, 0, sizeof *cursor);
  }
  cursor->is_eof = 1;
  skv_sql_context_enter(vtab->context);
  *ppCursor = &cursor->base;
  return SQLITE_OK;
}

/* Let go of what the last xFilter took, keeping the buffers. */
static void cursor_reset(skv_sql_cursor *cursor) {
  stratakv_cursor_close(cursor->scan);
  cursor->scan = NULL;
  skv_sql_view_unref(cursor->view);
  cursor->view = NULL;
  cursor->walk = WALK_NONE;
  cursor->is_eof = 1;
  cursor->has_low = 0;
  cursor->has_high = 0;
  cursor->list_count = 0;
  cursor->list_at = 0;
  cursor->value.size = 0;
  cursor->value.version = 0;
}

void skv_sql_cursor_free(skv_sql_cursor *cursor) {
  if (cursor == NULL) return;
  skv_sql_buf_trim(&cursor->low, 0);
  skv_sql_buf_trim(&cursor->high, 0);
  stratakv_value_clear(&cursor->value);
  sqlite3_free(cursor->list);
  sqlite3_free(cursor);
}

int skv_sql_cursor_close(sqlite3_vtab_cursor *pCursor) {
  skv_sql_cursor *cursor = cursor_of(pCursor);
  skv_sql_vtab *vtab = cursor_table(cursor);
  cursor_reset(cursor);
  skv_sql_context_exit(vtab->context);
  if (vtab->spare != NULL) {
    skv_sql_cursor_free(cursor);
    return SQLITE_OK;
  }
  skv_sql_buf_trim(&cursor->low, SPARE_KEEP);
  skv_sql_buf_trim(&cursor->high, SPARE_KEEP);
  if (cursor->value.capacity > SPARE_KEEP) stratakv_value_clear(&cursor->value);
  vtab->spare = cursor;
  return SQLITE_OK;
}

/* ---- Points and lists -------------------------------------------------- */

/* Does anything but the key's existence matter? */
static int cursor_wants_entry(const skv_sql_cursor *cursor) {
  return !(cursor->plan & SKV_SQL_PLAN_KEYS) ||
         (cursor->plan & SKV_SQL_PLAN_VERSION);
}

/* Read one key as the view shows it; without a view, within xFilter, as the
 * transaction does. */
static int cursor_get(skv_sql_cursor *cursor, const void *key, size_t len,
                      stratakv_error *err) {
  skv_sql_vtab *vtab = cursor_table(cursor);
  stratakv_value *value = cursor_wants_entry(cursor) ? &cursor->value : NULL;
  if (cursor->view == NULL) {
    return stratakv_txn_get(skv_sql_context_txn(vtab->context), vtab->table,
                            key, len, err, value);
  }
  return stratakv_get(skv_sql_context_store(vtab->context),
                      cursor->view->snapshot, vtab->table, key, len, err,
                      value);
}

static int filter_point(skv_sql_cursor *cursor, sqlite3_value *operand) {
  stratakv_error err = {0, ""};
  skv_sql_key key;
  int rc =
      skv_sql_key_lookup(operand, cursor_table(cursor)->args.key_type, &key);
  if (rc == SQLITE_NOTFOUND) return SQLITE_OK;
  if (rc != SQLITE_OK) return rc;
  rc = skv_sql_buf_set(&cursor->low, key.data, key.len, NULL, 0);
  if (rc != SQLITE_OK) return rc;
  cursor->walk = WALK_POINT;
  rc = cursor_get(cursor, cursor->low.data, cursor->low.len, &err);
  if (rc == STRATAKV_NOTFOUND) return SQLITE_OK;
  if (rc != STRATAKV_OK) return cursor_fail(cursor, rc, &err);
  cursor->is_eof = 0;
  return SQLITE_OK;
}

static int list_compare(const void *a, const void *b) {
  const cursor_list_key *x = a;
  const cursor_list_key *y = b;
  size_t n = x->len < y->len ? x->len : y->len;
  int order = n > 0 ? memcmp(x->data, y->data, n) : 0;
  return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static int list_append(skv_sql_cursor *cursor, const skv_sql_key *key) {
  int rc;
  if (cursor->list_count == cursor->list_capacity) {
    size_t capacity = cursor->list_capacity * 2 + 16;
    cursor_list_key *list =
        sqlite3_realloc64(cursor->list, capacity * sizeof *list);
    if (list == NULL) return SQLITE_NOMEM;
    cursor->list = list;
    cursor->list_capacity = capacity;
  }
  cursor->list[cursor->list_count++].len = key->len;
  rc = skv_sql_buf_append(&cursor->low, key->data, key->len);
  return rc;
}

/* Gather the operand's values; those that no key can equal are dropped. */
static int list_gather(skv_sql_cursor *cursor, sqlite3_value *operand) {
  int key_type = cursor_table(cursor)->args.key_type;
  sqlite3_value *item;
  skv_sql_key key;
  int rc;
  cursor->low.len = 0;
  for (rc = sqlite3_vtab_in_first(operand, &item);
       rc == SQLITE_OK && item != NULL;
       rc = sqlite3_vtab_in_next(operand, &item)) {
    int found = skv_sql_key_lookup(item, key_type, &key);
    if (found == SQLITE_NOTFOUND) continue;
    if (found == SQLITE_OK) found = list_append(cursor, &key);
    if (found != SQLITE_OK) return found;
  }
  return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Sort, drop doubles. Only here do the keys get addresses: low had to grow. */
static void list_finish(skv_sql_cursor *cursor) {
  const uint8_t *at = cursor->low.data;
  size_t kept = 0;
  for (size_t i = 0; i < cursor->list_count; i++) {
    cursor->list[i].data = at;
    at += cursor->list[i].len;
  }
  if (cursor->list_count < 2) return;
  qsort(cursor->list, cursor->list_count, sizeof *cursor->list, list_compare);
  for (size_t i = 1; i < cursor->list_count; i++) {
    if (list_compare(&cursor->list[kept], &cursor->list[i]) != 0) {
      cursor->list[++kept] = cursor->list[i];
    }
  }
  cursor->list_count = kept + 1;
}

/* The key that the walk stands on, or tries, at position n. */
static const cursor_list_key *list_key(const skv_sql_cursor *cursor, size_t n) {
  int is_back = cursor->plan & SKV_SQL_PLAN_DESC;
  return &cursor->list[is_back ? cursor->list_count - 1 - n : n];
}

static int list_try(skv_sql_cursor *cursor, const cursor_list_key *key,
                    int *is_found, stratakv_error *err) {
  int rc;
  *is_found = 0;
  if (cursor->scan != NULL) {
    size_t len;
    const void *at;
    rc = stratakv_cursor_seek(cursor->scan, key->data, key->len, err);
    if (rc != STRATAKV_OK || !stratakv_cursor_valid(cursor->scan)) return rc;
    at = stratakv_cursor_key(cursor->scan, &len);
    *is_found =
        len == key->len && (len == 0 || memcmp(at, key->data, len) == 0);
    return STRATAKV_OK;
  }
  rc = cursor_get(cursor, key->data, key->len, err);
  *is_found = rc == STRATAKV_OK;
  return rc == STRATAKV_NOTFOUND ? STRATAKV_OK : rc;
}

/* Go to the next key of the list that is there. */
static int list_next(skv_sql_cursor *cursor) {
  stratakv_error err = {0, ""};
  cursor->is_eof = 1;
  while (cursor->list_at < cursor->list_count) {
    int is_found;
    int rc =
        list_try(cursor, list_key(cursor, cursor->list_at), &is_found, &err);
    if (rc != STRATAKV_OK) return cursor_fail(cursor, rc, &err);
    cursor->list_at++;
    if (is_found) {
      cursor->is_eof = 0;
      return SQLITE_OK;
    }
  }
  return SQLITE_OK;
}

static int scan_open(skv_sql_cursor *cursor, const stratakv_range *range) {
  skv_sql_vtab *vtab = cursor_table(cursor);
  stratakv_error err = {0, ""};
  int rc = stratakv_cursor_open(
      skv_sql_context_store(vtab->context),
      cursor->view != NULL ? cursor->view->snapshot : NULL,
      cursor->view != NULL ? NULL : skv_sql_context_txn(vtab->context),
      vtab->table, range, &err, &cursor->scan);
  return rc == STRATAKV_OK ? SQLITE_OK : cursor_fail(cursor, rc, &err);
}

static int filter_list(skv_sql_cursor *cursor, sqlite3_value *operand) {
  int rc = list_gather(cursor, operand);
  if (rc != SQLITE_OK || cursor->list_count == 0) return rc;
  list_finish(cursor);
  cursor->walk = WALK_LIST;
  if (cursor->view == NULL) {
    stratakv_range range;
    memset(&range, 0, sizeof range);
    range.keys_only = (cursor->plan & SKV_SQL_PLAN_KEYS) != 0;
    rc = scan_open(cursor, &range);
    if (rc != SQLITE_OK) return rc;
  }
  return list_next(cursor);
}

/* ---- Ranges ------------------------------------------------------------ */

static int bytes_compare(const skv_sql_buf *a, const void *b, size_t b_len) {
  size_t n = a->len < b_len ? a->len : b_len;
  int order = n > 0 ? memcmp(a->data, b, n) : 0;
  return order != 0 ? order : (a->len > b_len) - (a->len < b_len);
}

/* Raise the start to bytes, or just behind them (bytes and a zero byte). */
static int range_raise(skv_sql_cursor *cursor, const void *bytes, size_t len,
                       int is_behind) {
  size_t extra = is_behind ? 1 : 0;
  int order = cursor->has_low ? bytes_compare(&cursor->low, bytes, len) : -1;
  if (order > 0 || (order == 0 && !is_behind)) return SQLITE_OK;
  cursor->has_low = 1;
  return skv_sql_buf_set(&cursor->low, bytes, len, "", extra);
}

/* Lower the end, which is exclusive, likewise. */
static int range_lower(skv_sql_cursor *cursor, const void *bytes, size_t len,
                       int is_behind) {
  size_t extra = is_behind ? 1 : 0;
  int order = cursor->has_high ? bytes_compare(&cursor->high, bytes, len) : 1;
  if (order <= 0) return SQLITE_OK;
  cursor->has_high = 1;
  return skv_sql_buf_set(&cursor->high, bytes, len, "", extra);
}

/* One comparison. *is_empty if no key satisfies it. */
static int range_bound(skv_sql_cursor *cursor, skv_sql_arg op,
                       sqlite3_value *operand, int *is_empty) {
  int is_lower = op == SKV_SQL_ARG_GT || op == SKV_SQL_ARG_GE;
  int is_strict = op == SKV_SQL_ARG_GT || op == SKV_SQL_ARG_LT;
  skv_sql_key key;
  int rc = skv_sql_key_bound(operand, cursor_table(cursor)->args.key_type,
                             is_lower, &is_strict, &key);
  if (rc == SQLITE_NOTFOUND) *is_empty = 1;
  if (rc == SQLITE_NOTFOUND || rc == SQLITE_DONE) return SQLITE_OK;
  if (rc != SQLITE_OK) return rc;
  return is_lower ? range_raise(cursor, key.data, key.len, is_strict)
                  : range_lower(cursor, key.data, key.len, !is_strict);
}

/* Everything that begins with the pattern's text up to its first wildcard. A
 * zero byte ends the pattern as it does in the core's glob(). */
static int range_prefix(skv_sql_cursor *cursor, sqlite3_value *operand,
                        int *is_empty) {
  const unsigned char *pattern;
  size_t len;
  int rc;
  if (sqlite3_value_type(operand) == SQLITE_NULL) *is_empty = 1;
  if (*is_empty || sqlite3_value_type(operand) == SQLITE_BLOB) return SQLITE_OK;
  pattern = sqlite3_value_text(operand);
  if (pattern == NULL) return SQLITE_NOMEM;
  len = strcspn((const char *)pattern, "*?[");
  if (len == 0 || len >= STRATAKV_MAX_KEY) return SQLITE_OK;
  rc = range_raise(cursor, pattern, len, 0);
  if (rc != SQLITE_OK) return rc;

  while (len > 0 && pattern[len - 1] == 0xff) len--;
  if (len == 0) return SQLITE_OK;
  {
    /* The end is the prefix with its last byte increased. */
    unsigned char last = (unsigned char)(pattern[len - 1] + 1);
    skv_sql_buf end = {NULL, 0, 0};
    rc = skv_sql_buf_set(&end, pattern, len - 1, &last, 1);
    if (rc == SQLITE_OK) rc = range_lower(cursor, end.data, end.len, 0);
    skv_sql_buf_trim(&end, 0);
  }
  return rc;
}

static int filter_bounds(skv_sql_cursor *cursor, int argc, sqlite3_value **argv,
                         int *is_empty) {
  for (int i = 0; i < argc && !*is_empty; i++) {
    skv_sql_arg op = SKV_SQL_PLAN_ARG(cursor->plan, i);
    int rc = op == SKV_SQL_ARG_GLOB
                 ? range_prefix(cursor, argv[i], is_empty)
                 : range_bound(cursor, op, argv[i], is_empty);
    if (rc != SQLITE_OK) return rc;
  }
  if (cursor->has_low && cursor->has_high &&
      bytes_compare(&cursor->low, cursor->high.data, cursor->high.len) >= 0) {
    *is_empty = 1;
  }
  return SQLITE_OK;
}

static int scan_move(skv_sql_cursor *cursor, int is_first) {
  stratakv_error err = {0, ""};
  int is_back = cursor->plan & SKV_SQL_PLAN_DESC;
  int rc;
  if (is_first) {
    rc = is_back ? stratakv_cursor_last(cursor->scan, &err)
                 : stratakv_cursor_first(cursor->scan, &err);
  } else {
    rc = is_back ? stratakv_cursor_prev(cursor->scan, &err)
                 : stratakv_cursor_next(cursor->scan, &err);
  }
  if (rc != STRATAKV_OK) return cursor_fail(cursor, rc, &err);
  cursor->is_eof = !stratakv_cursor_valid(cursor->scan);
  return SQLITE_OK;
}

static int filter_scan(skv_sql_cursor *cursor, int argc, sqlite3_value **argv) {
  stratakv_range range;
  int is_empty = 0;
  int rc = filter_bounds(cursor, argc, argv, &is_empty);
  if (rc != SQLITE_OK || is_empty) return rc;
  memset(&range, 0, sizeof range);
  if (cursor->has_low) {
    range.start = cursor->low.data;
    range.start_len = cursor->low.len;
  }
  if (cursor->has_high) {
    range.end = cursor->high.data;
    range.end_len = cursor->high.len;
  }
  range.keys_only = (cursor->plan & SKV_SQL_PLAN_KEYS) != 0;
  range.poll = skv_sql_is_interrupted;
  range.poll_arg = skv_sql_conn_db(cursor_table(cursor)->conn);
  cursor->walk = WALK_SCAN;
  rc = scan_open(cursor, &range);
  return rc == SQLITE_OK ? scan_move(cursor, 1) : rc;
}

/* ---- Methods ----------------------------------------------------------- */

int skv_sql_cursor_filter(sqlite3_vtab_cursor *pCursor, int idxNum,
                          const char *idxStr, int argc, sqlite3_value **argv) {
  skv_sql_cursor *cursor = cursor_of(pCursor);
  skv_sql_vtab *vtab = cursor_table(cursor);
  (void)idxStr;
  cursor_reset(cursor);
  cursor->plan = idxNum;
  if (skv_sql_context_txn(vtab->context) == NULL) {
    stratakv_error err = {0, ""};
    int rc = skv_sql_view_open(vtab->context, &err, &cursor->view);
    if (rc != STRATAKV_OK) return cursor_fail(cursor, rc, &err);
  }
  switch (SKV_SQL_PLAN_ARG(idxNum, 0)) {
  case SKV_SQL_ARG_EQ: return filter_point(cursor, argv[0]);
  case SKV_SQL_ARG_IN: return filter_list(cursor, argv[0]);
  default: return filter_scan(cursor, argc, argv);
  }
}

int skv_sql_cursor_next(sqlite3_vtab_cursor *pCursor) {
  skv_sql_cursor *cursor = cursor_of(pCursor);
  switch (cursor->walk) {
  case WALK_LIST: return list_next(cursor);
  case WALK_SCAN: return scan_move(cursor, 0);
  default: cursor->is_eof = 1; return SQLITE_OK;
  }
}

int skv_sql_cursor_eof(sqlite3_vtab_cursor *pCursor) {
  return cursor_of(pCursor)->is_eof;
}

static const void *cursor_key(const skv_sql_cursor *cursor, size_t *len) {
  const cursor_list_key *key;
  switch (cursor->walk) {
  case WALK_SCAN: return stratakv_cursor_key(cursor->scan, len);
  case WALK_LIST:
    key = list_key(cursor, cursor->list_at - 1);
    *len = key->len;
    return key->data;
  default: *len = cursor->low.len; return cursor->low.data;
  }
}

static uint64_t cursor_version(const skv_sql_cursor *cursor) {
  return cursor->scan != NULL ? stratakv_cursor_version(cursor->scan)
                              : cursor->value.version;
}

/* A plan that left values out has no bytes here, which is no typed value: an
 * error, and not a NULL that an UPDATE would write back. */
static int column_value(skv_sql_cursor *cursor, sqlite3_context *ctx) {
  const void *bytes = cursor->value.data;
  size_t len = cursor->value.size;
  if (cursor->scan != NULL) bytes = stratakv_cursor_value(cursor->scan, &len);
  return skv_sql_result_value(ctx, bytes, len);
}

static int column_key(skv_sql_cursor *cursor, sqlite3_context *ctx) {
  size_t len;
  const void *key = cursor_key(cursor, &len);
  return skv_sql_result_key(ctx, cursor_table(cursor)->args.key_type, key, len);
}

/* An entry that the running transaction wrote has no version. */
static void column_version(skv_sql_cursor *cursor, sqlite3_context *ctx) {
  uint64_t version = cursor_version(cursor);
  if (version != 0) {
    sqlite3_result_int64(ctx, (sqlite3_int64)version);
  } else {
    sqlite3_result_null(ctx);
  }
}

int skv_sql_cursor_column(sqlite3_vtab_cursor *pCursor, sqlite3_context *ctx,
                          int column) {
  skv_sql_cursor *cursor = cursor_of(pCursor);
  int rc = SQLITE_OK;
  if (column == SKV_SQL_COLUMN_KEY) {
    rc = column_key(cursor, ctx); /* needed even if unchanged: argv[1] */
  } else if (sqlite3_vtab_nochange(ctx)) {
    return SQLITE_OK; /* xUpdate takes the stored one */
  } else if (column == SKV_SQL_COLUMN_VALUE) {
    rc = column_value(cursor, ctx);
  } else if (column == SKV_SQL_COLUMN_VERSION) {
    column_version(cursor, ctx);
  }
  if (rc == SQLITE_CORRUPT_VTAB && cursor_table(cursor)->base.zErrMsg == NULL) {
    skv_sql_vtab_fail(cursor_table(cursor), rc,
                      "stratakv: an entry of %s is no typed key and value",
                      cursor_table(cursor)->name);
  }
  return rc;
}

/* The table is WITHOUT ROWID: never called, but the core wants the pointer. */
int skv_sql_cursor_rowid(sqlite3_vtab_cursor *pCursor, sqlite3_int64 *pRowid) {
  (void)pCursor;
  *pRowid = 0;
  return SQLITE_OK;
}
