/* The conversions of key.h. */
#include "ext/httpd/key.h"

#include "ext/json/utf8.h"
#include "stratakv.h"

bool skvd_parse_int64(const char *text, size_t len, int64_t *out) {
  bool is_negative = len > 0 && text[0] == '-';
  size_t i = is_negative ? 1 : 0;
  uint64_t limit = (uint64_t)INT64_MAX + (is_negative ? 1 : 0);
  uint64_t value = 0;
  if (i == len || (text[i] == '0' && len > 1)) return false;
  for (; i < len; i++) {
    unsigned digit = (unsigned char)text[i] - (unsigned)'0';
    if (digit > 9 || value > (limit - digit) / 10) return false;
    value = value * 10 + digit;
  }
  *out = is_negative ? (int64_t)(0 - value) : (int64_t)value;
  return true;
}

bool skvd_key_make(int key_type, const char *bytes, size_t len, skvd_key *out,
                   const char **why) {
  int64_t number;
  out->bytes = bytes;
  out->len = len;
  *why = NULL;
  if (len == 0) {
    *why = "the key is empty";
  } else if (key_type == STRATAKV_KEY_TEXT && !skv_utf8_is_valid(bytes, len)) {
    *why = "the key of a text table must be UTF-8";
  } else if (key_type == STRATAKV_KEY_INT) {
    if (skvd_parse_int64(bytes, len, &number)) {
      stratakv_int_key(number, out->number);
      out->bytes = out->number;
      out->len = sizeof out->number;
    } else {
      *why = "the key of an int table must be a decimal 64-bit integer";
    }
  }
  return *why == NULL;
}
