/*
 * The routes of the original StrataKV server: PUT /put, GET /get, DELETE
 * /delete, POST /compact. Bodies, codes and texts are its own, byte for byte;
 * always table kv; a newline ends each body.
 *
 * As there, unknown parameters are ignored, and of a repeated one the first
 * counts; the body of /put ends where its JSON does.
 */
#include <stdlib.h>
#include <string.h>

#include "ext/httpd/kv_write.h"
#include "ext/httpd/lookup.h"
#include "ext/httpd/value.h"
#include "ext/json/json.h"

static const char legacy_no_key[] =
    "key query parameter is required to request\n";

/* ---- Answers ------------------------------------------------------------- */

static void legacy_answer(skvd_request *request, unsigned status,
                          const char *type, const char *text) {
  skvd_answer_text(request, status, type, text);
  skvd_answer_header(request, "Deprecation", "true");
}

static void legacy_refuse(skvd_request *request, unsigned status,
                          const char *text) {
  legacy_answer(request, status, "text/plain; charset=utf-8", text);
}

static void legacy_accept(skvd_request *request, const char *text) {
  legacy_answer(request, 200, "application/json", text);
}

static void legacy_wrong_method(skvd_request *request) {
  legacy_refuse(request, 405, "Method not allowed\n");
}

/* A document and a newline; takes the reference, NULL is out of memory. */
static void legacy_answer_json(skvd_request *request, unsigned status,
                               json_t *json) {
  char *text = json == NULL ? NULL : skv_json_text(json);
  size_t len = text == NULL ? 0 : strlen(text);
  char *line = text == NULL ? NULL : realloc(text, len + 2);
  json_decref(json);
  if (line == NULL) {
    free(text);
    skvd_answer_clear(&request->answer);
    return;
  }
  memcpy(line + len, "\n", 2);
  legacy_answer(request, status, "application/json", line);
  free(line);
}

/* ---- Keys ---------------------------------------------------------------- */

static bool legacy_make_key(skvd_request *request, const char *bytes,
                            size_t len, stratakv_table_info *table,
                            skvd_key *key) {
  const char *why;
  if (len == 0) {
    legacy_refuse(request, 400, legacy_no_key);
    return false;
  }
  if (!skvd_lookup_table(request, SKVD_DEFAULT_TABLE,
                         strlen(SKVD_DEFAULT_TABLE), table)) {
    return false;
  }
  if (skvd_key_make(table->key_type, bytes, len, key, &why)) return true;
  skvd_answer_problem(request, SKVD_INVALID_KEY, "%s", why);
  return false;
}

/* The key of `?key=`. False: the request has an answer. */
static bool legacy_key(skvd_request *request, stratakv_table_info *table,
                       skvd_key *key) {
  const skvd_param *param = skvd_request_param(request, "key");
  return legacy_make_key(request, param == NULL ? "" : param->value,
                         param == NULL ? 0 : param->value_len, table, key);
}

/* ---- GET /get ------------------------------------------------------------ */

/* The value under "value": text, or base64 and a word about it. */
static int legacy_put_value(json_t *json, const stratakv_typed *typed) {
  char number[SKVD_NUMBER_SIZE];
  size_t len;
  const char *text = skvd_value_text(typed, number, &len);
  json_t *string = NULL;
  bool no_memory = false;
  if (typed->type == STRATAKV_NULL)
    return json_object_set_new(json, "value", json_null());
  if (typed->type != STRATAKV_BLOB)
    string = skv_json_string(text, len, &no_memory);
  if (no_memory) return -1;
  if (string != NULL) return json_object_set_new(json, "value", string);
  if (json_object_set_new(json, "value", skv_json_base64(text, len)) != 0) {
    return -1;
  }
  return json_object_set_new(json, "encoding", json_string("base64"));
}

/* {"key":..,"value":..,"found":..}; typed is NULL if there is none. */
static json_t *legacy_entry(const skvd_request *request,
                            const stratakv_typed *typed) {
  const skvd_param *key = skvd_request_param(request, "key");
  json_t *json = json_object();
  bool no_memory;
  json_t *name = skv_json_string(key->value, key->value_len, &no_memory);
  if (name == NULL && !no_memory)
    name = skv_json_base64(key->value, key->value_len);
  if (json_object_set_new(json, "key", name) != 0 ||
      (typed != NULL && legacy_put_value(json, typed) != 0) ||
      json_object_set_new(json, "found", json_boolean(typed != NULL)) != 0) {
    json_decref(json);
    return NULL;
  }
  return json;
}

static void legacy_get(skvd_request *request) {
  stratakv_table_info table;
  stratakv_value value = {0};
  stratakv_typed typed;
  skvd_key key;
  bool exists;
  if (!legacy_key(request, &table, &key)) return;
  if (skvd_lookup_entry(request, table.id, &key, &exists, &value, &typed)) {
    legacy_answer_json(request, exists ? 200 : 404,
                       legacy_entry(request, exists ? &typed : NULL));
  }
  stratakv_value_clear(&value);
}

/* ---- PUT /put, DELETE /delete -------------------------------------------- */

static void legacy_finish_write(skvd_request *request) {
  if (skvd_write_failed(request)) return;
  legacy_accept(request, skvd_write_of(request)->is_delete
                             ? "{\"status\":\"deleted\"}\n"
                             : "{\"status\":\"success\"}\n");
  skvd_answer_durable(request);
}

/* A string member: absent is the empty string, as in the original; false if
 * it is something else. */
static bool legacy_string(const json_t *json, const char *name,
                          const char **out, size_t *len) {
  const json_t *member = json_object_get(json, name);
  *out = "";
  *len = 0;
  if (member == NULL || json_is_null(member)) return true;
  if (!json_is_string(member)) return false;
  *out = json_string_value(member);
  *len = json_string_length(member);
  return true;
}

/* Put value and key in the place of the JSON text, which was longer than
 * both: the document will not outlive this call, the body will. */
static void legacy_move(skvd_body *body, const char **key, size_t key_len,
                        const char *value, size_t value_len) {
  char *p = skvd_body_data(body);
  p[-1] = STRATAKV_TEXT;
  memcpy(p, value, value_len);
  memcpy(p + value_len, *key, key_len);
  *key = p + value_len;
}

static void legacy_put_document(skvd_request *request, const json_t *json) {
  const char *key, *value;
  size_t key_len, value_len;
  skvd_write *write;
  if (!(json_is_object(json) || json_is_null(json)) ||
      !legacy_string(json, "key", &key, &key_len) ||
      !legacy_string(json, "value", &value, &value_len)) {
    legacy_refuse(request, 400, "Key is required\n");
    return;
  }
  write = skvd_write_new(request);
  if (write == NULL) return;
  legacy_move(&request->body, &key, key_len, value, value_len);
  write->value = skvd_body_data(&request->body) - 1;
  write->value_len = value_len + 1;
  if (legacy_make_key(request, key, key_len, &write->table, &write->key)) {
    skvd_write_submit(request, NULL, legacy_finish_write);
  }
}

static void legacy_put(skvd_request *request) {
  skvd_body *body = &request->body;
  json_t *json = NULL;
  bool no_memory = !skvd_body_append(body, "", 0, 0);
  if (!no_memory && skv_json_is_modest(skvd_body_data(body), body->size)) {
    json = skv_json_parse(skvd_body_data(body), body->size,
                          JSON_DECODE_ANY | JSON_ALLOW_NUL |
                              JSON_DISABLE_EOF_CHECK,
                          NULL, &no_memory);
  }
  if (no_memory)
    skvd_answer_problem(request, SKVD_OVERLOADED, "out of memory");
  else
    legacy_put_document(request, json);
  json_decref(json);
}

static void legacy_delete(skvd_request *request) {
  skvd_write *write = skvd_write_new(request);
  if (write == NULL) return;
  write->is_delete = true;
  if (!legacy_key(request, &write->table, &write->key) ||
      !skvd_lookup_exists(request, write->table.id, &write->key,
                          &write->existed)) {
    return;
  }
  if (write->existed || !skvd_lookup_is_durable(request)) {
    skvd_write_submit(request, NULL, legacy_finish_write);
  } else {
    legacy_finish_write(request);
  }
}

/* ---- POST /compact ------------------------------------------------------- */

static void legacy_compact_done(void *request) { skvd_request_resume(request); }

static void legacy_compact_submit(skvd_request *request) {
  skvd_waiter *waiter = request->state;
  uint64_t id;
  skvd_problem problem = skvd_jobs_begin(request->app->jobs, SKVD_COMPACT,
                                         SKVD_JOB_JOIN, NULL, waiter, &id);
  if (problem == SKVD_NO_PROBLEM) return;
  waiter->is_finished = true;
  waiter->code = problem == SKVD_STOPPING ? STRATAKV_INTERRUPT : STRATAKV_NOMEM;
  skvd_request_resume(request);
}

static void legacy_compact_finish(skvd_request *request) {
  const skvd_waiter *waiter = request->state;
  if (waiter->is_finished && waiter->code != STRATAKV_OK) {
    skvd_answer_store_error(request, waiter->code, &waiter->error);
    return;
  }
  legacy_accept(request,
                "{\"status\":\"compaction triggered successfully\"}\n");
}

static void legacy_compact(skvd_request *request) {
  skvd_waiter *waiter = calloc(1, sizeof *waiter);
  if (waiter == NULL) {
    skvd_answer_problem(request, SKVD_OVERLOADED, "out of memory");
    return;
  }
  waiter->done = legacy_compact_done;
  waiter->arg = request;
  request->state = waiter;
  request->free_state = free;
  skvd_request_park(request, legacy_compact_submit, legacy_compact_finish);
}

/* ---- The table ----------------------------------------------------------- */

const skvd_route skvd_legacy_routes[] = {
    {"/put",
     "/put",
     false,
     true,
     legacy_wrong_method,
     {{"PUT", SKVD_TAKES_BODY, NULL, legacy_put}, {NULL, 0, NULL, NULL}}},
    {"/get",
     "/get",
     false,
     true,
     legacy_wrong_method,
     {{"GET", 0, NULL, legacy_get}, {NULL, 0, NULL, NULL}}},
    {"/delete",
     "/delete",
     false,
     true,
     legacy_wrong_method,
     {{"DELETE", 0, NULL, legacy_delete}, {NULL, 0, NULL, NULL}}},
    {"/compact",
     "/compact",
     false,
     true,
     legacy_wrong_method,
     {{"POST", 0, NULL, legacy_compact}, {NULL, 0, NULL, NULL}}},
};
const size_t skvd_legacy_route_count =
    sizeof skvd_legacy_routes / sizeof skvd_legacy_routes[0];
