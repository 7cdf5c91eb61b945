/* The conversions of item.h. */
#include "ext/json/item.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ext/json/json.h"

/* ---- To JSON ------------------------------------------------------------- */

static int item_put_key(json_t *item, int key_type, const void *key,
                        size_t len) {
  json_t *text = NULL;
  bool no_memory = false;
  if (key_type == STRATAKV_KEY_INT && len == 8) {
    return json_object_set_new(item, "key",
                               json_integer(stratakv_int_key_value(key)));
  }
  if (key_type == STRATAKV_KEY_TEXT)
    text = skv_json_string(key, len, &no_memory);
  if (no_memory) return -1;
  if (text != NULL) return json_object_set_new(item, "key", text);
  return json_object_set_new(item, "key_b64", skv_json_base64(key, len));
}

static int item_put_bytes(json_t *item, const stratakv_typed *value) {
  json_t *text = NULL;
  bool no_memory = false;
  if (value->type == STRATAKV_TEXT)
    text = skv_json_string(value->data, value->size, &no_memory);
  if (no_memory) return -1;
  if (text != NULL) return json_object_set_new(item, "value", text);
  if (value->type == STRATAKV_TEXT &&
      json_object_set_new(item, "type", json_string("text")) != 0) {
    return -1;
  }
  return json_object_set_new(item, "value_b64",
                             skv_json_base64(value->data, value->size));
}

static int item_put_real(json_t *item, double real) {
  const char *name = isnan(real) ? "nan" : real < 0 ? "-inf" : "inf";
  if (isfinite(real)) {
    return json_object_set_new(item, "value", json_real(real));
  }
  return json_object_set_new(item, "value_real", json_string(name));
}

static int item_put_value(json_t *item, const stratakv_typed *value) {
  switch (value->type) {
  case STRATAKV_INTEGER:
    return json_object_set_new(item, "value", json_integer(value->integer));
  case STRATAKV_REAL: return item_put_real(item, value->real);
  case STRATAKV_NULL: return json_object_set_new(item, "value", json_null());
  case 0:
    return json_object_set_new(item, "raw_b64",
                               skv_json_base64(value->data, value->size));
  default: return item_put_bytes(item, value);
  }
}

json_t *skv_item_encode(int key_type, const void *key, size_t key_len,
                        const stratakv_typed *value, uint64_t version) {
  json_t *item = json_object();
  if (item == NULL) return NULL;
  if (item_put_key(item, key_type, key, key_len) != 0 ||
      item_put_value(item, value) != 0 ||
      json_object_set_new(item, "version", json_integer((json_int_t)version)) !=
          0) {
    json_decref(item);
    return NULL;
  }
  return item;
}

/* ---- From JSON ----------------------------------------------------------- */

const char skv_item_no_memory[] = "out of memory";

static bool item_reserve(skv_item_bytes *bytes, size_t size) {
  uint8_t *data;
  if (bytes->data != NULL && size <= bytes->capacity) return true;
  data = realloc(bytes->data, size + 16);
  if (data == NULL) return false;
  bytes->data = data;
  bytes->capacity = size + 16;
  return true;
}

/* `head` and the bytes behind it. */
static bool item_set(skv_item_bytes *bytes, const void *head, size_t head_len,
                     const void *data, size_t size, const char **why) {
  if (!item_reserve(bytes, head_len + size)) {
    *why = skv_item_no_memory;
    return false;
  }
  memcpy(bytes->data, head, head_len);
  if (size > 0) memcpy(bytes->data + head_len, data, size);
  bytes->size = head_len + size;
  return true;
}

/* The same from base64. */
static bool item_set_base64(skv_item_bytes *bytes, const void *head,
                            size_t head_len, const json_t *json,
                            const char **why) {
  const char *text = json_string_value(json);
  size_t len = json_string_length(json);
  if (text == NULL) {
    *why = "base64 must be a string";
    return false;
  }
  if (!item_reserve(bytes, head_len + len / 4 * 3)) {
    *why = skv_item_no_memory;
    return false;
  }
  if (!skv_json_unbase64(text, len, bytes->data + head_len, &bytes->size)) {
    *why = "this is no base64";
    return false;
  }
  memcpy(bytes->data, head, head_len);
  bytes->size += head_len;
  return true;
}

/* What an object has under each name of the form; NULL where it has not. */
typedef struct item_members {
  const json_t *key, *key_b64;
  const json_t *value, *value_b64, *value_real, *raw_b64;
  const json_t *type, *version;
} item_members;

static bool item_take_members(const json_t *json, item_members *out,
                              const char **why) {
  size_t known = 0;
  const struct {
    const char *name;
    const json_t **member;
  } rows[] = {
      {"key", &out->key},
      {"key_b64", &out->key_b64},
      {"value", &out->value},
      {"value_b64", &out->value_b64},
      {"value_real", &out->value_real},
      {"raw_b64", &out->raw_b64},
      {"type", &out->type},
      {"version", &out->version},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    *rows[i].member = json_object_get(json, rows[i].name);
    known += *rows[i].member != NULL;
  }
  *why = "there is a member that an entry does not have";
  return known == json_object_size(json);
}

static bool item_decode_key(const item_members *m, int key_type,
                            skv_item_bytes *out, const char **why) {
  uint8_t number[8];
  if ((m->key != NULL) == (m->key_b64 != NULL)) {
    *why = "there must be one of key and key_b64";
    return false;
  }
  if (m->key_b64 != NULL) return item_set_base64(out, "", 0, m->key_b64, why);
  if (key_type == STRATAKV_KEY_INT) {
    stratakv_int_key(json_integer_value(m->key), number);
    *why = "the key of an int table must be an integer";
    return json_is_integer(m->key) && item_set(out, number, 8, "", 0, why);
  }
  *why = "the key must be a string";
  return json_is_string(m->key) &&
         item_set(out, "", 0, json_string_value(m->key),
                  json_string_length(m->key), why);
}

/* A value without bytes of its own, into the store's form. */
static bool item_set_number(skv_item_bytes *out, const stratakv_typed *value,
                            const char **why) {
  uint8_t head[9];
  size_t len = stratakv_typed_head(value, head);
  return item_set(out, head, len, "", 0, why);
}

static bool item_decode_plain(const json_t *json, skv_item_bytes *out,
                              const char **why) {
  static const uint8_t text = STRATAKV_TEXT;
  stratakv_typed value = {0};
  switch (json_typeof(json)) {
  case JSON_STRING:
    return item_set(out, &text, 1, json_string_value(json),
                    json_string_length(json), why);
  case JSON_INTEGER:
    value.type = STRATAKV_INTEGER;
    value.integer = json_integer_value(json);
    return item_set_number(out, &value, why);
  case JSON_REAL:
    value.type = STRATAKV_REAL;
    value.real = json_real_value(json);
    return item_set_number(out, &value, why);
  case JSON_NULL:
    value.type = STRATAKV_NULL;
    return item_set_number(out, &value, why);
  default: *why = "the value must be a string, a number or null"; return false;
  }
}

static bool item_decode_real(const json_t *json, skv_item_bytes *out,
                             const char **why) {
  stratakv_typed value = {.type = STRATAKV_REAL};
  const char *name = json_string_value(json);
  if (name != NULL && strcmp(name, "inf") == 0) {
    value.real = INFINITY;
  } else if (name != NULL && strcmp(name, "-inf") == 0) {
    value.real = -INFINITY;
  } else if (name != NULL && strcmp(name, "nan") == 0) {
    value.real = NAN;
  } else {
    *why = "value_real is \"inf\", \"-inf\" or \"nan\"";
    return false;
  }
  return item_set_number(out, &value, why);
}

static bool item_decode_value(const item_members *m, skv_item_bytes *out,
                              const char **why) {
  uint8_t class = m->type != NULL ? STRATAKV_TEXT : STRATAKV_BLOB;
  int given = (m->value != NULL) + (m->value_b64 != NULL) +
              (m->value_real != NULL) + (m->raw_b64 != NULL);
  if (given != 1) {
    *why = "there must be one value";
    return false;
  }
  if (m->type != NULL && (m->value_b64 == NULL || !json_is_string(m->type) ||
                          strcmp(json_string_value(m->type), "text") != 0)) {
    *why = "type is \"text\", and belongs to value_b64";
    return false;
  }
  if (m->value != NULL) return item_decode_plain(m->value, out, why);
  if (m->value_real != NULL) return item_decode_real(m->value_real, out, why);
  if (m->raw_b64 != NULL) return item_set_base64(out, "", 0, m->raw_b64, why);
  return item_set_base64(out, &class, 1, m->value_b64, why);
}

bool skv_item_decode(const json_t *json, int key_type, skv_item *out,
                     const char **why) {
  item_members members;
  if (!json_is_object(json)) {
    *why = "this is no JSON object";
    return false;
  }
  if (!item_take_members(json, &members, why) ||
      !item_decode_key(&members, key_type, &out->key, why) ||
      !item_decode_value(&members, &out->value, why)) {
    return false;
  }
  if (out->key.size > STRATAKV_MAX_KEY) {
    *why = "the key is over 65535 bytes";
  } else if (out->value.size > STRATAKV_MAX_VALUE) {
    *why = "the value is over 1 GiB";
  } else {
    return true;
  }
  return false;
}

void skv_item_clear(skv_item *item) {
  free(item->key.data);
  free(item->value.data);
  memset(item, 0, sizeof *item);
}
