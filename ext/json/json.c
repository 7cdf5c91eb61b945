/* The conversions of json.h. */
#include "ext/json/json.h"

#include <math.h>
#include <stdlib.h>

#include "ext/json/utf8.h"

/* Step over a string that began before p; stops at its closing quote. */
static const char *json_skip_string(const char *p, const char *end) {
  while (p < end && *p != '"') p += *p == '\\' ? 2 : 1;
  return p < end ? p : end;
}

bool skv_json_is_modest(const char *text, size_t len) {
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
    if (depth > SKV_JSON_MAX_DEPTH || values > SKV_JSON_MAX_VALUES) {
      return false;
    }
  }
  return true;
}

/* An allocation for jansson failed in this thread. */
static _Thread_local bool json_refused;

static void *json_malloc(size_t size) {
  void *p = malloc(size);
  if (p == NULL) json_refused = true;
  return p;
}

/* Before main: jansson wants to know it before anything else is called. */
__attribute__((constructor)) static void json_begin(void) {
  json_set_alloc_funcs(json_malloc, free);
}

json_t *skv_json_parse(const char *text, size_t len, size_t flags,
                       json_error_t *error, bool *no_memory) {
  json_refused = false;
  json_t *json = json_loadb(text, len, flags, error);
  *no_memory = json_refused;
  if (!json_refused) return json;
  json_decref(json);
  return NULL;
}

json_t *skv_json_string(const void *bytes, size_t len, bool *no_memory) {
  json_t *text = json_stringn(len > 0 ? bytes : "", len);
  *no_memory = text == NULL && skv_utf8_is_valid(bytes, len);
  return text;
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

json_t *skv_json_base64(const void *bytes, size_t len) {
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

static int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  return c == '/' ? 63 : -1;
}

/* Four characters at p, `digits` of which count, to digits - 1 bytes; false
 * if they are none, or hold bits that would be lost. */
static bool base64_ungroup(const char *p, int digits, uint8_t *out) {
  unsigned bits = 0;
  for (int i = 0; i < 4; i++) {
    int value = i < digits ? base64_value(p[i]) : 0;
    if (value < 0 || (i >= digits && p[i] != '=')) return false;
    bits = bits << 6 | (unsigned)value;
  }
  for (int i = 0; i < digits - 1; i++) out[i] = (uint8_t)(bits >> (16 - 8 * i));
  return digits == 4 || (bits & (0xffffffu >> 8 * (digits - 1))) == 0;
}

bool skv_json_unbase64(const char *text, size_t len, uint8_t *out,
                       size_t *out_len) {
  size_t n = 0;
  if (len % 4 != 0) return false;
  for (size_t i = 0; i < len; i += 4) {
    int digits = 4;
    if (i + 4 == len && text[i + 3] == '=') digits = text[i + 2] == '=' ? 2 : 3;
    if (!base64_ungroup(text + i, digits, out + n)) return false;
    n += (size_t)digits - 1;
  }
  *out_len = n;
  return true;
}

char *skv_json_text(const json_t *json) {
  json_refused = false;
  char *text = json_dumps(json, SKV_JSON_FLAGS);
  if (!json_refused) return text;
  free(text);
  return NULL;
}

json_t *skv_json_number(double value) {
  if (!isfinite(value)) return json_null();
  if (value > -9007199254740992.0 && value < 9007199254740992.0 &&
      value == (double)(json_int_t)value) {
    return json_integer((json_int_t)value);
  }
  return json_real(value);
}
