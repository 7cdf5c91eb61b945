/* The conversions of json.h. */
#include "ext/httpd/json.h"

#include <math.h>
#include <stdlib.h>

/* Step over a string that began before p; stops at its closing quote. */
static const char *json_skip_string(const char *p, const char *end) {
  while (p < end && *p != '"') p += *p == '\\' ? 2 : 1;
  return p < end ? p : end;
}

bool skvd_json_is_modest(const char *text, size_t len) {
  const char *end = text + len;
  size_t depth = 0, values = 1;
  for (const char *p = text; p < end; p++) {
    switch (*p) {
    case '"': p = json_skip_string(p + 1, end); break;
    case '[':
    case '{':
      depth++;
      values++;
      break;
    case ']':
    case '}':
      if (depth > 0) depth--;
      break;
    case ',': values++; break;
    default: break;
    }
    if (depth > SKVD_JSON_MAX_DEPTH || values > SKVD_JSON_MAX_VALUES) {
      return false;
    }
  }
  return true;
}

static char base64_digit(unsigned value) {
  return "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
      [value & 63];
}

/* One to three bytes at p to four characters at out. */
static void base64_group(const uint8_t *p, size_t n, char *out) {
  unsigned bits = (unsigned)p[0] << 16;
  if (n > 1) bits |= (unsigned)p[1] << 8;
  if (n > 2) bits |= p[2];
  out[0] = base64_digit(bits >> 18);
  out[1] = base64_digit(bits >> 12);
  out[2] = n > 1 ? base64_digit(bits >> 6) : '=';
  out[3] = n > 2 ? base64_digit(bits) : '=';
}

json_t *skvd_json_base64(const void *bytes, size_t len) {
  const uint8_t *p = bytes;
  size_t size = (len + 2) / 3 * 4;
  char *text = malloc(size + 1);
  json_t *json;
  if (text == NULL) return NULL;
  for (size_t i = 0, o = 0; i < len; i += 3, o += 4) {
    base64_group(p + i, len - i < 3 ? len - i : 3, text + o);
  }
  json = json_stringn(text, size);
  free(text);
  return json;
}

static int json_put_key(json_t *item, int key_type, const void *key,
                        size_t len) {
  json_t *text;
  if (key_type == STRATAKV_KEY_INT && len == 8) {
    return json_object_set_new(item, "key",
                               json_integer(stratakv_int_key_value(key)));
  }
  text = key_type == STRATAKV_KEY_TEXT ? json_stringn(key, len) : NULL;
  if (text != NULL) return json_object_set_new(item, "key", text);
  return json_object_set_new(item, "key_b64", skvd_json_base64(key, len));
}

static int json_put_blob(json_t *item, const stratakv_typed *value) {
  json_t *text = value->type == STRATAKV_TEXT
                     ? json_stringn(value->data, value->size)
                     : NULL;
  if (text != NULL) return json_object_set_new(item, "value", text);
  if (value->type == STRATAKV_TEXT &&
      json_object_set_new(item, "type", json_string("text")) != 0) {
    return -1;
  }
  return json_object_set_new(item, "value_b64",
                             skvd_json_base64(value->data, value->size));
}

static int json_put_value(json_t *item, const stratakv_typed *value) {
  if (value->type == STRATAKV_INTEGER) {
    return json_object_set_new(item, "value", json_integer(value->integer));
  }
  if (value->type == STRATAKV_REAL && isfinite(value->real)) {
    return json_object_set_new(item, "value", json_real(value->real));
  }
  if (value->type == STRATAKV_REAL) {
    return json_object_set_new(item, "value_real",
                               json_string(value->real < 0 ? "-inf" : "inf"));
  }
  if (value->type == STRATAKV_NULL) {
    return json_object_set_new(item, "value", json_null());
  }
  return json_put_blob(item, value);
}

json_t *skvd_json_item(int key_type, const void *key, size_t key_len,
                       const stratakv_typed *value, uint64_t version) {
  json_t *item = json_object();
  if (item == NULL) return NULL;
  if (json_put_key(item, key_type, key, key_len) != 0 ||
      json_put_value(item, value) != 0 ||
      json_object_set_new(item, "version", json_integer((json_int_t)version)) !=
          0) {
    json_decref(item);
    return NULL;
  }
  return item;
}

char *skvd_json_text(const json_t *json) {
  return json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(17));
}
