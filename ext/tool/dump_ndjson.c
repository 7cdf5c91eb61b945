/*
 * A dump as NDJSON: a JSON object a line. The lines of one table are those of
 * GET /v1/export; without --table, a line with its name and key type stands
 * before each table's, so that load makes the same tables.
 */
#include <inttypes.h>

#include "ext/json/item.h"
#include "ext/json/json.h"
#include "ext/tool/dump.h"
#include "ext/tool/output.h"

static int ndjson_out(const char *bytes, size_t len, void *unused) {
  (void)unused;
  skvt_out(bytes, len);
  return 0;
}

/* Takes the reference; NULL is out of memory. */
static int ndjson_line(json_t *json) {
  int rc = json == NULL
               ? -1
               : json_dump_callback(json, ndjson_out, NULL, SKV_JSON_FLAGS);
  json_decref(json);
  if (rc != 0) return STRATAKV_NOMEM;
  skvt_out_text("\n");
  return STRATAKV_OK;
}

static void ndjson_begin(skvt_dump *dump) { (void)dump; }

static void ndjson_table(skvt_dump *dump) {
  const stratakv_table_info *table = &dump->tables[dump->at];
  if (dump->options->table != NULL) return;
  skvt_out_line("{\"table\":\"%s\",\"key_type\":\"%s\"}", table->name,
                skvt_key_type_name(table->key_type));
}

static int ndjson_entry(skvt_dump *dump, const skvt_entry *entry) {
  return ndjson_line(skv_item_encode(dump->tables[dump->at].key_type,
                                     entry->key, entry->key_len, &entry->value,
                                     entry->version));
}

static void ndjson_table_end(skvt_dump *dump) { (void)dump; }

static void ndjson_end(skvt_dump *dump) {
  skvt_out_line("{\"end\":true,\"count\":%" PRIu64 ",\"snapshot\":%" PRIu64 "}",
                dump->entries, stratakv_snapshot_lsn(dump->snapshot));
}

/* A reader that sees no end line has not seen everything. */
static void ndjson_cut(skvt_dump *dump, const char *why) {
  (void)dump;
  ndjson_line(json_pack("{s:{s:s}}", "error", "detail", why));
}

const skvt_dump_format skvt_dump_ndjson = {
    .begin = ndjson_begin,
    .table = ndjson_table,
    .entry = ndjson_entry,
    .table_end = ndjson_table_end,
    .end = ndjson_end,
    .cut = ndjson_cut,
};
