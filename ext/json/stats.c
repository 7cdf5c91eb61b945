/* The code of stats.h. */
#include "ext/json/stats.h"

#include <stdbool.h>
#include <stdio.h>

#include "ext/json/json.h"

typedef struct stats_rows {
  json_t *list;
  bool is_out_of_memory; /* the store is told to stop, and says OK */
} stats_rows;

static int stats_row(void *arg, const char *name, double value,
                     const char *unit, const char *help) {
  stats_rows *rows = arg;
  json_t *row = json_pack("{s:s,s:o,s:s,s:s}", "name", name, "value",
                          skv_json_number(value), "unit", unit, "help", help);
  if (row == NULL || json_array_append_new(rows->list, row) != 0)
    rows->is_out_of_memory = true;
  return rows->is_out_of_memory;
}

int skv_json_stats(stratakv_store *store, stratakv_error *err, json_t **out) {
  stats_rows rows = {json_array(), false};
  int rc = STRATAKV_OK;
  *out = NULL;
  rows.is_out_of_memory = rows.list == NULL;
  if (!rows.is_out_of_memory) rc = stratakv_stats(store, stats_row, &rows, err);
  if (rc == STRATAKV_OK && !rows.is_out_of_memory) {
    *out = json_pack("{s:O}", "stats", rows.list);
    rows.is_out_of_memory = *out == NULL;
  }
  json_decref(rows.list);
  if (!rows.is_out_of_memory) return rc;
  if (err != NULL) {
    err->code = STRATAKV_NOMEM;
    snprintf(err->message, sizeof err->message, "out of memory");
  }
  return STRATAKV_NOMEM;
}
