/*
 * Salvage: sorting more entries than fit into memory. See salvage.h.
 *
 * Runs are segments under temporary names in the new store. Up to MERGE_MOST
 * are merged at a time; more become one first, from the oldest on, so that
 * their order keeps saying which came last.
 */
#include <stdlib.h>

#include "engine/db/salvage.h"
#include "engine/seg/seg.h"

#define SORT_BYTES (16u << 20) /* of entries in memory, but for one */
#define MERGE_MOST 32u

typedef struct sort_item {
  uint64_t at; /* in raw: key, then value */
  uint64_t lsn;
  uint64_t seq;
  uint32_t key, value; /* lengths */
  uint8_t kind;
  const uint8_t *p; /* raw + at, once nothing is added any more */
} sort_item;

static sort_item *sorter_items(const skv_sorter *sorter, size_t *count) {
  *count = sorter->items.size / sizeof(sort_item);
  return (sort_item *)(void *)sorter->items.data;
}

/* ---- Memory, as an iterator ---------------------------------------------- */

/* By key, newest first. */
static int item_compare(const void *a, const void *b) {
  const sort_item *x = a, *y = b;
  int c = skv_compare(skv_slice_of(x->p, x->key), skv_slice_of(y->p, y->key));
  if (c != 0) return c;
  if (x->lsn != y->lsn) return x->lsn > y->lsn ? -1 : 1;
  return x->seq > y->seq ? -1 : x->seq < y->seq;
}

typedef struct memory_iter {
  skv_iter base;
  const sort_item *items;
  size_t count, at;
} memory_iter;

static void memory_show(memory_iter *it) {
  it->base.valid = it->at < it->count;
  if (!it->base.valid) return;
  const sort_item *item = &it->items[it->at];
  it->base.entry = (skv_entry){skv_slice_of(item->p, item->key),
                               skv_slice_of(item->p + item->key, item->value),
                               item->lsn, item->kind};
}

static int memory_first(skv_iter *base, skv_err *err) {
  memory_iter *it = (memory_iter *)base;
  SKV_UNUSED(err);
  it->at = 0;
  memory_show(it);
  return STRATAKV_OK;
}

/* Behind all versions of the key. */
static int memory_next(skv_iter *base, skv_err *err) {
  memory_iter *it = (memory_iter *)base;
  skv_slice key = base->entry.key;
  SKV_UNUSED(err);
  do {
    it->at++;
    memory_show(it);
  } while (base->valid && skv_equal(base->entry.key, key));
  return STRATAKV_OK;
}

static const skv_iter_ops memory_ops = {.first = memory_first,
                                        .next = memory_next};

/* segment_bytes 0: as segments are; else a run, which nobody looks up in. */
static skv_job sorter_job(skv_sorter *sorter, uint64_t segment_bytes) {
  return (skv_job){.tree = &sorter->target->tree,
                   .seg = {.compression = STRATAKV_COMPRESSION_LZ4,
                           .filter_bits = segment_bytes ? 0 : 10,
                           .block_size = SKV_SEG_BLOCK_SIZE},
                   .segment_bytes = segment_bytes,
                   .next_name = skv_target_next_name,
                   .discard = skv_target_discard,
                   .arg = sorter->target};
}

/* What is in memory becomes a run. */
static int sorter_spill(skv_sorter *sorter, skv_err *err) {
  size_t count;
  sort_item *items = sorter_items(sorter, &count);
  if (count == 0) return STRATAKV_OK;
  for (size_t i = 0; i < count; i++)
    items[i].p = sorter->raw.data + items[i].at;
  qsort(items, count, sizeof *items, item_compare);
  memory_iter it = {
      .base = {.ops = &memory_ops}, .items = items, .count = count};
  skv_job job = sorter_job(sorter, UINT64_MAX);
  int rc = skv_produce(&job, &it.base, false, err, &sorter->runs);
  if (sorter->raw.capacity > 2 * SORT_BYTES) skv_buf_clear(&sorter->raw);
  sorter->raw.size = sorter->items.size = 0;
  return rc;
}

/* Test builds may make it small, for many runs. */
static uint64_t sorter_room(void) {
#ifdef SKV_TEST
  const char *bytes = getenv("SKV_TEST_SORT_BYTES");
  if (bytes) return strtoull(bytes, NULL, 10);
#endif
  return SORT_BYTES;
}

int skv_sorter_add(skv_sorter *sorter, const skv_entry *entry, skv_err *err) {
  uint64_t size = entry->key.size + entry->value.size + sizeof(sort_item);
  if (sorter->raw.size + sorter->items.size + size > sorter_room()) {
    int rc = sorter_spill(sorter, err);
    if (rc != STRATAKV_OK) return rc;
  }
  sort_item item = {.at = sorter->raw.size,
                    .lsn = entry->lsn,
                    .seq = sorter->seq++,
                    .key = (uint32_t)entry->key.size,
                    .value = (uint32_t)entry->value.size,
                    .kind = entry->kind};
  if (entry->lsn > sorter->max_lsn) sorter->max_lsn = entry->lsn;
  skv_buf_append(&sorter->raw, entry->key.data, entry->key.size);
  skv_buf_append(&sorter->raw, entry->value.data, entry->value.size);
  skv_buf_append(&sorter->items, &item, sizeof item);
  if (sorter->raw.rc == STRATAKV_OK && sorter->items.rc == STRATAKV_OK)
    return STRATAKV_OK;
  return skv_error_nomem(err);
}

/* ---- Merging runs -------------------------------------------------------- */

/* Runs by key, then LSN, then age: unlike the merge of a version (INV-5) the
 * order of the inputs does not say which is newer. */
typedef struct runs_iter {
  skv_iter base;
  skv_seg *segs[MERGE_MOST];
  skv_iter *inputs[MERGE_MOST]; /* oldest first */
  size_t count;
  skv_buf key; /* the one shown, while the inputs move past it */
  skv_watcher *watcher;
} runs_iter;

static void runs_show(runs_iter *it) {
  const skv_entry *best = NULL;
  for (size_t i = 0; i < it->count; i++) {
    if (!it->inputs[i]->valid) continue;
    const skv_entry *entry = &it->inputs[i]->entry;
    int c = best ? skv_compare(entry->key, best->key) : -1;
    if (c < 0 || (c == 0 && entry->lsn >= best->lsn)) best = entry;
  }
  it->base.valid = best != NULL;
  if (best) it->base.entry = *best;
}

static int runs_first(skv_iter *base, skv_err *err) {
  runs_iter *it = (runs_iter *)base;
  int rc = STRATAKV_OK;
  for (size_t i = 0; rc == STRATAKV_OK && i < it->count; i++)
    rc = skv_iter_first(it->inputs[i], err);
  if (rc == STRATAKV_OK) runs_show(it);
  return rc;
}

static int runs_next(skv_iter *base, skv_err *err) {
  runs_iter *it = (runs_iter *)base;
  uint64_t size = base->entry.key.size + base->entry.value.size;
  int rc = skv_watcher_step(it->watcher, size, err);
  skv_buf_set(&it->key, base->entry.key);
  if (it->key.rc != STRATAKV_OK) return skv_error_nomem(err);
  for (size_t i = 0; rc == STRATAKV_OK && i < it->count; i++) {
    skv_iter *input = it->inputs[i];
    if (input->valid && skv_equal(input->entry.key, skv_buf_bytes(&it->key)))
      rc = skv_iter_next(input, err);
  }
  if (rc == STRATAKV_OK) runs_show(it);
  return rc;
}

static const skv_iter_ops runs_ops = {.first = runs_first, .next = runs_next};

static void runs_close(runs_iter *it) {
  for (size_t i = 0; i < it->count; i++) {
    skv_iter_close(it->inputs[i]);
    skv_seg_close(it->segs[i]);
  }
  skv_buf_clear(&it->key);
}

static int runs_open_one(runs_iter *it, skv_target *target,
                         const skv_product *run, skv_err *err) {
  skv_in *in = NULL;
  int rc =
      skv_in_open(target->store, 0, &run->tmp, run->meta.size, true, err, &in);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_seg_open(in, NULL, 0, run->meta.uid, 0, err, &it->segs[it->count]);
  if (rc != STRATAKV_OK) {
    skv_in_close(in);
    return rc;
  }
  rc =
      skv_seg_iter_new(it->segs[it->count], false, err, &it->inputs[it->count]);
  if (rc != STRATAKV_OK) {
    skv_seg_close(it->segs[it->count]);
    return rc;
  }
  it->count++;
  return rc;
}

/* Merge the first `count` runs to segments of that size. */
static int sorter_merge(skv_sorter *sorter, size_t count, uint64_t bytes,
                        bool is_last, skv_watcher *watcher, skv_err *err,
                        skv_products *products) {
  runs_iter it = {.base = {.ops = &runs_ops}, .watcher = watcher};
  skv_job job = sorter_job(sorter, bytes);
  int rc = STRATAKV_OK;
  for (size_t i = 0; rc == STRATAKV_OK && i < count; i++)
    rc = runs_open_one(&it, sorter->target, &sorter->runs.list[i], err);
  if (rc == STRATAKV_OK)
    rc = skv_produce(&job, &it.base, is_last, err, products);
  runs_close(&it);
  for (size_t i = 0; rc == STRATAKV_OK && i < count; i++)
    skv_target_discard(sorter->target, &sorter->runs.list[i].tmp);
  return rc;
}

/* The oldest runs become one, in their place. */
static int sorter_narrow(skv_sorter *sorter, skv_watcher *watcher,
                         skv_err *err) {
  skv_products merged = {0};
  skv_products *runs = &sorter->runs;
  int rc = sorter_merge(sorter, MERGE_MOST, UINT64_MAX, false, watcher, err,
                        &merged);
  if (rc != STRATAKV_OK) return rc;
  for (size_t i = 0; i < MERGE_MOST; i++) skv_buf_clear(&runs->list[i].keys);
  runs->list[0] = merged.list[0];
  memmove(&runs->list[1], &runs->list[MERGE_MOST],
          (runs->count - MERGE_MOST) * sizeof runs->list[0]);
  runs->count -= MERGE_MOST - 1;
  skv_free(merged.list);
  return rc;
}

int skv_sorter_finish(skv_sorter *sorter, skv_watcher *watcher, skv_err *err,
                      skv_products *products) {
  int rc = sorter_spill(sorter, err);
  skv_buf_clear(&sorter->raw);
  skv_buf_clear(&sorter->items);
  while (rc == STRATAKV_OK && sorter->runs.count > MERGE_MOST)
    rc = sorter_narrow(sorter, watcher, err);
  if (rc == STRATAKV_OK && sorter->runs.count > 0)
    rc = sorter_merge(sorter, sorter->runs.count, 0, true, watcher, err,
                      products);
  return rc;
}

void skv_sorter_clear(skv_sorter *sorter) {
  skv_buf_clear(&sorter->raw);
  skv_buf_clear(&sorter->items);
  skv_products_clear(&sorter->runs);
}
