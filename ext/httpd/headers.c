/* The list of headers.h. */
#include "ext/httpd/headers.h"

#include <string.h>
#include <strings.h>

bool skvd_text_is(const char *bytes, size_t len, const char *text) {
  return strlen(text) == len && strncasecmp(bytes, text, len) == 0;
}

void skvd_headers_add(skvd_headers *headers, const char *name, size_t name_len,
                      const char *value, size_t value_len) {
  skvd_header *header;
  if (headers->count == SKVD_MAX_HEADERS) {
    headers->is_over = true;
    return;
  }
  header = &headers->at[headers->count++];
  header->name = name;
  header->name_len = name_len;
  header->value = value == NULL ? "" : value;
  header->value_len = value == NULL ? 0 : value_len;
}

const skvd_header *skvd_headers_next(const skvd_headers *headers,
                                     const char *name,
                                     const skvd_header *previous) {
  size_t i = previous == NULL ? 0 : (size_t)(previous - headers->at) + 1;
  for (; i < headers->count; i++) {
    const skvd_header *header = &headers->at[i];
    if (skvd_text_is(header->name, header->name_len, name)) return header;
  }
  return NULL;
}

const skvd_header *skvd_headers_find(const skvd_headers *headers,
                                     const char *name) {
  return skvd_headers_next(headers, name, NULL);
}

bool skvd_header_is(const skvd_header *header, const char *text) {
  return skvd_text_is(header->value, header->value_len, text);
}
