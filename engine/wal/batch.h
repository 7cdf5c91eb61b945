/*
 * Batches: the entries of one commit, encoded once, in memory and in the log
 * alike. A MemTable indexes these bytes where they stand.
 *
 * ENTRY    kind (1 byte, SKV_KIND_*), varint key length, varint value length,
 *          varint back: offset of this entry in its batch, key, value.
 *   `back` leads from an entry to its batch, hence to its record and its LSN.
 *   Keys are internal (table id first). A later entry of a key wins.
 */
#ifndef SKV_WAL_BATCH_H
#define SKV_WAL_BATCH_H

#include "engine/util/buf.h"
#include "engine/util/entry.h"

/* Bytes that an entry takes at most around its key and value. */
#define SKV_ENTRY_OVERHEAD (1 + 3 + 5 + 5)

/* Bytes that this entry takes at offset `back`. */
size_t skv_entry_size(uint64_t back, size_t key_len, size_t value_len);
/* Write it at p; returns the byte after it. key = table id + user key. */
uint8_t *skv_entry_put(uint8_t *p, uint8_t kind, uint64_t back, uint32_t table,
                       skv_slice user_key, skv_slice value);
/* Append an entry to a buffer that holds one batch. */
void skv_batch_append(skv_buf *batch, uint8_t kind, uint32_t table,
                      skv_slice user_key, skv_slice value);

/* Decode the entry at p; entry->lsn is left alone; *back may be NULL. Returns
 * the byte after it, or NULL if it does not fit before end or has an unknown
 * kind, a key shorter than a table id, or a tombstone's value. */
const uint8_t *skv_entry_get(const uint8_t *p, const uint8_t *end,
                             skv_entry *entry, uint64_t *back);
/* Check a whole batch (also that each back is right); *count its entries. */
bool skv_batch_check(skv_slice batch, uint64_t *count);

#endif
