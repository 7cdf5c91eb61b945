/*
 * Keys of requests: from the decoded bytes of a target to the bytes that the
 * store holds, by the table's key type. Pure.
 */
#ifndef SKVD_KEY_H
#define SKVD_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A key in the store's form. */
typedef struct skvd_key {
  const void *bytes; /* borrowed from the request, or `number` */
  size_t len;        /* their number */
  uint8_t number[8]; /* an int key's bytes */
} skvd_key;

/* A decimal int64: `-?(0|[1-9][0-9]*)`. */
bool skvd_parse_int64(const char *text, size_t len, int64_t *out);

/*
 * Make the key of a table with key_type (STRATAKV_KEY_*) from decoded bytes:
 * text must be UTF-8, int a decimal int64, blob is any bytes. False if it is
 * not, or is empty: *why is a sentence about it. *out borrows.
 */
bool skvd_key_make(int key_type, const char *bytes, size_t len, skvd_key *out,
                   const char **why);

#endif
