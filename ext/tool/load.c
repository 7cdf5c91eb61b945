/*
 * Subcommand load: the lines of an NDJSON dump, as blind puts.
 *
 * LINES  An entry (item.h). {"table":..,"key_type":..} says where the next
 *   ones go. {"end":true,"count":..} is the last one. {"error":..} stands
 *   where a dump was cut short.
 *
 * BATCHES  Committed every 1 MiB or 10,000 lines. At a line that is no entry,
 *   what came before it is committed, and how much that is, is said; so the
 *   input can be mended and loaded again, from there or from its beginning.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ext/json/item.h"
#include "ext/json/json.h"
#include "ext/tool/lines.h"
#include "ext/tool/output.h"
#include "ext/tool/tool.h"

#define LOAD_BATCH_BYTES (1u << 20)
#define LOAD_BATCH_LINES 10000

typedef struct load {
  const skvt_options *options;
  stratakv_store *store;
  stratakv_table_info table; /* id 0: none so far */
  stratakv_batch *batch;
  size_t batch_bytes;
  uint64_t batch_lines;
  uint64_t line;      /* the current one's number, from 1 */
  uint64_t committed; /* the last line that is committed */
  uint64_t entries;
  bool is_ended; /* there was an end line */
  skv_item item;
} load;

/* ---- Failures ------------------------------------------------------------ */

/* The store failed: what is committed is known, what was tried is not in. */
static int load_fail(const load *l, int rc, const stratakv_error *error) {
  if (rc == STRATAKV_INTERRUPT) return SKVT_FAILED;
  return skvt_fail(SKVT_FAILED, "%s; %" PRIu64 " lines are committed",
                   error->message, l->committed);
}

static int load_commit(load *l) {
  stratakv_error error = {0, ""};
  int rc = STRATAKV_OK;
  if (l->batch_lines > 0) {
    rc = stratakv_write(l->store, &l->batch, 1, &error, NULL);
  }
  if (rc != STRATAKV_OK) return load_fail(l, rc, &error);
  stratakv_batch_clear(l->batch);
  l->batch_bytes = 0;
  l->batch_lines = 0;
  l->committed = l->line;
  return SKVT_OK;
}

static int load_no_memory(const load *l) {
  stratakv_error error = {STRATAKV_NOMEM, "out of memory"};
  return load_fail(l, STRATAKV_NOMEM, &error);
}

/* The current line is bad. */
static int load_refuse(load *l, const char *why) {
  uint64_t line = l->line--;
  int code = load_commit(l);
  if (code != SKVT_OK) return code;
  return skvt_fail(SKVT_DAMAGE,
                   "line %" PRIu64 ": %s; %" PRIu64 " lines are committed",
                   line, why, l->committed);
}

/* ---- Lines --------------------------------------------------------------- */

static int load_open_table(load *l, const char *name, int key_type) {
  stratakv_error error = {0, ""};
  int rc = stratakv_table(l->store, name, key_type, 1, &error, &l->table);
  if (rc == STRATAKV_OK) return SKVT_OK;
  if (rc == STRATAKV_CONSTRAINT) {
    snprintf(error.message, sizeof error.message,
             "table \"%s\" exists with keys of another type", name);
  }
  return load_fail(l, rc, &error);
}

static int load_default_table(load *l) {
  const char *name = l->options->table;
  return load_open_table(l, name != NULL ? name : "kv", l->options->key_type);
}

static int load_key_type(const json_t *json) {
  const char *name = json_string_value(json);
  if (name == NULL) return 0;
  if (strcmp(name, "text") == 0) return STRATAKV_KEY_TEXT;
  if (strcmp(name, "blob") == 0) return STRATAKV_KEY_BLOB;
  return strcmp(name, "int") == 0 ? STRATAKV_KEY_INT : 0;
}

static int load_table_line(load *l, const json_t *json) {
  const char *name = json_string_value(json_object_get(json, "table"));
  int key_type = load_key_type(json_object_get(json, "key_type"));
  int code;
  if (name == NULL || key_type == 0 || json_object_size(json) != 2) {
    return load_refuse(l, "this is no line that names a table");
  }
  if (l->options->table != NULL || l->options->key_type != 0) {
    return load_refuse(l, "the input names its tables, so --table and "
                          "--key-type must not be given");
  }
  code = load_commit(l);
  return code == SKVT_OK ? load_open_table(l, name, key_type) : code;
}

static int load_end_line(load *l, const json_t *json) {
  char why[100];
  json_t *count = json_object_get(json, "count");
  if (!json_is_true(json_object_get(json, "end"))) {
    return load_refuse(l, "this is no end line");
  }
  l->is_ended = true;
  if (count == NULL || json_integer_value(count) == (json_int_t)l->entries) {
    return SKVT_OK;
  }
  snprintf(why, sizeof why,
           "the end line counts %" JSON_INTEGER_FORMAT " entries, but %" PRIu64
           " came",
           json_integer_value(count), l->entries);
  return load_refuse(l, why);
}

static int load_error_line(load *l, const json_t *json) {
  const json_t *error = json_object_get(json, "error");
  const char *detail = json_string_value(json_object_get(error, "detail"));
  char why[600];
  snprintf(why, sizeof why, "the dump was cut short: %s",
           detail != NULL ? detail : "no reason given");
  return load_refuse(l, why);
}

static int load_entry(load *l, const json_t *json) {
  const char *why;
  int code = l->table.id == 0 ? load_default_table(l) : SKVT_OK;
  int rc;
  if (code != SKVT_OK) return code;
  if (!skv_item_decode(json, l->table.key_type, &l->item, &why)) {
    return why == skv_item_no_memory ? load_no_memory(l) : load_refuse(l, why);
  }
  rc = stratakv_batch_put(l->batch, l->table.id, l->item.key.data,
                          l->item.key.size, l->item.value.data,
                          l->item.value.size);
  if (rc != STRATAKV_OK) return load_no_memory(l);
  l->entries++;
  l->batch_lines++;
  l->batch_bytes += l->item.key.size + l->item.value.size;
  if (l->batch_bytes < LOAD_BATCH_BYTES && l->batch_lines < LOAD_BATCH_LINES) {
    return SKVT_OK;
  }
  return load_commit(l);
}

static int load_json(load *l, const json_t *json) {
  if (l->is_ended) return load_refuse(l, "it stands behind the end line");
  if (json_object_get(json, "table") != NULL) return load_table_line(l, json);
  if (json_object_get(json, "end") != NULL) return load_end_line(l, json);
  if (json_object_get(json, "error") != NULL) return load_error_line(l, json);
  return load_entry(l, json);
}

static int load_line(load *l, const char *text, size_t len) {
  json_error_t error;
  json_t *json;
  bool no_memory;
  int code;
  l->line++;
  if (!skv_json_is_modest(text, len)) {
    return load_refuse(l, "this is no entry: too much JSON");
  }
  json = skv_json_parse(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL,
                        &error, &no_memory);
  if (no_memory) return load_no_memory(l);
  if (json == NULL) return load_refuse(l, error.text);
  code = load_json(l, json);
  json_decref(json);
  return code;
}

/* ---- The whole ----------------------------------------------------------- */

static int load_lines(load *l, skvt_lines *lines) {
  const char *text;
  size_t len;
  int code = l->options->table != NULL ? load_default_table(l) : SKVT_OK;
  while (code == SKVT_OK && skvt_lines_next(lines, &text, &len)) {
    code = load_line(l, text, len);
  }
  if (code != SKVT_OK) return code;
  if (skvt_is_interrupted()) {
    return skvt_fail(SKVT_FAILED,
                     "interrupted; %" PRIu64 " lines are committed",
                     l->committed);
  }
  code = load_commit(l);
  if (code == SKVT_OK && lines->failure != 0) {
    return skvt_fail(SKVT_FAILED,
                     "cannot read on: %s; %" PRIu64 " lines are committed",
                     strerror(lines->failure), l->committed);
  }
  return code;
}

static int load_run(load *l, skvt_lines *lines) {
  int code;
  l->store = skvt_create(l->options->words[0], &code);
  if (l->store == NULL) return code;
  l->batch = stratakv_batch_new();
  code = l->batch != NULL ? load_lines(l, lines)
                          : skvt_fail(SKVT_FAILED, "out of memory");
  if (code == SKVT_OK && !l->options->is_quiet) {
    skvt_out_line("%" PRIu64 " entr%s", l->entries,
                  l->entries == 1 ? "y" : "ies");
  }
  stratakv_batch_free(l->batch);
  skv_item_clear(&l->item);
  stratakv_close(l->store, NULL);
  return code;
}

int skvt_run_load(const skvt_options *options) {
  const char *path = options->words[1] != NULL ? options->words[1] : "-";
  load l = {.options = options};
  skvt_lines lines;
  int code;
  if (!skvt_lines_open(&lines, path)) {
    return skvt_fail(SKVT_FAILED, "cannot read \"%s\": %s", path,
                     strerror(errno));
  }
  code = load_run(&l, &lines);
  skvt_lines_close(&lines);
  return code;
}
