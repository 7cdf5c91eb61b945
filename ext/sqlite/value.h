/*
 * Between SQLite's values and the store's bytes.
 *
 * PURPOSE  The model is `key <type> NOT NULL PRIMARY KEY, value ANY` of a
 *   STRICT table. The core applies no affinity to what it hands a module, so
 *   it is applied here, in three ways: strictly for a key that is stored,
 *   generously for a key that is looked up, and outwards for a bound.
 *
 * KEYS  text: bytes of UTF-8. blob: bytes. int: 8 bytes, see
 *   stratakv_int_key. Their order by memcmp is the order of the column.
 * VALUES  A tag byte and the bytes: see STRATAKV_INTEGER in stratakv.h.
 *
 * A skv_sql_key borrows its bytes from the sqlite3_value or from itself: it
 * lives as long as both, and is never copied as a struct.
 */
#ifndef SKV_SQL_VALUE_H
#define SKV_SQL_VALUE_H

#include <sqlite3ext.h>
#include <stddef.h>
#include <stdint.h>

#include "stratakv.h"

/* Bytes that grow. Zeroed is empty. */
typedef struct skv_sql_buf {
  uint8_t *data;
  size_t len;
  size_t capacity;
} skv_sql_buf;

/* Replace the content by two pieces; SQLITE_OK or SQLITE_NOMEM. */
int skv_sql_buf_set(skv_sql_buf *buf, const void *a, size_t a_len,
                    const void *b, size_t b_len);
int skv_sql_buf_append(skv_sql_buf *buf, const void *bytes, size_t len);
/* Free, if it holds more than `keep` bytes. */
void skv_sql_buf_trim(skv_sql_buf *buf, size_t keep);

typedef struct skv_sql_key {
  const uint8_t *data; /* never NULL once set */
  size_t len;
  uint8_t number[8]; /* where an int key lives */
} skv_sql_key;

/*
 * The key to store.
 *
 * SQLITE_OK
 * SQLITE_MISMATCH  the class is refused; *class_name is its name as in
 *                  STRICT's message: INT REAL TEXT BLOB
 * SQLITE_TOOBIG    longer than STRATAKV_MAX_KEY; key->len says how long
 * SQLITE_NOMEM
 *
 * The value is not NULL.
 */
int skv_sql_key_store(sqlite3_value *value, int key_type, skv_sql_key *key,
                      const char **class_name);

/* The key that `key = value` can be true for: SQLITE_OK, SQLITE_NOTFOUND if
 * it is true for none, SQLITE_NOMEM. */
int skv_sql_key_lookup(sqlite3_value *value, int key_type, skv_sql_key *key);

/*
 * The bound that `key > value` (is_lower) or `key < value` puts on keys.
 * *is_strict says whether the key itself is outside; the caller sets it from
 * the operator and it may change when a fraction is rounded outwards.
 *
 * SQLITE_OK        *key is the bound
 * SQLITE_DONE      no bound: an operand of another class, a huge one
 * SQLITE_NOTFOUND  no key satisfies it (NULL, or beyond every int64)
 * SQLITE_NOMEM
 */
int skv_sql_key_bound(sqlite3_value *value, int key_type, int is_lower,
                      int *is_strict, skv_sql_key *key);

/* Give a stored key or value to SQLite. SQLITE_CORRUPT_VTAB if the bytes are
 * none; nothing is given then. */
int skv_sql_result_key(sqlite3_context *context, int key_type,
                       const void *bytes, size_t len);
int skv_sql_result_value(sqlite3_context *context, const void *bytes,
                         size_t len);

/* The stored form of a value, into buf. SQLITE_OK, NOMEM, or TOOBIG with the
 * size in *size. */
int skv_sql_value_store(sqlite3_value *value, skv_sql_buf *buf, size_t *size);

#endif /* SKV_SQL_VALUE_H */
