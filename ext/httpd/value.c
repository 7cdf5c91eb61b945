/* The conversions of value.h. */
#include "ext/httpd/value.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ext/httpd/key.h"
#include "ext/json/utf8.h"

static const char *const value_types[] = {NULL,   "integer", "real",
                                          "text", "blob",    "null"};

const char *skvd_type_name(int type) { return value_types[type]; }

static int value_type_of(const skvd_header *header) {
  for (int type = STRATAKV_INTEGER; type <= STRATAKV_NULL; type++) {
    if (skvd_header_is(header, value_types[type])) return type;
  }
  return 0;
}

static const char *value_skip_digits(const char *p) {
  while (*p >= '0' && *p <= '9') p++;
  return p;
}

/* -?digits[.digits][e[+-]digits]: narrower than strtod, which also takes
 * hexadecimal, white space and "infinity". */
static bool value_is_decimal(const char *p, const char *end) {
  const char *start;
  if (*p == '-') p++;
  start = p;
  p = value_skip_digits(p);
  if (p == start) return false;
  if (*p == '.') {
    start = ++p;
    p = value_skip_digits(p);
    if (p == start) return false;
  }
  if (*p == 'e' || *p == 'E') {
    p++;
    if (*p == '+' || *p == '-') p++;
    start = p;
    p = value_skip_digits(p);
    if (p == start) return false;
  }
  return p == end;
}

static bool value_parse_real(const char *text, size_t len, double *out) {
  if (strlen(text) != len) return false;
  if (strcmp(text, "inf") == 0 || strcmp(text, "-inf") == 0) {
    *out = text[0] == '-' ? -INFINITY : INFINITY;
    return true;
  }
  if (!value_is_decimal(text, text + len)) return false;
  *out = strtod(text, NULL);
  return isfinite(*out);
}

/* The body as the class that Strata-Type names. */
static bool value_parse(const char *body, size_t len, stratakv_typed *out,
                        const char **why) {
  bool is_ok = true;
  *why = "the body is not of the class that Strata-Type names";
  switch (out->type) {
  case STRATAKV_INTEGER:
    is_ok = skvd_parse_int64(body, len, &out->integer);
    break;
  case STRATAKV_REAL: is_ok = value_parse_real(body, len, &out->real); break;
  case STRATAKV_TEXT: is_ok = skv_utf8_is_valid(body, len); break;
  case STRATAKV_NULL: is_ok = len == 0; break;
  default: break;
  }
  return is_ok;
}

/* Does the media type of a Content-Type value equal `type`, or begin with it
 * if that ends in a slash? */
static bool value_is_media(const skvd_header *header, const char *type) {
  size_t len = strlen(type);
  if (header->value_len < len || strncasecmp(header->value, type, len) != 0) {
    return false;
  }
  return type[len - 1] == '/' || header->value_len == len ||
         header->value[len] == ';' || header->value[len] == ' ' ||
         header->value[len] == '\t';
}

static bool value_by_content(const skvd_header *content, const char *body,
                             size_t len, stratakv_typed *out,
                             const char **why) {
  bool is_utf8;
  out->type = STRATAKV_BLOB;
  if (content != NULL && value_is_media(content, "application/octet-stream")) {
    return true;
  }
  is_utf8 = skv_utf8_is_valid(body, len);
  if (content != NULL && (value_is_media(content, "text/") ||
                          value_is_media(content, "application/json"))) {
    *why = "the body is not UTF-8, as its Content-Type promises";
    out->type = STRATAKV_TEXT;
    return is_utf8;
  }
  if (is_utf8 && memchr(body, 0, len) == NULL) out->type = STRATAKV_TEXT;
  return true;
}

bool skvd_value_of_body(const skvd_headers *headers, const char *body,
                        size_t len, stratakv_typed *out, const char **why) {
  const skvd_header *type = skvd_headers_find(headers, "Strata-Type");
  memset(out, 0, sizeof *out);
  out->data = body;
  out->size = len;
  if (type == NULL) {
    return value_by_content(skvd_headers_find(headers, "Content-Type"), body,
                            len, out, why);
  }
  out->type = value_type_of(type);
  if (out->type == 0 ||
      skvd_headers_next(headers, "Strata-Type", type) != NULL) {
    *why = "Strata-Type is one of text, blob, integer, real, null";
    return false;
  }
  return value_parse(body, len, out, why);
}

static void value_print_real(double real, char number[SKVD_NUMBER_SIZE]) {
  int digits = 15;
  if (!isfinite(real)) {
    strcpy(number, isnan(real) ? "nan" : real < 0 ? "-inf" : "inf");
    return;
  }
  do {
    snprintf(number, SKVD_NUMBER_SIZE, "%.*g", digits, real);
  } while (digits++ < 17 && strtod(number, NULL) != real);
  if (strpbrk(number, ".e") == NULL) strcat(number, ".0");
}

const char *skvd_value_text(const stratakv_typed *value,
                            char number[SKVD_NUMBER_SIZE], size_t *len) {
  number[0] = 0;
  if (value->type == STRATAKV_TEXT || value->type == STRATAKV_BLOB) {
    *len = value->size;
    return value->data;
  }
  if (value->type == STRATAKV_INTEGER) {
    snprintf(number, SKVD_NUMBER_SIZE, "%" PRId64, value->integer);
  } else if (value->type == STRATAKV_REAL) {
    value_print_real(value->real, number);
  }
  *len = strlen(number);
  return number;
}
