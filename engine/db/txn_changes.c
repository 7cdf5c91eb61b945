/*
 * A transaction's changes in memory.
 */
#include "engine/db/txn.h"
#include "engine/wal/batch.h"

#define CHANGES_FIRST 4096 /* bytes of the first buffer */

skv_changes *skv_changes_new(void) {
  skv_changes *changes = skv_calloc(1, sizeof *changes);
  if (changes) atomic_init(&changes->refs, 1);
  return changes;
}

skv_changes *skv_changes_ref(skv_changes *changes) {
  atomic_fetch_add_explicit(&changes->refs, 1, memory_order_relaxed);
  return changes;
}

void skv_changes_unref(skv_changes *changes) {
  if (!changes ||
      atomic_fetch_sub_explicit(&changes->refs, 1, memory_order_acq_rel) != 1)
    return;
  skv_mem_unref(changes->mem);
  for (size_t i = 0; i < changes->retired_count; i++)
    skv_free(changes->retired[i]);
  skv_free(changes->data);
  skv_free(changes);
}

/* Iterators keep the byte pointer they were made with, so memory that is
 * outgrown stays while anyone shares the object. */
static int changes_grow(skv_changes *changes, size_t need, skv_err *err) {
  size_t capacity = changes->capacity ? changes->capacity * 2 : CHANGES_FIRST;
  while (capacity < need) capacity *= 2;
  uint8_t *data = skv_malloc(capacity);
  if (!data) return skv_error_nomem(err);
  if (changes->size) memcpy(data, changes->data, changes->size);
  if (changes->data &&
      atomic_load_explicit(&changes->refs, memory_order_acquire) > 1)
    changes->retired[changes->retired_count++] = changes->data;
  else
    skv_free(changes->data);
  changes->data = data;
  changes->capacity = capacity;
  if (changes->mem) skv_mem_batch_bytes(changes->mem, data, changes->size);
  return STRATAKV_OK;
}

int skv_changes_add(skv_changes *changes, uint8_t kind, uint32_t table,
                    skv_slice key, skv_slice value, skv_err *err) {
  size_t most = changes->size + SKV_ENTRY_OVERHEAD + SKV_TABLE_PREFIX +
                key.size + value.size;
  if (most > changes->capacity) {
    int rc = changes_grow(changes, most, err);
    if (rc != STRATAKV_OK) return rc;
  }
  uint8_t *end = skv_entry_put(changes->data + changes->size, kind,
                               changes->size, table, key, value);
  changes->size = (size_t)(end - changes->data);
  changes->entries++;
  return STRATAKV_OK;
}

int skv_changes_mem(skv_changes *changes, skv_err *err, uint64_t *limit) {
  *limit = SKV_MEM_BATCH_BIAS + changes->size;
  if (!changes->mem) {
    int rc = skv_mem_new_batch(err, &changes->mem);
    if (rc != STRATAKV_OK) return rc;
  }
  skv_mem_batch_bytes(changes->mem, changes->data, changes->size);
  return STRATAKV_OK;
}

static int changes_copy(const skv_changes *from, size_t size, skv_err *err,
                        skv_changes **out) {
  skv_changes *copy = skv_changes_new();
  *out = copy;
  if (!copy) return skv_error_nomem(err);
  int rc = size ? changes_grow(copy, size, err) : STRATAKV_OK;
  if (rc != STRATAKV_OK) {
    skv_changes_unref(copy);
    *out = NULL;
    return rc;
  }
  if (size) memcpy(copy->data, from->data, size);
  copy->size = size;
  copy->entries = from->entries; /* an upper bound is enough */
  return rc;
}

int skv_changes_cut(skv_changes **changes, size_t size, skv_err *err) {
  skv_changes *old = *changes;
  if (!old || old->size == size) return STRATAKV_OK;
  if (atomic_load_explicit(&old->refs, memory_order_acquire) > 1) {
    skv_changes *copy;
    int rc = changes_copy(old, size, err, &copy);
    if (rc != STRATAKV_OK) return rc;
    skv_changes_unref(old);
    *changes = copy;
    return rc;
  }
  old->size = size;
  skv_mem_unref(old->mem); /* an index of what is gone; made anew if needed */
  old->mem = NULL;
  return STRATAKV_OK;
}
