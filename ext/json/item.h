/*
 * Items: one entry of a table as a JSON object, and back.
 *
 * FORM  {"key":..,"value":..,"version":..}. INTEGER and REAL are numbers, NULL
 *   is null, TEXT a string; keys of a text table are strings, of an int table
 *   integers. What JSON cannot carry stands under another name:
 *     key_b64     a blob key, or one that is no UTF-8
 *     value_b64   a BLOB; with "type":"text" TEXT that is no UTF-8
 *     value_real  "inf", "-inf", "nan"
 *     raw_b64     stored bytes without a class, which only C code writes
 *
 * USERS  GET /v1/kv/{key} as JSON; the lines of stratakv-tool's dump and load.
 */
#ifndef SKV_ITEM_H
#define SKV_ITEM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stratakv.h"

/* Bytes that grow; all zeros is empty. */
typedef struct skv_item_bytes {
  uint8_t *data;   /* allocated; never NULL after a decode */
  size_t size;     /* bytes in use */
  size_t capacity; /* bytes there is room for */
} skv_item_bytes;

/* An entry in the store's form. All zeros is empty; reuse it, and clear it at
 * the end. */
typedef struct skv_item {
  skv_item_bytes key;
  skv_item_bytes value;
} skv_item;

/*
 * An entry as an object, NULL without memory. Key bytes are in the store's
 * form. value->type 0 says that data and size are stored bytes without a
 * class.
 */
json_t *skv_item_encode(int key_type, const void *key, size_t key_len,
                        const stratakv_typed *value, uint64_t version);

/*
 * The entry that an object of that form is, for a table of that key type.
 * The version is ignored. False if it is none: *why is a sentence about it.
 */
bool skv_item_decode(const json_t *json, int key_type, skv_item *out,
                     const char **why);
/* What *why points to if memory was missing. */
extern const char skv_item_no_memory[];

void skv_item_clear(skv_item *item);

#endif
