/*
 * Batches: decoding against a slow decoder, encoding what was decoded, and the
 * MemTable over the same bytes against a list.
 */
#include "engine/util/hash.h"
#include "test/fuzz/fuzz_entries.h"

size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng) {
  (void)max;
  if (fuzz_mostly(rng)) fuzz_repair_batch(data, size);
  return size;
}

static void check_encoding(const fuzz_entries *list) {
  skv_buf batch = {0};
  fuzz_entries *again = fuzz_alloc(sizeof *again);
  for (size_t i = 0; i < list->count; i++) {
    const skv_entry *e = &list->at[i];
    uint32_t table = (uint32_t)e->key.data[0] << 8 | e->key.data[1];
    skv_batch_append(&batch, e->kind, table,
                     skv_slice_of(e->key.data + 2, e->key.size - 2), e->value);
  }
  uint64_t count;
  FUZZ_CHECK(batch.rc == STRATAKV_OK);
  FUZZ_CHECK(skv_batch_check(skv_buf_bytes(&batch), &count));
  FUZZ_CHECK(count == list->count);
  FUZZ_CHECK(naive_batch(skv_buf_bytes(&batch), 0, again));
  FUZZ_CHECK(again->count == list->count);
  for (size_t i = 0; i < list->count; i++)
    FUZZ_CHECK(fuzz_same_entry(&list->at[i], &again->at[i]));
  free(again);
  skv_buf_clear(&batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint64_t count = 0;
  skv_mem *mem = NULL;
  fuzz_entries *list = fuzz_alloc(sizeof *list);
  bool is_batch = naive_batch(skv_slice_of(data, size), 0, list);
  bool says = skv_batch_check(skv_slice_of(data, size), &count);
  if (!list->is_over) {
    FUZZ_CHECK(says == is_batch);
    FUZZ_CHECK(!says || count == list->count);
  }
  FUZZ_CHECK(skv_mem_new_batch(NULL, &mem) == STRATAKV_OK);
  skv_mem_batch_bytes(mem, data, size);
  uint64_t limit = size + SKV_MEM_BATCH_BIAS;
  int rc = skv_mem_catch_up(mem, limit, NULL);
  FUZZ_CHECK(rc == STRATAKV_OK || rc == STRATAKV_CORRUPT);
  FUZZ_CHECK((rc == STRATAKV_OK) == says);
  if (says && !list->is_over) {
    fuzz_check_mem(mem, limit, list);
    check_encoding(list);
  }
  skv_mem_unref(mem);
  free(list);
  return 0;
}
