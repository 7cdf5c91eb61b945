/*
 * A dump as an SQL script, for the sqlite3 shell or any binding. It makes
 * ordinary tables; where a stratakv table of the name exists already, it
 * fills that.
 *
 * LITERALS  are exact: BLOB x'..', REAL with 17 digits, TEXT in quotes unless
 *   it holds what does not survive a script (NUL, CR, bytes that are no
 *   UTF-8), then as a cast blob.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "ext/json/utf8.h"
#include "ext/tool/dump.h"
#include "ext/tool/output.h"

#define SQL_ROWS_A_TRANSACTION 10000
/* SQLITE_MAX_SQL_LENGTH and SQLITE_MAX_LENGTH, with room for the rest. */
#define SQL_LONGEST 999990000u

/* ---- Literals ------------------------------------------------------------ */

static size_t sql_blob(const void *bytes, size_t len) {
  static const char digits[] = "0123456789abcdef";
  const uint8_t *p = bytes;
  char hex[1024];
  skvt_out_text("x'");
  for (size_t i = 0; i < len;) {
    size_t n = 0;
    for (; n < sizeof hex && i < len; i++) {
      hex[n++] = digits[p[i] >> 4];
      hex[n++] = digits[p[i] & 15];
    }
    skvt_out(hex, n);
  }
  skvt_out_text("'");
  return 2 * len;
}

static size_t sql_text(const char *text, size_t len) {
  const char *end = text + len;
  if (memchr(text, 0, len) != NULL || memchr(text, '\r', len) != NULL ||
      !skv_utf8_is_valid(text, len)) {
    skvt_out_text("CAST(");
    sql_blob(text, len);
    skvt_out_text(" AS TEXT)");
    return 2 * len;
  }
  skvt_out_text("'");
  while (text < end) {
    const char *quote = memchr(text, '\'', (size_t)(end - text));
    const char *stop = quote != NULL ? quote + 1 : end;
    skvt_out(text, (size_t)(stop - text));
    if (quote != NULL) {
      skvt_out_text("'");
      len++;
    }
    text = stop;
  }
  skvt_out_text("'");
  return len;
}

/* 17 digits, with a point or exponent. */
static void sql_digits(double real) {
  char text[40];
  snprintf(text, sizeof text, "%.17g", real);
  if (strpbrk(text, ".e") == NULL) strcat(text, ".0");
  skvt_out_text(text);
}

/*
 * SQLite's own conversion rounds 17 digits to the right number (of fewer, some
 * lie too near to the middle between two), but not near the smallest numbers,
 * where old versions round twice. There the literal is 2^1000 times the
 * number, and the script divides it again, which is exact.
 */
static void sql_real(double real) {
  if (isnan(real)) {
    skvt_out_text("NULL"); /* what SQLite makes of it */
  } else if (isinf(real)) {
    skvt_out_text(real < 0 ? "-9e999" : "9e999");
  } else if (real != 0 && fabs(real) < 1e-280) {
    sql_digits(real * 0x1p500 * 0x1p500);
    skvt_out_text("*3.0549363634996047e-151*3.0549363634996047e-151");
  } else {
    sql_digits(real);
  }
}

static void sql_integer(int64_t integer) {
  char text[24];
  snprintf(text, sizeof text, "%" PRId64, integer);
  skvt_out_text(text);
}

static size_t sql_key(int key_type, const skvt_entry *entry) {
  if (key_type == STRATAKV_KEY_TEXT) {
    return sql_text(entry->key, entry->key_len);
  }
  if (key_type == STRATAKV_KEY_INT && entry->key_len == 8) {
    sql_integer(stratakv_int_key_value(entry->key));
    return 0;
  }
  return sql_blob(entry->key, entry->key_len);
}

static size_t sql_value(const stratakv_typed *value) {
  switch (value->type) {
  case STRATAKV_INTEGER: sql_integer(value->integer); return 0;
  case STRATAKV_REAL: sql_real(value->real); return 0;
  case STRATAKV_TEXT: return sql_text(value->data, value->size);
  case STRATAKV_NULL: skvt_out_text("NULL"); return 0;
  default: return sql_blob(value->data, value->size);
  }
}

/* ---- The format ---------------------------------------------------------- */

/* The table's name in SQL: there, case does not tell names apart, and some
 * are reserved. */
static const char *sql_name(const skvt_dump *dump, char *out, size_t size) {
  const stratakv_table_info *table = &dump->tables[dump->at];
  bool is_taken = strncasecmp(table->name, "sqlite_", 7) == 0;
  for (size_t i = 0; i < dump->at && !is_taken; i++) {
    is_taken = strcasecmp(dump->tables[i].name, table->name) == 0;
  }
  if (is_taken) {
    snprintf(out, size, "t%u_%s", (unsigned)table->id, table->name);
  } else {
    snprintf(out, size, "%s", table->name);
  }
  return out;
}

static void sql_begin(skvt_dump *dump) {
  skvt_out_line("-- stratakv-tool " STRATAKV_VERSION
                ", state below version %" PRIu64,
                stratakv_snapshot_lsn(dump->snapshot));
}

static void sql_table(skvt_dump *dump) {
  const stratakv_table_info *table = &dump->tables[dump->at];
  const char *type = table->key_type == STRATAKV_KEY_TEXT   ? "TEXT"
                     : table->key_type == STRATAKV_KEY_BLOB ? "BLOB"
                                                            : "INTEGER";
  char name[100];
  sql_name(dump, name, sizeof name);
  skvt_out_line("-- For a stratakv table, execute this before the script:\n"
                "-- CREATE VIRTUAL TABLE \"%s\" USING stratakv('new.strata', "
                "table=%s, key=%s);",
                name, table->name, skvt_key_type_name(table->key_type));
  skvt_out_line("CREATE TABLE IF NOT EXISTS \"%s\"(key %s NOT NULL PRIMARY "
                "KEY, value) WITHOUT ROWID;\nBEGIN;",
                name, type);
}

static int sql_entry(skvt_dump *dump, const skvt_entry *entry) {
  size_t len;
  char name[100];
  if (dump->rows > 1 && dump->rows % SQL_ROWS_A_TRANSACTION == 1) {
    skvt_out_text("COMMIT;\nBEGIN;\n");
  }
  skvt_out_text("INSERT INTO \"");
  skvt_out_text(sql_name(dump, name, sizeof name));
  skvt_out_text("\"(key,value) VALUES(");
  len = sql_key(dump->tables[dump->at].key_type, entry);
  skvt_out_text(",");
  len += sql_value(&entry->value);
  skvt_out_text(");\n");
  if (len > SQL_LONGEST) dump->oversized++;
  return STRATAKV_OK;
}

static void sql_table_end(skvt_dump *dump) {
  (void)dump;
  skvt_out_text("COMMIT;\n");
}

static void sql_end(skvt_dump *dump) {
  skvt_out_line("-- end, %" PRIu64 " entries", dump->entries);
}

static void sql_cut(skvt_dump *dump, const char *why) {
  (void)dump;
  skvt_out_text("ROLLBACK; -- the dump was cut short: ");
  skvt_out_safely(why); /* it may hold a path, and that a newline */
  skvt_out_text("\n");
}

const skvt_dump_format skvt_dump_sql = {
    .begin = sql_begin,
    .table = sql_table,
    .entry = sql_entry,
    .table_end = sql_table_end,
    .end = sql_end,
    .cut = sql_cut,
};
