/*
 * Values: from a request's body and headers to a class and its bytes, and
 * back to the text that an answer carries.
 *
 * CLASS  Strata-Type says it if present, and the body must parse; else the
 *   Content-Type: application/octet-stream is BLOB, text and JSON are TEXT
 *   and must be UTF-8; else TEXT if the body is UTF-8 without NUL, BLOB
 *   otherwise.
 *
 * Pure.
 */
#ifndef SKVD_VALUE_H
#define SKVD_VALUE_H

#include <stdbool.h>
#include <stddef.h>

#include "ext/httpd/headers.h"
#include "stratakv.h"

/* Room for any number as text. */
#define SKVD_NUMBER_SIZE 40

/* "text", "blob", "integer", "real", "null". */
const char *skvd_type_name(int type);

/*
 * The value that a body of len bytes is; *out borrows the body. False if the
 * headers ask for a class that it is not: *why is a sentence about it. The
 * byte after the body must be 0.
 */
bool skvd_value_of_body(const skvd_headers *headers, const char *body,
                        size_t len, stratakv_typed *out, const char **why);

/*
 * The value as text: TEXT and BLOB are their own bytes, numbers are written
 * into number, NULL is empty. Returns the bytes, and how many in *len. A
 * REAL has the fewest digits that read back as the same number, and always a
 * point or an exponent; infinities are "inf" and "-inf", and what C code wrote
 * may be "nan".
 */
const char *skvd_value_text(const stratakv_typed *value,
                            char number[SKVD_NUMBER_SIZE], size_t *len);

#endif
