/*
 * Subcommands that describe: stat and inspect.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ext/json/json.h"
#include "ext/json/stats.h"
#include "ext/tool/output.h"
#include "ext/tool/tool.h"

/* ---- stat ---------------------------------------------------------------- */

/* arg: a bool, whether memory ended the list. */
static int stat_line(void *arg, const char *name, double value,
                     const char *unit, const char *help) {
  bool *is_out_of_memory = arg;
  json_t *json = skv_json_number(value);
  char *text =
      json == NULL ? NULL : json_dumps(json, SKV_JSON_FLAGS | JSON_ENCODE_ANY);
  (void)help;
  if (text != NULL) skvt_out_line("%-44s %16s %s", name, text, unit);
  *is_out_of_memory = text == NULL;
  free(text);
  json_decref(json);
  return *is_out_of_memory || skvt_poll(NULL);
}

static int stat_lines(stratakv_store *store, stratakv_error *error) {
  bool is_out_of_memory = false;
  int rc = stratakv_stats(store, stat_line, &is_out_of_memory, error);
  return is_out_of_memory ? STRATAKV_NOMEM : rc;
}

/* As the daemon answers. */
static int stat_json(stratakv_store *store, stratakv_error *error) {
  json_t *json;
  int rc = skv_json_stats(store, error, &json);
  if (rc != STRATAKV_OK) return rc;
  char *text = skv_json_text(json);
  if (text != NULL) skvt_out_line("%s", text);
  json_decref(json);
  if (text == NULL) return STRATAKV_NOMEM;
  free(text);
  return rc;
}

int skvt_run_stat(const skvt_options *options) {
  stratakv_error error = {0, "out of memory"};
  int code;
  int rc;
  stratakv_store *store = skvt_open(options->words[0], &code);
  if (store == NULL) return code;
  rc = options->is_json ? stat_json(store, &error) : stat_lines(store, &error);
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
