/*
 * The header fields of one request, as a list.
 *
 * PURPOSE  The pure checks (framing.h, guard.h, condition.h) read requests
 *   from here, without libmicrohttpd and without I/O.
 *
 * The list borrows: names and values live as long as the request does.
 * Values come without the white space around them.
 */
#ifndef SKVD_HEADERS_H
#define SKVD_HEADERS_H

#include <stdbool.h>
#include <stddef.h>

#define SKVD_MAX_HEADERS 64

typedef struct skvd_header {
  const char *name;  /* its bytes, as sent */
  size_t name_len;   /* their number */
  const char *value; /* its bytes, never NULL */
  size_t value_len;  /* their number */
} skvd_header;

typedef struct skvd_headers {
  skvd_header at[SKVD_MAX_HEADERS]; /* in the order of arrival */
  size_t count;                     /* how many are filled */
  bool is_over;                     /* there were more */
} skvd_headers;

/* Append a field; beyond the limit, note that there were more. */
void skvd_headers_add(skvd_headers *headers, const char *name, size_t name_len,
                      const char *value, size_t value_len);

/* The field `name` (in any case) after `previous`, which is NULL for the
 * first; NULL if there is no more. */
const skvd_header *skvd_headers_next(const skvd_headers *headers,
                                     const char *name,
                                     const skvd_header *previous);

/* The first field `name`, or NULL. */
const skvd_header *skvd_headers_find(const skvd_headers *headers,
                                     const char *name);

/* Does the field's value equal `text`, in any case? */
bool skvd_header_is(const skvd_header *header, const char *text);

/* Do len bytes equal the C string `text`, in any case? */
bool skvd_text_is(const char *bytes, size_t len, const char *text);

#endif
