/*
 * JSON: what the daemon and the tool share beside jansson.
 *
 * SCAN  jansson takes some 100 bytes for each value, so 16 MiB of `[],` would
 *   cost gigabytes. A linear scan counts first.
 *
 * NOT HERE  An entry of a store as JSON (item.h).
 */
#ifndef SKV_JSON_H
#define SKV_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SKV_JSON_MAX_DEPTH 16
#define SKV_JSON_MAX_VALUES 200000

/* May these bytes be given to the parser? Says nothing about whether they
 * are JSON. Pure. */
bool skv_json_is_modest(const char *text, size_t len);

/*
 * Parse a document; flags are jansson's, error may be NULL. NULL if it is none,
 * with *no_memory false, or without memory, with *no_memory true. jansson's own
 * answer is not enough: without memory it leaves bytes out of a string
 * (lex_save), or calls the document invalid.
 */
json_t *skv_json_parse(const char *text, size_t len, size_t flags,
                       json_error_t *error, bool *no_memory);

/* Bytes as a string. NULL if they are no UTF-8, with *no_memory false, or
 * without memory, with *no_memory true. */
json_t *skv_json_string(const void *bytes, size_t len, bool *no_memory);

/* Bytes as base64, NULL without memory. */
json_t *skv_json_base64(const void *bytes, size_t len);

/*
 * Decode base64 with its padding into `out`, which has room for len / 4 * 3
 * bytes. False if it is anything else.
 */
bool skv_json_unbase64(const char *text, size_t len, uint8_t *out,
                       size_t *out_len);

/* How documents are written: compact, reals so that they read back as the
 * same number. */
#define SKV_JSON_FLAGS (JSON_COMPACT | JSON_REAL_PRECISION(17))

/* Compact text, allocated with malloc; NULL without memory, when jansson's own
 * would leave out the name of a member. */
char *skv_json_text(const json_t *json);

/* A figure: whole numbers as such, while a double still holds them exactly;
 * what is no number as null. NULL without memory. */
json_t *skv_json_number(double value);

#endif
