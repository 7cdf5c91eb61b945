/*
 * JSON: the scan before the parser keeps its promise about what it lets
 * through, and refuses nothing of modest size; items of any bytes are JSON
 * that says what they are.
 *
 * INPUT  A request body. Its bytes are also the key and value of an item.
 */
#include <math.h>

#include "ext/httpd/json.h"
#include "ext/httpd/utf8.h"
#include "test/fuzz/fuzz.h"

size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng) {
  (void)data;
  (void)max;
  (void)rng;
  return size;
}

/* Depth of the nesting, and the number of values. */
static size_t measure(const json_t *json, size_t *values) {
  size_t deepest = 0, i;
  const char *key;
  json_t *member;
  ++*values;
  if (json_is_array(json)) {
    json_array_foreach(json, i, member) {
      size_t depth = measure(member, values);
      if (depth > deepest) deepest = depth;
    }
    return deepest + 1;
  }
  if (json_is_object(json)) {
    json_object_foreach((json_t *)(uintptr_t)json, key, member) {
      size_t depth = measure(member, values);
      if (depth > deepest) deepest = depth;
    }
    return deepest + 1;
  }
  return 0;
}

static void check_scan(const char *text, size_t len) {
  bool is_modest = skvd_json_is_modest(text, len);
  if (!is_modest && len > 256 * 1024) return;
  json_error_t error;
  json_t *json =
      json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
  if (json == NULL) return;
  size_t values = 0, depth = measure(json, &values);
  if (is_modest)
    FUZZ_CHECK(depth <= SKVD_JSON_MAX_DEPTH && values <= SKVD_JSON_MAX_VALUES);
  else
    FUZZ_CHECK(depth > SKVD_JSON_MAX_DEPTH || len / 2 > SKVD_JSON_MAX_VALUES);
  if (json_is_object(json) || json_is_array(json)) {
    char *again = skvd_json_text(json);
    FUZZ_CHECK(again != NULL);
    json_t *twice = json_loadb(again, strlen(again), JSON_ALLOW_NUL, NULL);
    FUZZ_CHECK(twice != NULL && json_equal(json, twice));
    json_decref(twice);
    free(again);
  }
  json_decref(json);
}

static int digit(char c) {
  const char *all =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const char *at = c ? strchr(all, c) : NULL;
  FUZZ_CHECK(at != NULL);
  return (int)(at - all);
}

static bool is_base64_of(const char *text, const uint8_t *bytes, size_t len) {
  FUZZ_CHECK(strlen(text) == (len + 2) / 3 * 4);
  for (size_t i = 0; i < len; i++) {
    const char *group = text + i / 3 * 4 + i % 3;
    unsigned shift = 2 * (unsigned)(i % 3) + 2;
    unsigned v = (unsigned)digit(group[0]) << shift |
                 (unsigned)digit(group[1]) >> (6 - shift);
    if ((v & 0xff) != bytes[i]) return false;
  }
  return true;
}

static bool says_bytes(const json_t *item, const char *name,
                       const char *name_b64, const uint8_t *bytes, size_t len) {
  const json_t *text = json_object_get(item, name);
  if (json_is_string(text))
    return json_string_length(text) == len &&
           memcmp(json_string_value(text), bytes, len) == 0;
  const json_t *b64 = json_object_get(item, name_b64);
  return json_is_string(b64) &&
         is_base64_of(json_string_value(b64), bytes, len);
}

static void check_item(const uint8_t *data, size_t size) {
  size_t key_len = size < 8 ? size : 8;
  for (int type = STRATAKV_KEY_TEXT; type <= STRATAKV_KEY_INT; type++) {
    bool is_text = type == STRATAKV_KEY_TEXT;
    stratakv_typed value = {.type = is_text ? STRATAKV_TEXT : STRATAKV_BLOB,
                            .data = data,
                            .size = size};
    json_t *item = skvd_json_item(type, data, key_len, &value, size);
    FUZZ_CHECK(item != NULL);
    FUZZ_CHECK(says_bytes(item, "value", "value_b64", data, size));
    if (type != STRATAKV_KEY_INT || key_len != 8)
      FUZZ_CHECK(says_bytes(item, "key", "key_b64", data, key_len));
    bool was_text = json_is_string(json_object_get(item, "value"));
    FUZZ_CHECK(was_text == (is_text && skvd_utf8_is_valid(data, size)));
    char *text = skvd_json_text(item);
    FUZZ_CHECK(text != NULL);
    free(text);
    json_decref(item);
  }
}

static void check_numbers(const uint8_t *data) {
  stratakv_typed value = {.type = STRATAKV_INTEGER};
  value.integer = (int64_t)skv_get64(data);
  json_t *item = skvd_json_item(STRATAKV_KEY_BLOB, data, 8, &value, 1);
  FUZZ_CHECK(json_integer_value(json_object_get(item, "value")) ==
             value.integer);
  json_decref(item);
  value.type = STRATAKV_REAL;
  memcpy(&value.real, data, 8);
  if (isnan(value.real)) return; /* SQLite has none */
  item = skvd_json_item(STRATAKV_KEY_BLOB, data, 8, &value, 1);
  char *text = skvd_json_text(item);
  FUZZ_CHECK(text != NULL);
  json_t *again = json_loads(text, 0, NULL);
  FUZZ_CHECK(again != NULL);
  const json_t *real = json_object_get(again, "value");
  FUZZ_CHECK(isinf(value.real) ? real == NULL
                               : json_number_value(real) == value.real);
  json_decref(again);
  free(text);
  json_decref(item);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  check_scan((const char *)data, size);
  check_item(data, size);
  if (size >= 8) check_numbers(data);
  return 0;
}
