/*
 * Type conversion: section "Keys and values" of value.h, one function each.
 */
#include "ext/sqlite/value.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* 2^63, the first double above every int64. */
#define INT64_END 9223372036854775808.0

/* ---- Buffers ----------------------------------------------------------- */

static int buf_reserve(skv_sql_buf *buf, size_t capacity) {
  uint8_t *data;
  if (capacity <= buf->capacity) return SQLITE_OK;
  if (capacity < 2 * buf->capacity) capacity = 2 * buf->capacity;
  if (capacity < 64) capacity = 64;
  data = sqlite3_realloc64(buf->data, capacity);
  if (data == NULL) return SQLITE_NOMEM;
  buf->data = data;
  buf->capacity = capacity;
  return SQLITE_OK;
}

int skv_sql_buf_append(skv_sql_buf *buf, const void *bytes, size_t len) {
  int rc = buf_reserve(buf, buf->len + len + 1);
  if (rc != SQLITE_OK) return rc;
  if (len > 0) memcpy(buf->data + buf->len, bytes, len);
  buf->len += len;
  return SQLITE_OK;
}

int skv_sql_buf_set(skv_sql_buf *buf, const void *a, size_t a_len,
                    const void *b, size_t b_len) {
  int rc = buf_reserve(buf, a_len + b_len + 1);
  if (rc != SQLITE_OK) return rc;
  buf->len = 0;
  rc = skv_sql_buf_append(buf, a, a_len);
  return rc == SQLITE_OK ? skv_sql_buf_append(buf, b, b_len) : rc;
}

void skv_sql_buf_trim(skv_sql_buf *buf, size_t keep) {
  if (buf->capacity <= keep) return;
  sqlite3_free(buf->data);
  memset(buf, 0, sizeof *buf);
}

/* ---- Taking bytes out of a value --------------------------------------- */

/* text before bytes: only then is the length that of the UTF-8 form. */
static int take_text(sqlite3_value *value, skv_sql_key *key) {
  key->data = sqlite3_value_text(value);
  if (key->data == NULL) return SQLITE_NOMEM;
  key->len = (size_t)sqlite3_value_bytes(value);
  return SQLITE_OK;
}

static int take_blob(sqlite3_value *value, skv_sql_key *key) {
  key->data = sqlite3_value_blob(value);
  key->len = (size_t)sqlite3_value_bytes(value);
  if (key->data == NULL) {
    if (key->len > 0) return SQLITE_NOMEM; /* a zeroblob that did not fit */
    key->data = key->number;
  }
  return SQLITE_OK;
}

static int take_int(sqlite3_int64 number, skv_sql_key *key) {
  stratakv_int_key(number, key->number);
  key->data = key->number;
  key->len = sizeof key->number;
  return SQLITE_OK;
}

static const char *class_of(int type) {
  switch (type) {
  case SQLITE_INTEGER: return "INT";
  case SQLITE_FLOAT: return "REAL";
  case SQLITE_TEXT: return "TEXT";
  default: return "BLOB";
  }
}

/* ---- A key to store ---------------------------------------------------- */

/* INTEGER affinity as the core has it: -2^63 as a REAL stays a REAL. */
static int store_int(sqlite3_value *value, skv_sql_key *key,
                     const char **class_name) {
  int type = sqlite3_value_numeric_type(value);
  if (type == SQLITE_INTEGER) return take_int(sqlite3_value_int64(value), key);
  if (type == SQLITE_FLOAT) {
    double real = sqlite3_value_double(value);
    if (real > -INT64_END && real < INT64_END &&
        (double)(sqlite3_int64)real == real) {
      return take_int((sqlite3_int64)real, key);
    }
  }
  *class_name = class_of(type);
  return SQLITE_MISMATCH;
}

int skv_sql_key_store(sqlite3_value *value, int key_type, skv_sql_key *key,
                      const char **class_name) {
  int type = sqlite3_value_type(value);
  int rc;
  key->data = key->number;
  key->len = 0;
  if (key_type == STRATAKV_KEY_INT) return store_int(value, key, class_name);
  if ((type == SQLITE_BLOB) != (key_type == STRATAKV_KEY_BLOB)) {
    *class_name = class_of(type);
    return SQLITE_MISMATCH;
  }
  rc = type == SQLITE_BLOB ? take_blob(value, key) : take_text(value, key);
  if (rc == SQLITE_OK && key->len > STRATAKV_MAX_KEY) rc = SQLITE_TOOBIG;
  return rc;
}

/* ---- A key to look up -------------------------------------------------- */

static int lookup_int(sqlite3_value *value, skv_sql_key *key) {
  double real;
  switch (sqlite3_value_numeric_type(value)) {
  case SQLITE_INTEGER: return take_int(sqlite3_value_int64(value), key);
  case SQLITE_FLOAT: break;
  default: return SQLITE_NOTFOUND;
  }
  real = sqlite3_value_double(value);
  if (!(real >= -INT64_END && real < INT64_END)) return SQLITE_NOTFOUND;
  if ((double)(sqlite3_int64)real != real) return SQLITE_NOTFOUND;
  return take_int((sqlite3_int64)real, key);
}

int skv_sql_key_lookup(sqlite3_value *value, int key_type, skv_sql_key *key) {
  int type = sqlite3_value_type(value);
  int rc;
  if (type == SQLITE_NULL) return SQLITE_NOTFOUND;
  if (key_type == STRATAKV_KEY_INT) return lookup_int(value, key);
  if ((type == SQLITE_BLOB) != (key_type == STRATAKV_KEY_BLOB)) {
    return SQLITE_NOTFOUND;
  }
  rc = type == SQLITE_BLOB ? take_blob(value, key) : take_text(value, key);
  if (rc == SQLITE_OK && key->len > STRATAKV_MAX_KEY) rc = SQLITE_NOTFOUND;
  return rc;
}

/* ---- A bound ----------------------------------------------------------- */

static int bound_real(double real, int is_lower, int *is_strict,
                      skv_sql_key *key) {
  sqlite3_int64 whole;
  if (real >= INT64_END) return is_lower ? SQLITE_NOTFOUND : SQLITE_DONE;
  if (real < -INT64_END) return is_lower ? SQLITE_DONE : SQLITE_NOTFOUND;
  whole = (sqlite3_int64)real; /* towards zero */
  if ((double)whole != real) {
    *is_strict = 1; /* 2.5 lies between the integers 2 and 3 */
    if (is_lower && real < 0) whole--;
    if (!is_lower && real > 0) whole++;
  }
  return take_int(whole, key);
}

static int bound_int(sqlite3_value *value, int is_lower, int *is_strict,
                     skv_sql_key *key) {
  switch (sqlite3_value_numeric_type(value)) {
  case SQLITE_INTEGER: return take_int(sqlite3_value_int64(value), key);
  case SQLITE_FLOAT:
    return bound_real(sqlite3_value_double(value), is_lower, is_strict, key);
  default: return SQLITE_DONE;
  }
}

int skv_sql_key_bound(sqlite3_value *value, int key_type, int is_lower,
                      int *is_strict, skv_sql_key *key) {
  int type = sqlite3_value_type(value);
  int rc = SQLITE_DONE;
  if (type == SQLITE_NULL) return SQLITE_NOTFOUND;
  if (key_type == STRATAKV_KEY_INT) {
    return bound_int(value, is_lower, is_strict, key);
  }
  /* A number against text keys may compare as a number (D3): no bound. */
  if (key_type == STRATAKV_KEY_TEXT && type == SQLITE_TEXT) {
    rc = take_text(value, key);
  } else if (key_type == STRATAKV_KEY_BLOB && type == SQLITE_BLOB) {
    rc = take_blob(value, key);
  }
  /* Its successor must be a key too; the core checks every row anyway. */
  if (rc == SQLITE_OK && key->len >= STRATAKV_MAX_KEY) rc = SQLITE_DONE;
  return rc;
}

/* ---- To SQLite --------------------------------------------------------- */

int skv_sql_result_key(sqlite3_context *context, int key_type,
                       const void *bytes, size_t len) {
  switch (key_type) {
  case STRATAKV_KEY_INT:
    if (len != 8) return SQLITE_CORRUPT_VTAB;
    sqlite3_result_int64(context, stratakv_int_key_value(bytes));
    return SQLITE_OK;
  case STRATAKV_KEY_BLOB:
    sqlite3_result_blob64(context, bytes, len, SQLITE_TRANSIENT);
    return SQLITE_OK;
  default:
    sqlite3_result_text64(context, bytes, len, SQLITE_TRANSIENT, SQLITE_UTF8);
    return SQLITE_OK;
  }
}

int skv_sql_result_value(sqlite3_context *context, const void *bytes,
                         size_t len) {
  stratakv_typed typed;
  if (stratakv_typed_decode(bytes, len, &typed) != STRATAKV_OK) {
    return SQLITE_CORRUPT_VTAB;
  }
  switch (typed.type) {
  case STRATAKV_INTEGER: sqlite3_result_int64(context, typed.integer); break;
  case STRATAKV_REAL: sqlite3_result_double(context, typed.real); break;
  case STRATAKV_TEXT:
    sqlite3_result_text64(context, typed.data, typed.size, SQLITE_TRANSIENT,
                          SQLITE_UTF8);
    break;
  case STRATAKV_BLOB:
    sqlite3_result_blob64(context, typed.data, typed.size, SQLITE_TRANSIENT);
    break;
  default: sqlite3_result_null(context); break;
  }
  return SQLITE_OK;
}

/* ---- A value to store -------------------------------------------------- */

int skv_sql_value_store(sqlite3_value *value, skv_sql_buf *buf, size_t *size) {
  stratakv_typed typed;
  uint8_t head[9];
  size_t head_len;

  memset(&typed, 0, sizeof typed);
  typed.type = sqlite3_value_type(value); /* numerically STRATAKV_* */
  if (typed.type == SQLITE_INTEGER) {
    typed.integer = sqlite3_value_int64(value);
  } else if (typed.type == SQLITE_FLOAT) {
    typed.real = sqlite3_value_double(value);
  } else if (typed.type != SQLITE_NULL) {
    typed.data = typed.type == SQLITE_TEXT
                     ? (const void *)sqlite3_value_text(value)
                     : sqlite3_value_blob(value);
    typed.size = (size_t)sqlite3_value_bytes(value);
    if (typed.data == NULL && typed.size > 0) return SQLITE_NOMEM;
    if (typed.data == NULL && typed.type == SQLITE_TEXT) return SQLITE_NOMEM;
  }
  head_len = stratakv_typed_head(&typed, head);
  *size = typed.size;
  if (head_len + typed.size > STRATAKV_MAX_VALUE) return SQLITE_TOOBIG;
  return skv_sql_buf_set(buf, head, head_len, typed.data, typed.size);
}
