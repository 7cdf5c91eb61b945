/*
 * Iterating over a segment. See seg.h and util/entry.h.
 *
 * Values are read where they lie in the block. Keys are put together in the
 * iterator's own memory, where the block's prefix stays in place and only the
 * suffix changes.
 */
#include "engine/seg/seg_open.h"
#include "engine/util/alloc.h"

#define SEG_ITER_KEY 256   /* bytes of the key's memory at first */
#define SEG_ITER_SLACK 16u /* bytes behind a key that copying may touch */
/* Blocks after a seek that go into the cache: a short scan may come again, a
 * long one would only push others out. */
#define SEG_ITER_KEEP 4

typedef struct seg_iter {
  skv_iter base;
  skv_seg *seg;    /* borrowed */
  skv_seg_pin pin; /* holds block */
  bool keys_only;
  bool loaded; /* block is that of number `number` */
  skv_block block;
  uint32_t number; /* which data block */
  uint32_t slot;   /* where in it */
  unsigned loads;  /* blocks loaded since it was positioned */
  uint8_t *key;    /* owned; begins with the block's prefix */
  size_t key_room; /* of it, without the slack */
} seg_iter;

static int seg_iter_fail(seg_iter *it, int rc) {
  it->base.valid = false;
  it->loaded = false;
  return rc;
}

static int seg_iter_malformed(seg_iter *it, skv_err *err) {
  return seg_iter_fail(
      it, skv_seg_damage(it->seg, it->number, "malformed data block", err));
}

static int seg_iter_end(seg_iter *it) {
  it->base.valid = false;
  return STRATAKV_OK;
}

/* Room for a key; what is there stays. */
static bool seg_iter_reserve(seg_iter *it, size_t size) {
  if (size <= it->key_room) return true;
  size_t room = it->key_room * 2 > size ? it->key_room * 2 : size;
  uint8_t *key = skv_realloc(it->key, room + SEG_ITER_SLACK);
  if (!key) return false;
  it->key = key;
  it->key_room = room;
  return true;
}

/* The start of the next block, and its slots, are on their way. */
static void seg_iter_prefetch(const seg_iter *it) {
  const skv_seg *seg = it->seg;
  if (!seg->map || it->number + 1 >= seg->index.n) return;
  const uint8_t *p = seg->map + skv_seg_block_at(seg, it->number + 1);
  __builtin_prefetch(p); /* what follows, the hardware sees by itself */
}

/* Make block `number` readable; its prefix is not in place yet, because the
 * key that is sought may be our own. */
static int seg_iter_fetch(seg_iter *it, uint32_t number, skv_err *err) {
  if (it->loaded && it->number == number) return STRATAKV_OK;
  it->loaded = false;
  int rc = skv_seg_load(it->seg, number, it->loads < SEG_ITER_KEEP, &it->pin,
                        err, &it->block);
  if (rc != STRATAKV_OK) return seg_iter_fail(it, rc);
  it->loads++;
  it->number = number;
  return STRATAKV_OK;
}

/* The fetched block is the one that we stand in. */
static int seg_iter_adopt(seg_iter *it, skv_err *err) {
  if (it->loaded) return STRATAKV_OK;
  if (!seg_iter_reserve(it, it->block.prefix))
    return seg_iter_fail(it, skv_error_nomem(err));
  memcpy(it->key, skv_block_prefix(&it->block), it->block.prefix);
  it->loaded = true;
  seg_iter_prefetch(it);
  return STRATAKV_OK;
}

/* Put the entry at slot into base.entry. */
static int seg_iter_show(seg_iter *it, skv_err *err) {
  skv_block_item item;
  if (!skv_block_get(&it->block, it->slot, &item))
    return seg_iter_malformed(it, err);
  size_t prefix = it->block.prefix, size = item.suffix.size;
  const uint8_t *end = it->block.body + it->block.size;
  if (prefix + size > it->key_room && !seg_iter_reserve(it, prefix + size))
    return seg_iter_fail(it, skv_error_nomem(err));
  if (size <= SEG_ITER_SLACK && end - item.suffix.data >= SEG_ITER_SLACK)
    memcpy(it->key + prefix, item.suffix.data, SEG_ITER_SLACK);
  else
    memcpy(it->key + prefix, item.suffix.data, size);
  skv_entry *entry = &it->base.entry;
  entry->key = skv_slice_of(it->key, prefix + size);
  entry->value = it->keys_only ? skv_slice_of(NULL, 0) : item.value;
  entry->lsn = it->seg->ingest_lsn ? it->seg->ingest_lsn : item.lsn;
  entry->kind = item.kind;
  it->base.valid = true;
  return STRATAKV_OK;
}

/* To the first or last entry of a block. */
static int seg_iter_enter(seg_iter *it, uint32_t number, bool at_last,
                          skv_err *err) {
  int rc = seg_iter_fetch(it, number, err);
  if (rc == STRATAKV_OK) rc = seg_iter_adopt(it, err);
  if (rc != STRATAKV_OK) return rc;
  it->slot = at_last ? it->block.n - 1 : 0;
  return seg_iter_show(it, err);
}

static int seg_iter_first(skv_iter *base, skv_err *err) {
  seg_iter *it = (seg_iter *)base;
  it->loads = 0;
  return seg_iter_enter(it, 0, false, err);
}

static int seg_iter_last(skv_iter *base, skv_err *err) {
  seg_iter *it = (seg_iter *)base;
  it->loads = 0;
  return seg_iter_enter(it, it->seg->index.n - 1, true, err);
}

/* To slot, which may be one beyond the block's last. */
static int seg_iter_forward(seg_iter *it, uint32_t slot, skv_err *err) {
  if (slot < it->block.n) {
    it->slot = slot;
    return seg_iter_show(it, err);
  }
  if (it->number + 1 == it->seg->index.n) return seg_iter_end(it);
  return seg_iter_enter(it, it->number + 1, false, err);
}

/* To the slot before. */
static int seg_iter_backward(seg_iter *it, uint32_t slot, skv_err *err) {
  if (slot > 0) {
    it->slot = slot - 1;
    return seg_iter_show(it, err);
  }
  if (it->number == 0) return seg_iter_end(it);
  return seg_iter_enter(it, it->number - 1, true, err);
}

/* Load key's block (number < n) and find its place there. */
static int seg_iter_find(seg_iter *it, uint32_t number, skv_slice key,
                         skv_err *err, uint32_t *slot, bool *exact) {
  it->loads = 0;
  skv_seg_prefetch(it->seg, number);
  int rc = seg_iter_fetch(it, number, err);
  if (rc != STRATAKV_OK) return rc;
  if (!skv_block_find(&it->block, key, slot, exact))
    return seg_iter_malformed(it, err);
  return seg_iter_adopt(it, err);
}

static int seg_iter_seek(skv_iter *base, skv_slice key, skv_err *err) {
  seg_iter *it = (seg_iter *)base;
  uint32_t number = skv_index_find(&it->seg->index, key), slot;
  bool exact;
  if (number == it->seg->index.n) return seg_iter_end(it);
  int rc = seg_iter_find(it, number, key, err, &slot, &exact);
  return rc == STRATAKV_OK ? seg_iter_forward(it, slot, err) : rc;
}

static int seg_iter_seek_back(skv_iter *base, skv_slice key, skv_err *err) {
  seg_iter *it = (seg_iter *)base;
  uint32_t number = skv_index_find(&it->seg->index, key), slot;
  bool exact;
  if (number == it->seg->index.n) return seg_iter_last(base, err);
  int rc = seg_iter_find(it, number, key, err, &slot, &exact);
  if (rc != STRATAKV_OK) return rc;
  return seg_iter_backward(it, exact ? slot + 1 : slot, err);
}

static int seg_iter_next(skv_iter *base, skv_err *err) {
  seg_iter *it = (seg_iter *)base;
  return seg_iter_forward(it, it->slot + 1, err);
}

static int seg_iter_prev(skv_iter *base, skv_err *err) {
  seg_iter *it = (seg_iter *)base;
  return seg_iter_backward(it, it->slot, err);
}

static void seg_iter_close(skv_iter *base) {
  seg_iter *it = (seg_iter *)base;
  skv_seg_pin_clear(it->seg->cache, &it->pin);
  skv_free(it->key);
  skv_free(it);
}

static const skv_iter_ops seg_iter_ops = {
    .first = seg_iter_first,
    .last = seg_iter_last,
    .seek = seg_iter_seek,
    .seek_back = seg_iter_seek_back,
    .next = seg_iter_next,
    .prev = seg_iter_prev,
    .close = seg_iter_close,
};

int skv_seg_iter_new(skv_seg *seg, bool keys_only, skv_err *err,
                     skv_iter **out) {
  int rc = STRATAKV_OK;
  seg_iter *it = skv_new(sizeof *it, &rc);
  *out = NULL;
  if (rc != STRATAKV_OK) return skv_error_nomem(err);
  it->base.ops = &seg_iter_ops;
  it->seg = seg;
  it->keys_only = keys_only;
  if (!seg_iter_reserve(it, SEG_ITER_KEY)) {
    skv_free(it);
    return skv_error_nomem(err);
  }
  *out = &it->base;
  return STRATAKV_OK;
}
