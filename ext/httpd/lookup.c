/* The lookups of lookup.h. */
#include "ext/httpd/lookup.h"

#include <string.h>

bool skvd_lookup_table(skvd_request *request, const char *name, size_t name_len,
                       stratakv_table_info *out) {
  char text[STRATAKV_MAX_TABLE_NAME + 1];
  stratakv_error error;
  int rc;
  if (name_len >= sizeof text || memchr(name, 0, name_len) != NULL) {
    skvd_answer_problem(request, SKVD_INVALID_PARAMETER,
                        "this cannot be the name of a table");
    return false;
  }
  memcpy(text, name, name_len);
  text[name_len] = 0;
  rc = stratakv_table(request->app->store, text, 0, 0, &error, out);
  if (rc == STRATAKV_OK) return true;
  if (rc == STRATAKV_NOTFOUND) {
    skvd_answer_problem(request, SKVD_TABLE_NOT_FOUND,
                        "there is no table \"%s\"", text);
  } else {
    skvd_answer_store_error(request, rc, &error);
  }
  return false;
}

bool skvd_lookup_exists(skvd_request *request, uint32_t table,
                        const skvd_key *key, bool *exists) {
  stratakv_error error = {0, ""};
  int rc = stratakv_get(request->app->store, NULL, table, key->bytes, key->len,
                        &error, NULL);
  *exists = rc == STRATAKV_OK;
  if (rc == STRATAKV_OK || rc == STRATAKV_NOTFOUND) return true;
  skvd_answer_store_error(request, rc, &error);
  return false;
}

bool skvd_lookup_entry(skvd_request *request, uint32_t table,
                       const skvd_key *key, bool *exists, stratakv_value *value,
                       stratakv_typed *typed) {
  stratakv_error error = {0, ""};
  int rc = stratakv_get(request->app->store, NULL, table, key->bytes, key->len,
                        &error, value);
  *exists = rc == STRATAKV_OK;
  if (rc == STRATAKV_NOTFOUND) return true;
  if (rc != STRATAKV_OK) {
    skvd_answer_store_error(request, rc, &error);
    return false;
  }
  if (stratakv_typed_decode(value->data, value->size, typed) != STRATAKV_OK) {
    skvd_answer_problem(request, SKVD_CORRUPT,
                        "the key's value has no class that HTTP or SQL knows");
    return false;
  }
  return true;
}

/* Places in the log. */
typedef struct lookup_places {
  double visible;
  double durable;
} lookup_places;

static int lookup_place(void *arg, const char *name, double value,
                        const char *unit, const char *help) {
  lookup_places *places = arg;
  (void)unit;
  (void)help;
  if (strcmp(name, "stratakv_visible_lsn") == 0) places->visible = value;
  if (strcmp(name, "stratakv_durable_lsn") == 0) places->durable = value;
  return 0;
}

bool skvd_lookup_is_durable(const skvd_request *request) {
  lookup_places places = {1, 0};
  if (request->app->options->sync != STRATAKV_SYNC_FULL) return true;
  return stratakv_stats(request->app->store, lookup_place, &places, NULL) ==
             STRATAKV_OK &&
         places.durable >= places.visible;
}
