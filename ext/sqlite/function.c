/*
 * The scalar functions. stratakv_allow_root and stratakv_backup are DIRECTONLY:
 * a schema from a hostile file must not grant itself anything, or write
 * anywhere.
 */
#include "ext/sqlite/function.h"

#include <limits.h>
#include <stdint.h>
#include <string.h>

#include "ext/sqlite/maintenance.h"
#include "ext/sqlite/trust.h"
#include "stratakv.h"

SQLITE_EXTENSION_INIT3

#if defined(__clang__)
#define BUILT_WITH "clang " __clang_version__
#elif defined(__GNUC__)
#define BUILT_WITH "gcc " __VERSION__
#else
#define BUILT_WITH "another compiler"
#endif

static void function_version(sqlite3_context *ctx, int argc,
                             sqlite3_value **argv) {
  (void)argc;
  (void)argv;
  sqlite3_result_text(ctx, STRATAKV_VERSION, -1, SQLITE_STATIC);
}

/* What to put into a bug report. */
static void function_debug(sqlite3_context *ctx, int argc,
                           sqlite3_value **argv) {
  char *text = sqlite3_mprintf(
      "stratakv %s, built with %s for SQLite %s; running on SQLite %s, "
      "thread-safe %d, %d-bit",
      STRATAKV_VERSION, BUILT_WITH, SQLITE_VERSION, sqlite3_libversion(),
      sqlite3_threadsafe(), (int)sizeof(void *) * 8);
  (void)argc;
  (void)argv;
  if (text == NULL) {
    sqlite3_result_error_nomem(ctx);
  } else {
    sqlite3_result_text(ctx, text, -1, sqlite3_free);
  }
}

static void function_allow_root(sqlite3_context *ctx, int argc,
                                sqlite3_value **argv) {
  char canonical[PATH_MAX];
  const char *root = (const char *)sqlite3_value_text(argv[0]);
  int rc;
  (void)argc;
  rc = skv_sql_trust_allow_root(sqlite3_user_data(ctx), root, canonical);
  if (rc == SQLITE_OK) {
    sqlite3_result_text(ctx, canonical, -1, SQLITE_TRANSIENT);
  } else if (rc == SQLITE_NOMEM) {
    sqlite3_result_error_nomem(ctx);
  } else {
    char *message = sqlite3_mprintf("stratakv: no directory \"%s\"",
                                    root != NULL ? root : "");
    sqlite3_result_error(ctx, message != NULL ? message : "no memory", -1);
    sqlite3_result_error_code(ctx, rc);
    sqlite3_free(message);
  }
}

/* ---- stratakv_backup --------------------------------------------------- */

/* Fail with code and message (from sqlite3_mprintf); no message is the core's
 * own words. */
static void function_fail(sqlite3_context *ctx, int code, char *message) {
  if (message != NULL) sqlite3_result_error(ctx, message, -1);
  sqlite3_result_error_code(ctx, code);
  sqlite3_free(message);
}

/* The copy's LSN. */
static void function_backup(sqlite3_context *ctx, int argc,
                            sqlite3_value **argv) {
  const char *name = (const char *)sqlite3_value_text(argv[0]);
  const char *dir = (const char *)sqlite3_value_text(argv[1]);
  stratakv_error err = {0, ""};
  char *message = NULL;
  uint64_t lsn = 0;
  skv_sql_vtab *vtab;
  int rc;
  (void)argc;
  vtab = skv_sql_vtab_find(sqlite3_user_data(ctx), name != NULL ? name : "",
                           &rc, &message);
  if (vtab == NULL) {
    function_fail(ctx, rc, message);
    return;
  }
  rc =
      skv_sql_backup(vtab, dir != NULL ? dir : "", SKV_SQL_BY_USER, &err, &lsn);
  if (rc == STRATAKV_OK) {
    sqlite3_result_int64(ctx, (sqlite3_int64)lsn);
  } else {
    function_fail(ctx, skv_sql_code(rc), skv_sql_engine_message(rc, &err));
  }
}

/* ---- stratakv_prefix_end ----------------------------------------------- */

/* Cut the bytes that cannot grow and grow the last; 0 if none is left. */
static size_t bytes_prefix_end(uint8_t *bytes, size_t len) {
  while (len > 0 && bytes[len - 1] == 0xff) len--;
  if (len > 0) bytes[len - 1]++;
  return len;
}

/* The code point that starts at p, or -1 if the bytes up to end are not
 * exactly one in its shortest form. */
static int32_t utf8_decode(const uint8_t *p, const uint8_t *end) {
  static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  size_t n = *p < 0x80 ? 1 : *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
  int32_t c = n == 1 ? *p : *p & (0xff >> (n + 1));
  if (*p >= 0xf8 || (*p >= 0x80 && *p < 0xc0)) return -1;
  if ((size_t)(end - p) != n) return -1;
  for (size_t i = 1; i < n; i++) c = (c << 6) | (p[i] & 0x3f);
  return c < least[n] || c > 0x10ffff ? -1 : c;
}

static size_t utf8_encode(int32_t c, uint8_t *out) {
  size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  for (size_t i = n - 1; i > 0; i--) {
    out[i] = (uint8_t)(0x80 | (c & 0x3f));
    c >>= 6;
  }
  out[0] = (uint8_t)(lead[n] | c);
  return n;
}

/* The same by code points, so that the result is text as well: the order of
 * UTF-8's bytes is that of code points. Room for 3 bytes more in bytes. */
static size_t text_prefix_end(uint8_t *bytes, size_t len) {
  while (len > 0) {
    size_t start = len - 1;
    int32_t c;
    while (start > 0 && (bytes[start] & 0xc0) == 0x80) start--;
    c = utf8_decode(bytes + start, bytes + len);
    if (c < 0) return bytes_prefix_end(bytes, len); /* no UTF-8 */
    if (c < 0x10ffff) {
      c = c + 1 == 0xd800 ? 0xe000 : c + 1; /* no surrogates in text */
      return start + utf8_encode(c, bytes + start);
    }
    len = start;
  }
  return 0;
}

static void function_prefix_end(sqlite3_context *ctx, int argc,
                                sqlite3_value **argv) {
  int is_blob = sqlite3_value_type(argv[0]) == SQLITE_BLOB;
  const void *prefix;
  uint8_t *bytes;
  size_t len;
  (void)argc;
  if (sqlite3_value_type(argv[0]) == SQLITE_NULL) return;
  prefix = is_blob ? sqlite3_value_blob(argv[0])
                   : (const void *)sqlite3_value_text(argv[0]);
  len = (size_t)sqlite3_value_bytes(argv[0]);
  bytes = sqlite3_malloc64(len + 4);
  if (bytes == NULL || (prefix == NULL && len > 0)) {
    sqlite3_free(bytes);
    sqlite3_result_error_nomem(ctx);
    return;
  }
  if (len > 0) memcpy(bytes, prefix, len);
  len = is_blob ? bytes_prefix_end(bytes, len) : text_prefix_end(bytes, len);
  if (len == 0) {
    sqlite3_free(bytes); /* nothing is above all of them: NULL */
  } else if (is_blob) {
    sqlite3_result_blob64(ctx, bytes, len, sqlite3_free);
  } else {
    sqlite3_result_text64(ctx, (char *)bytes, len, sqlite3_free, SQLITE_UTF8);
  }
}

/* ---- Registration ------------------------------------------------------ */

typedef void (*function_body)(sqlite3_context *, int, sqlite3_value **);

typedef struct function_row {
  const char *name;
  int argc;
  int flags;
  function_body body;
} function_row;

static const function_row functions[] = {
    {"stratakv_version", 0, SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS,
     function_version},
    {"stratakv_debug", 0, SQLITE_INNOCUOUS, function_debug},
    {"stratakv_allow_root", 1, SQLITE_DIRECTONLY, function_allow_root},
    {"stratakv_backup", 2, SQLITE_DIRECTONLY, function_backup},
    {"stratakv_prefix_end", 1, SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS,
     function_prefix_end},
};

#define FUNCTION_COUNT (sizeof functions / sizeof functions[0])

int skv_sql_function_register(skv_sql_conn *conn) {
  for (size_t i = 0; i < FUNCTION_COUNT; i++) {
    const function_row *row = &functions[i];
    /* The destructor runs on failure too. */
    int rc = sqlite3_create_function_v2(
        skv_sql_conn_db(conn), row->name, row->argc, SQLITE_UTF8 | row->flags,
        skv_sql_conn_ref(conn), row->body, NULL, NULL, skv_sql_conn_unref);
    if (rc != SQLITE_OK) return rc;
  }
  return SQLITE_OK;
}

void skv_sql_function_unregister(sqlite3 *db) {
  for (size_t i = 0; i < FUNCTION_COUNT; i++) {
    sqlite3_create_function_v2(db, functions[i].name, functions[i].argc,
                               SQLITE_UTF8, NULL, NULL, NULL, NULL, NULL);
  }
}
