/* Subcommand dump: the walk of dump.h. */
#include "ext/tool/dump.h"

#include <stdlib.h>
#include <string.h>

#include "ext/tool/output.h"
#include "ext/tool/tool.h"

const char *skvt_key_type_name(int key_type) {
  return key_type == STRATAKV_KEY_TEXT   ? "text"
         : key_type == STRATAKV_KEY_BLOB ? "blob"
                                         : "int";
}

/* All tables of the store, or the one that is named. */
static int dump_find_tables(skvt_dump *dump, stratakv_error *error) {
  const char *name = dump->options->table;
  int rc = STRATAKV_OK;
  dump->table_count = 1;
  if (name == NULL) {
    rc = stratakv_tables(dump->store, NULL, 0, error, &dump->table_count);
    if (rc != STRATAKV_OK) return rc;
  }
  /* One more, as there may be none. */
  dump->tables = calloc(dump->table_count + 1, sizeof *dump->tables);
  if (dump->tables == NULL) {
    strcpy(error->message, "out of memory");
    return STRATAKV_NOMEM;
  }
  if (name != NULL) {
    return stratakv_table(dump->store, name, 0, 0, error, dump->tables);
  }
  /* Tables are only added, and always behind the others. */
  size_t count;
  return stratakv_tables(dump->store, dump->tables, dump->table_count, error,
                         &count);
}

static int dump_entry(skvt_dump *dump, const skvt_dump_format *format,
                      const stratakv_cursor *cursor) {
  skvt_entry entry;
  size_t size;
  const void *bytes = stratakv_cursor_value(cursor, &size);
  entry.key = stratakv_cursor_key(cursor, &entry.key_len);
  entry.version = stratakv_cursor_version(cursor);
  if (stratakv_typed_decode(bytes, size, &entry.value) != STRATAKV_OK) {
    memset(&entry.value, 0, sizeof entry.value);
    entry.value.data = bytes;
    entry.value.size = size;
    dump->unclassed++;
  }
  dump->entries++;
  dump->rows++;
  return format->entry(dump, &entry);
}

static int dump_table(skvt_dump *dump, const skvt_dump_format *format,
                      stratakv_error *error) {
  stratakv_cursor *cursor = NULL;
  stratakv_range range;
  int rc;
  memset(&range, 0, sizeof range);
  range.poll = skvt_poll;
  dump->rows = 0;
  rc = stratakv_cursor_open(dump->store, dump->snapshot, NULL,
                            dump->tables[dump->at].id, &range, error, &cursor);
  if (rc != STRATAKV_OK) return rc;
  format->table(dump);
  rc = stratakv_cursor_first(cursor, error);
  while (rc == STRATAKV_OK && stratakv_cursor_valid(cursor)) {
    rc = dump_entry(dump, format, cursor);
    if (rc != STRATAKV_OK) {
      strcpy(error->message, "out of memory");
    } else if (skvt_poll(NULL)) {
      rc = STRATAKV_INTERRUPT;
    } else {
      rc = stratakv_cursor_next(cursor, error);
    }
  }
  if (rc == STRATAKV_OK) format->table_end(dump);
  stratakv_cursor_close(cursor);
  return rc;
}

static int dump_tables(skvt_dump *dump, const skvt_dump_format *format,
                       stratakv_error *error) {
  int rc = STRATAKV_OK;
  format->begin(dump);
  for (dump->at = 0; rc == STRATAKV_OK && dump->at < dump->table_count;
       dump->at++) {
    rc = dump_table(dump, format, error);
  }
  if (rc == STRATAKV_OK) {
    format->end(dump);
  } else if (rc != STRATAKV_INTERRUPT) {
    format->cut(dump, error->message);
  }
  return rc;
}

/* What the reader of the dump should know. */
static void dump_warn(const skvt_dump *dump) {
  if (dump->unclassed > 0) {
    skvt_fail(0, "%llu values have no class of SQL, as C code wrote them: %s",
              (unsigned long long)dump->unclassed,
              dump->options->format == SKVT_SQL ? "they are blobs in the script"
                                                : "see raw_b64");
  }
  if (dump->oversized > 0) {
    skvt_fail(0,
              "%llu entries make statements over 1,000,000,000 bytes, which "
              "SQLite refuses; use --format ndjson",
              (unsigned long long)dump->oversized);
  }
}

int skvt_run_dump(const skvt_options *options) {
  const skvt_dump_format *format =
      options->format == SKVT_SQL ? &skvt_dump_sql : &skvt_dump_ndjson;
  skvt_dump dump = {.options = options};
  stratakv_error error = {0, ""};
  int code;
  int rc;
  dump.store = skvt_open(options->words[0], &code);
  if (dump.store == NULL) return code;
  rc = stratakv_snapshot_open(dump.store, &error, &dump.snapshot);
  if (rc == STRATAKV_OK) rc = dump_find_tables(&dump, &error);
  if (rc == STRATAKV_OK) {
    rc = dump_tables(&dump, format, &error);
    dump_warn(&dump);
  }
  stratakv_snapshot_close(dump.snapshot);
  stratakv_close(dump.store, NULL);
  free(dump.tables);
  return rc == STRATAKV_OK ? SKVT_OK : skvt_fail_store(rc, &error);
}
