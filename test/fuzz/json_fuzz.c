/*
 * JSON: the scan before the parser keeps its promise about what it lets
 * through, and refuses nothing of modest size; items of any bytes are JSON
 * that says what they are.
 *
 * INPUT  A request body. Its bytes are also the key and value of an item.
 */
#include <math.h>

#include "ext/json/item.h"
#include "ext/json/json.h"
#include "ext/json/utf8.h"
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
    json_t *item = skv_item_encode(type, data, key_len, &value, size);
    FUZZ_CHECK(item != NULL);
    FUZZ_CHECK(says_bytes(item, "value", "value_b64", data, size));
    if (type != STRATAKV_KEY_INT || key_len != 8)
      FUZZ_CHECK(says_bytes(item, "key", "key_b64", data, key_len));
    bool was_text = json_is_string(json_object_get(item, "value"));
    FUZZ_CHECK(was_text == (is_text && skv_utf8_is_valid(data, size)));
    char *text = skv_json_text(item);
    FUZZ_CHECK(text != NULL);
    free(text);
    json_decref(item);
  }
}

/* Bytes as base64 and back; any text as base64. */
static void check_base64(const uint8_t *data, size_t size) {
  json_t *json = skv_json_base64(data, size);
  FUZZ_CHECK(json != NULL);
  uint8_t *out = fuzz_alloc(size + 3);
  size_t n = 0;
  FUZZ_CHECK(skv_json_unbase64(json_string_value(json),
                               json_string_length(json), out, &n));
  FUZZ_CHECK(n == size && (n == 0 || memcmp(out, data, n) == 0));
  skv_json_unbase64((const char *)data, size, out, &n);
  free(out);
  json_decref(json);
}

/* What an item says is what it was made from. */
static void check_decoded(const json_t *json, int key_type, skv_slice key,
                          const stratakv_typed *value) {
  skv_item item = {0};
  const char *why = NULL;
  uint8_t head[9];
  size_t n = stratakv_typed_head(value, head);
  bool has_data = value->type == STRATAKV_TEXT || value->type == STRATAKV_BLOB;
  FUZZ_CHECK(skv_item_decode(json, key_type, &item, &why));
  FUZZ_CHECK(skv_equal(key, skv_slice_of(item.key.data, item.key.size)));
  FUZZ_CHECK(item.value.size == n + (has_data ? value->size : 0));
  FUZZ_CHECK(memcmp(item.value.data, head, n) == 0);
  if (has_data && value->size > 0)
    FUZZ_CHECK(memcmp(item.value.data + n, value->data, value->size) == 0);
  skv_item_clear(&item);
}

/* Any JSON as an item: refused with a reason, or the same one again. */
static void check_decode(const json_t *json) {
  for (int type = STRATAKV_KEY_TEXT; type <= STRATAKV_KEY_INT; type++) {
    skv_item item = {0};
    stratakv_typed value;
    const char *why = NULL;
    if (!skv_item_decode(json, type, &item, &why)) {
      FUZZ_CHECK(why != NULL);
    } else if (stratakv_typed_decode(item.value.data, item.value.size,
                                     &value) == STRATAKV_OK) {
      json_t *again =
          skv_item_encode(type, item.key.data, item.key.size, &value, 0);
      FUZZ_CHECK(again != NULL);
      check_decoded(again, type, skv_slice_of(item.key.data, item.key.size),
                    &value);
      json_decref(again);
    } /* else raw_b64 */
    skv_item_clear(&item);
  }
}

static void check_numbers(const uint8_t *data) {
  stratakv_typed value = {.type = STRATAKV_INTEGER};
  value.integer = (int64_t)skv_get64(data);
  json_t *item = skv_item_encode(STRATAKV_KEY_BLOB, data, 8, &value, 1);
  FUZZ_CHECK(json_integer_value(json_object_get(item, "value")) ==
             value.integer);
  json_decref(item);
  value.type = STRATAKV_REAL;
  memcpy(&value.real, data, 8);
  if (isnan(value.real)) return; /* SQLite has none */
  item = skv_item_encode(STRATAKV_KEY_BLOB, data, 8, &value, 1);
  char *text = skv_json_text(item);
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

static void check_scan(const char *text, size_t len) {
  bool is_modest = skv_json_is_modest(text, len);
  if (!is_modest && len > 256 * 1024) return;
  json_error_t error;
  json_t *json =
      json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
  if (json == NULL) return;
  size_t values = 0, depth = measure(json, &values);
  check_decode(json);
  if (is_modest)
    FUZZ_CHECK(depth <= SKV_JSON_MAX_DEPTH && values <= SKV_JSON_MAX_VALUES);
  else
    FUZZ_CHECK(depth > SKV_JSON_MAX_DEPTH || len / 2 > SKV_JSON_MAX_VALUES);
  if (json_is_object(json) || json_is_array(json)) {
    char *again = skv_json_text(json);
    FUZZ_CHECK(again != NULL);
    json_t *twice = json_loadb(again, strlen(again), JSON_ALLOW_NUL, NULL);
    FUZZ_CHECK(twice != NULL && json_equal(json, twice));
    json_decref(twice);
    free(again);
  }
  json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  check_scan((const char *)data, size);
  check_item(data, size);
  check_base64(data, size);
  if (size >= 8) check_numbers(data);
  return 0;
}
