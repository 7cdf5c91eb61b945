/*
 * Entries as bytes. The format stands in batch.h.
 */
#include "engine/wal/batch.h"

size_t skv_entry_size(uint64_t back, size_t key_len, size_t value_len) {
  return 1 + skv_varint_size(key_len) + skv_varint_size(value_len) +
         skv_varint_size(back) + key_len + value_len;
}

uint8_t *skv_entry_put(uint8_t *p, uint8_t kind, uint64_t back, uint32_t table,
                       skv_slice user_key, skv_slice value) {
  *p++ = kind;
  p = skv_varint_put(p, user_key.size + SKV_TABLE_PREFIX);
  p = skv_varint_put(p, value.size);
  p = skv_varint_put(p, back);
  *p++ = (uint8_t)(table >> 8);
  *p++ = (uint8_t)table;
  if (user_key.size) memcpy(p, user_key.data, user_key.size);
  p += user_key.size;
  if (value.size) memcpy(p, value.data, value.size);
  return p + value.size;
}

void skv_batch_append(skv_buf *batch, uint8_t kind, uint32_t table,
                      skv_slice user_key, skv_slice value) {
  size_t size =
      skv_entry_size(batch->size, user_key.size + SKV_TABLE_PREFIX, value.size);
  uint8_t *p = skv_buf_reserve(batch, size);
  if (p == NULL) return;
  skv_entry_put(p, kind, batch->size, table, user_key, value);
  batch->size += size;
}

/* A varint; lengths below 128 are the common case. */
static const uint8_t *batch_varint(const uint8_t *p, const uint8_t *end,
                                   uint64_t *v) {
  if (p < end && *p < 0x80) {
    *v = *p;
    return p + 1;
  }
  return skv_varint_get(p, end, v);
}

const uint8_t *skv_entry_get(const uint8_t *p, const uint8_t *end,
                             skv_entry *entry, uint64_t *back) {
  uint64_t key_len, value_len, offset;
  if (p >= end) return NULL; /* INV-8, here and below */
  uint8_t kind = *p++;
  if (kind != SKV_KIND_PUT && kind != SKV_KIND_DELETE) return NULL;
  if ((p = batch_varint(p, end, &key_len)) == NULL) return NULL;
  if ((p = batch_varint(p, end, &value_len)) == NULL) return NULL;
  if ((p = batch_varint(p, end, &offset)) == NULL) return NULL;
  if (kind == SKV_KIND_DELETE && value_len != 0) return NULL;
  uint64_t room = (uint64_t)(end - p);
  if (key_len < SKV_TABLE_PREFIX || key_len > room) return NULL;
  if (value_len > room - key_len) return NULL;
  entry->kind = kind;
  entry->key = skv_slice_of(p, (size_t)key_len);
  entry->value = skv_slice_of(p + key_len, (size_t)value_len);
  if (back != NULL) *back = offset;
  return p + key_len + value_len;
}

bool skv_batch_check(skv_slice batch, uint64_t *count) {
  *count = 0;
  if (batch.size == 0) return true;
  const uint8_t *p = batch.data;
  const uint8_t *end = p + batch.size;
  while (p < end) {
    skv_entry entry;
    uint64_t back;
    uint64_t offset = (uint64_t)(p - batch.data);
    p = skv_entry_get(p, end, &entry, &back);
    if (p == NULL || back != offset) return false;
    ++*count;
  }
  return true;
}
