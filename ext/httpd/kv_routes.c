/*
 * GET, PUT and DELETE of /v1/kv/{key}: one key, by its raw value.
 *
 * READS  run at once, on the HTTP thread.
 *
 * WRITES  go to the commit queue. If-Match and If-None-Match are conditions
 *   of the commit: see condition.h for how a state is guessed and checked.
 *   Whether a key was there (201 or 204, Strata-Deleted) is looked up when
 *   the request is read, unless a condition has proven it.
 */
#include <inttypes.h>
#include <string.h>

#include "ext/httpd/kv_write.h"
#include "ext/httpd/lookup.h"
#include "ext/httpd/value.h"
#include "ext/json/item.h"

/* Each attempt needs another writer to have been faster. */
#define KV_MOST_ATTEMPTS 16

/* ---- What all three need ------------------------------------------------- */

/* Table and key of the target. False: the request has an answer. */
static bool kv_open(skvd_request *request, stratakv_table_info *table,
                    skvd_key *key) {
  const skvd_param *param = skvd_request_param(request, "table");
  const char *name = param == NULL ? SKVD_DEFAULT_TABLE : param->value;
  size_t name_len = param == NULL ? strlen(name) : param->value_len;
  const char *bytes, *why;
  size_t len;
  if (!skvd_lookup_table(request, name, name_len, table)) return false;
  bytes = skvd_request_tail(request, &len);
  if (skvd_key_make(table->key_type, bytes, len, key, &why)) return true;
  skvd_answer_problem(request, SKVD_INVALID_KEY, "%s", why);
  return false;
}

static bool kv_condition(skvd_request *request, skvd_condition *out) {
  const char *why;
  if (skvd_condition_parse(&request->headers, out, &why)) return true;
  skvd_answer_problem(request, SKVD_INVALID_PARAMETER, "%s", why);
  return false;
}

/* The 412 for a state that a condition does not admit. */
static void kv_refuse(skvd_request *request, const skvd_condition *condition,
                      const skvd_state *state, skvd_problem problem) {
  const skvd_tags *match = &condition->match;
  json_t *members =
      state->exists ? json_pack("{s:I}", "version", (json_int_t)state->version)
                    : json_object();
  if (problem == SKVD_KEY_MISSING) {
    skvd_answer_problem_with(request, problem, members,
                             "key does not exist, If-Match asked for it");
  } else if (problem == SKVD_KEY_EXISTS) {
    skvd_answer_problem_with(request, problem, members,
                             "key exists, at version %" PRIu64, state->version);
  } else if (skvd_condition_match(condition, state) == SKVD_NO_PROBLEM) {
    skvd_answer_problem_with(request, problem, members,
                             "key is at version %" PRIu64
                             ", which If-None-Match excludes",
                             state->version);
  } else if (match->count == 1) {
    skvd_answer_problem_with(request, problem, members,
                             "key is at version %" PRIu64
                             ", If-Match asked for %" PRIu64,
                             state->version, match->versions[0]);
  } else {
    skvd_answer_problem_with(request, problem, members,
                             "key is at version %" PRIu64
                             ", which If-Match does not list",
                             state->version);
  }
}

/* ---- GET ----------------------------------------------------------------- */

/* Does the header's list name this media type? */
static bool kv_accepts(const skvd_header *accept, const char *type) {
  size_t len = strlen(type);
  for (size_t i = 0; i + len <= accept->value_len; i++) {
    if (skvd_text_is(accept->value + i, len, type)) return true;
  }
  return false;
}

/* Is the answer to be JSON? False: the request has an answer. */
static bool kv_format(skvd_request *request, bool *is_json) {
  const skvd_param *format = skvd_request_param(request, "format");
  const skvd_header *accept = skvd_headers_find(&request->headers, "Accept");
  if (format != NULL) {
    *is_json = true;
    if (format->value_len == 4 && memcmp(format->value, "json", 4) == 0) {
      return true;
    }
    skvd_answer_problem(request, SKVD_INVALID_PARAMETER, "format is json");
    return false;
  }
  *is_json = accept != NULL && kv_accepts(accept, "application/json") &&
             !kv_accepts(accept, "*/*");
  return true;
}

static void kv_answer_raw(skvd_request *request, stratakv_value *value,
                          const stratakv_typed *typed) {
  char number[SKVD_NUMBER_SIZE];
  size_t len;
  const char *text;
  const char *media = typed->type == STRATAKV_BLOB
                          ? "application/octet-stream"
                          : "text/plain; charset=utf-8";
  if (typed->type == STRATAKV_TEXT || typed->type == STRATAKV_BLOB) {
    skvd_answer_value(request, media, value, value->size - typed->size);
    return;
  }
  text = skvd_value_text(typed, number, &len);
  skvd_answer_bytes(request, 200, media, text, len);
}

/* The entry is there, and typed borrows from value. */
static void kv_answer_entry(skvd_request *request,
                            const stratakv_table_info *table,
                            const skvd_key *key, stratakv_value *value,
                            const stratakv_typed *typed, bool is_json) {
  uint64_t version = value->version;
  int type = typed->type;
  if (is_json) {
    skvd_answer_json(
        request, 200, "application/json",
        skv_item_encode(table->key_type, key->bytes, key->len, typed, version));
  } else {
    kv_answer_raw(request, value, typed);
  }
  skvd_answer_etag(request, version);
  skvd_answer_header(request, "Strata-Type", skvd_type_name(type));
  skvd_answer_header(request, "X-Content-Type-Options", "nosniff");
  skvd_answer_header(request, "Cache-Control", "no-cache");
}

/* Turn the answer into a 304: the same headers, and no body goes out. */
static void kv_not_modified(skvd_request *request) {
  if (request->answer.status == 0) return;
  request->answer.status = 304;
  request->answer.size = 0;
}

/* The entry is there: answer with it as far as the conditions allow. */
static void kv_answer_read(skvd_request *request,
                           const stratakv_table_info *table,
                           const skvd_key *key, const skvd_condition *condition,
                           stratakv_value *value, const stratakv_typed *typed,
                           bool is_json) {
  skvd_state state = {true, value->version};
  skvd_problem problem = skvd_condition_match(condition, &state);
  if (problem != SKVD_NO_PROBLEM) {
    kv_refuse(request, condition, &state, problem);
    return;
  }
  kv_answer_entry(request, table, key, value, typed, is_json);
  if (skvd_condition_none_match(condition, &state) != SKVD_NO_PROBLEM) {
    kv_not_modified(request);
  }
}

static void kv_get(skvd_request *request) {
  stratakv_table_info table;
  stratakv_value value = {0};
  stratakv_typed typed;
  skvd_condition condition;
  skvd_key key;
  bool is_json, exists;
  if (!kv_open(request, &table, &key) || !kv_condition(request, &condition) ||
      !kv_format(request, &is_json)) {
    return;
  }
  if (!skvd_lookup_entry(request, table.id, &key, &exists, &value, &typed)) {
    /* answered */
  } else if (!exists) {
    skvd_answer_problem(request, SKVD_KEY_NOT_FOUND, "there is no such key");
  } else {
    kv_answer_read(request, &table, &key, &condition, &value, &typed, is_json);
  }
  stratakv_value_clear(&value);
}

/* ---- PUT and DELETE ------------------------------------------------------ */

/* The key's state, for a condition that names none to begin with. */
static bool kv_read_state(skvd_request *request, const skvd_write *write,
                          skvd_state *out) {
  stratakv_value value = {0};
  stratakv_error error = {0, ""};
  int rc = stratakv_get(request->app->store, NULL, write->table.id,
                        write->key.bytes, write->key.len, &error, &value);
  out->exists = rc == STRATAKV_OK;
  out->version = rc == STRATAKV_OK ? value.version : 0;
  stratakv_value_clear(&value);
  if (rc == STRATAKV_OK || rc == STRATAKV_NOTFOUND) return true;
  skvd_answer_store_error(request, rc, &error);
  return false;
}

static void kv_answer_written(skvd_request *request) {
  const skvd_write *write = skvd_write_of(request);
  if (write->is_delete) {
    skvd_answer_empty(request, 204);
    skvd_answer_header(request, "Strata-Deleted", write->existed ? "1" : "0");
  } else {
    skvd_answer_empty(request, write->existed ? 204 : 201);
    skvd_answer_etag(request, write->commit.result.lsn);
  }
  skvd_answer_durable(request);
}

static void kv_finish(skvd_request *request);

/* Go on from a state that was seen, or found by the engine. */
static void kv_attempt(skvd_request *request, const skvd_state *state) {
  skvd_write *write = skvd_write_of(request);
  skvd_problem problem = skvd_condition_check(&write->condition, state);
  if (problem != SKVD_NO_PROBLEM) {
    kv_refuse(request, &write->condition, state, problem);
    return;
  }
  write->existed = state->exists;
  if (write->is_delete && !state->exists && skvd_lookup_is_durable(request)) {
    kv_answer_written(request); /* an absent key needs no tombstone */
  } else if (write->attempts == KV_MOST_ATTEMPTS) {
    skvd_answer_problem(request, SKVD_BUSY, "others keep changing the key");
  } else {
    skvd_write_submit(request, state, kv_finish);
  }
}

/* The commit has a result. */
static void kv_finish(skvd_request *request) {
  const stratakv_result *result = &skvd_write_of(request)->commit.result;
  if (skvd_write_failed(request)) return;
  if (result->code == STRATAKV_CONSTRAINT_CHECK) {
    skvd_state found = {result->version != 0, result->version};
    kv_attempt(request, &found);
  } else {
    kv_answer_written(request);
  }
}

/* A state that the headers themselves name; false if they name none. */
static bool kv_named_state(const skvd_write *write, skvd_state *out) {
  const skvd_tags *match = &write->condition.match;
  const skvd_tags *none_match = &write->condition.none_match;
  out->exists = match->is_given;
  out->version = match->count > 0 ? match->versions[0] : 0;
  if (match->is_given) {
    return !none_match->is_given && (match->is_any || match->count > 0);
  }
  return none_match->is_any && !write->is_delete;
}

static void kv_submit_conditional(skvd_request *request) {
  skvd_write *write = skvd_write_of(request);
  skvd_state state;
  if (kv_named_state(write, &state) || kv_read_state(request, write, &state)) {
    kv_attempt(request, &state);
  }
}

/* Table, key and condition are known, and for a put the value. */
static void kv_submit(skvd_request *request) {
  skvd_write *write = skvd_write_of(request);
  if (skvd_condition_is_given(&write->condition)) {
    kv_submit_conditional(request);
    return;
  }
  if (!skvd_lookup_exists(request, write->table.id, &write->key,
                          &write->existed)) {
    return;
  }
  if (write->is_delete && !write->existed && skvd_lookup_is_durable(request)) {
    kv_answer_written(request);
  } else {
    skvd_write_submit(request, NULL, kv_finish);
  }
}

/* The write of this target; NULL: the request has an answer. */
static skvd_write *kv_new_write(skvd_request *request, bool is_delete) {
  skvd_write *write = skvd_write_new(request);
  if (write == NULL) return NULL;
  write->is_delete = is_delete;
  if (!kv_open(request, &write->table, &write->key) ||
      !kv_condition(request, &write->condition)) {
    return NULL;
  }
  return write;
}

/* Turn the body into the stored form, in place: the room before it takes tag
 * and number. */
static bool kv_take_value(skvd_request *request, skvd_write *write) {
  skvd_body *body = &request->body;
  const char *why = "";
  stratakv_typed typed;
  uint8_t head[9];
  size_t head_len;
  if (!skvd_body_append(body, "", 0, 0)) {
    skvd_answer_problem(request, SKVD_OVERLOADED, "out of memory");
    return false;
  }
  if (!skvd_value_of_body(&request->headers, skvd_body_data(body), body->size,
                          &typed, &why)) {
    skvd_answer_problem(request, SKVD_INVALID_VALUE, "%s", why);
    return false;
  }
  head_len = stratakv_typed_head(&typed, head);
  memcpy(skvd_body_data(body) - head_len, head, head_len);
  write->value = skvd_body_data(body) - head_len;
  write->value_len = head_len;
  if (typed.type == STRATAKV_TEXT || typed.type == STRATAKV_BLOB) {
    write->value_len += typed.size;
  }
  return true;
}

static void kv_put(skvd_request *request) {
  skvd_write *write = kv_new_write(request, false);
  if (write != NULL && kv_take_value(request, write)) kv_submit(request);
}

static void kv_delete(skvd_request *request) {
  if (kv_new_write(request, true) != NULL) kv_submit(request);
}

/* ---- The table ----------------------------------------------------------- */

static const char *const kv_read_params[] = {"table", "format", NULL};
static const char *const kv_write_params[] = {"table", NULL};

const skvd_route skvd_kv_routes[] = {
    {"/v1/kv/{key}",
     "/v1/kv/",
     true,
     false,
     NULL,
     {{"GET", 0, kv_read_params, kv_get},
      {"PUT", SKVD_TAKES_BODY | SKVD_NEEDS_LENGTH, kv_write_params, kv_put},
      {"DELETE", 0, kv_write_params, kv_delete},
      {NULL, 0, NULL, NULL}}},
};
const size_t skvd_kv_route_count =
    sizeof skvd_kv_routes / sizeof skvd_kv_routes[0];
