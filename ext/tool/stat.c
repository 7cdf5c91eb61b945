/*
 * Subcommands that describe: stat and inspect.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ext/json/json.h"
#include "ext/tool/output.h"
#include "ext/tool/tool.h"

/* ---- stat ---------------------------------------------------------------- */

static int stat_line(void *arg, const char *name, double value,
                     const char *unit, const char *help) {
  json_t *json = skv_json_number(value);
  char *text =
      json == NULL ? NULL : json_dumps(json, SKV_JSON_FLAGS | JSON_ENCODE_ANY);
  (void)arg;
  (void)help;
  if (text != NULL) skvt_out_line("%-44s %16s %s", name, text, unit);
  free(text);
  json_decref(json);
  return text == NULL || skvt_poll(NULL);
}

static int stat_row(void *rows, const char *name, double value,
                    const char *unit, const char *help) {
  json_t *row = json_pack("{s:s,s:o,s:s,s:s}", "name", name, "value",
                          skv_json_number(value), "unit", unit, "help", help);
  return row == NULL || json_array_append_new(rows, row) != 0;
}

/* {"stats":[...]}, as the daemon answers. */
static int stat_json(stratakv_store *store, stratakv_error *error) {
  json_t *rows = json_array();
  json_t *json = json_pack("{s:o}", "stats", rows);
  int rc = json == NULL ? STRATAKV_NOMEM
                        : stratakv_stats(store, stat_row, rows, error);
  char *text = rc == STRATAKV_OK ? skv_json_text(json) : NULL;
  if (text != NULL) skvt_out_line("%s", text);
  free(text);
  json_decref(json);
  return rc;
}

int skvt_run_stat(const skvt_options *options) {
  stratakv_error error = {0, "out of memory"};
  int code;
  int rc;
  stratakv_store *store = skvt_open(options->words[0], &code);
  if (store == NULL) return code;
  rc = options->is_json ? stat_json(store, &error)
                        : stratakv_stats(store, stat_line, NULL, &error);
  stratakv_close(store, NULL);
  return rc == STRATAKV_OK ? SKVT_OK : skvt_fail_store(rc, &error);
}

/* ---- inspect ------------------------------------------------------------- */

static int inspect_line(void *arg, const char *line) {
  (void)arg;
  skvt_out_line("%s", line);
  return skvt_poll(NULL);
}

int skvt_run_inspect(const skvt_options *options) {
  stratakv_error error = {0, ""};
  int rc = stratakv_inspect(options->words[0], options->has_entries,
                            inspect_line, NULL, &error);
  return rc == STRATAKV_OK ? SKVT_OK : skvt_fail_store(rc, &error);
}
