/*
 * JSON: what of the store becomes which JSON, and which JSON is too much to
 * be parsed.
 *
 * ITEMS  INTEGER and REAL are numbers, NULL is null, TEXT a string. What
 *   JSON cannot carry stands under another name: key_b64 and value_b64 (with
 *   "type":"text" if it is TEXT that is not UTF-8), value_real for "inf".
 *
 * SCAN  jansson takes some 100 bytes for each value, so 16 MiB of `[],` would
 *   cost gigabytes. A linear scan counts first.
 */
#ifndef SKVD_JSON_H
#define SKVD_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stratakv.h"

#define SKVD_JSON_MAX_DEPTH 16
#define SKVD_JSON_MAX_VALUES 200000

/* May these bytes be given to the parser? Says nothing about whether they
 * are JSON. Pure. */
bool skvd_json_is_modest(const char *text, size_t len);

/* Bytes as base64, NULL without memory. */
json_t *skvd_json_base64(const void *bytes, size_t len);

/* {"key":..,"value":..,"version":..}; key bytes are in the store's form.
 * NULL without memory. */
json_t *skvd_json_item(int key_type, const void *key, size_t key_len,
                       const stratakv_typed *value, uint64_t version);

/* Compact text, allocated with malloc; NULL without memory. */
char *skvd_json_text(const json_t *json);

#endif
