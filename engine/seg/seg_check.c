/*
 * What is asked of a whole segment: verify it, and estimate a range of it.
 * See seg.h.
 */
#include "engine/seg/seg_frame.h"
#include "engine/seg/seg_open.h"
#include "engine/util/alloc.h"
#include "engine/util/hash.h"

/* ---- Check ------------------------------------------------------------- */

/* What has been seen of the segment so far. */
typedef struct seg_walk {
  skv_seg *seg;
  skv_buf key;  /* the current key */
  skv_buf last; /* the one before */
  skv_seg_props sum;
} seg_walk;

static void seg_walk_count(seg_walk *walk, const skv_block_item *item) {
  skv_seg_props *sum = &walk->sum;
  if (sum->entries == 0 || item->lsn < sum->min_lsn) sum->min_lsn = item->lsn;
  if (item->lsn > sum->max_lsn) sum->max_lsn = item->lsn;
  sum->entries++;
  sum->tombstones += item->kind == SKV_KIND_DELETE;
  sum->raw_bytes += walk->key.size + item->value.size;
}

/* Where the key stands: after the one before, behind the separator of the
 * block before and not behind its own, and known to the filter. */
static const char *seg_walk_place(const seg_walk *walk, uint32_t i) {
  const skv_seg *seg = walk->seg;
  skv_slice key = skv_buf_bytes(&walk->key);
  const skv_seg_props *props = &seg->props;
  if (walk->sum.entries == 0 && !skv_equal(key, props->min_key))
    return "first key is not what the properties say";
  if (walk->sum.entries > 0 &&
      skv_compare(skv_buf_bytes(&walk->last), key) >= 0)
    return "keys out of order";
  if (skv_index_find(&seg->index, key) != i) return "key in the wrong block";
  if (!skv_seg_may_have(seg, skv_hash(key))) return "key unknown to the filter";
  return NULL;
}

static int seg_walk_entry(seg_walk *walk, const skv_block *block, uint32_t i,
                          uint32_t slot, skv_err *err) {
  skv_block_item item;
  if (!skv_block_get(block, slot, &item) || item.lsn < block->base ||
      skv_block_slot_head(block, slot) != skv_block_head(item.suffix))
    return skv_seg_damage(walk->seg, i, "malformed entry", err);
  walk->key.size = 0;
  skv_buf_append(&walk->key, skv_block_prefix(block), block->prefix);
  skv_buf_append(&walk->key, item.suffix.data, item.suffix.size);
  if (walk->key.rc != STRATAKV_OK) return skv_error_nomem(err);
  const char *what = seg_walk_place(walk, i);
  if (what) return skv_seg_damage(walk->seg, i, what, err);
  seg_walk_count(walk, &item);
  skv_buf swap = walk->last;
  walk->last = walk->key;
  walk->key = swap;
  return STRATAKV_OK;
}

static int seg_walk_end(const seg_walk *walk, skv_err *err) {
  const skv_seg_props *sum = &walk->sum, *props = &walk->seg->props;
  if (sum->entries == props->entries && sum->tombstones == props->tombstones &&
      sum->raw_bytes == props->raw_bytes && sum->min_lsn == props->min_lsn &&
      sum->max_lsn == props->max_lsn &&
      skv_equal(skv_buf_bytes(&walk->last), props->max_key))
    return STRATAKV_OK;
  return skv_error_corrupt(err, skv_in_name(walk->seg->in),
                           walk->seg->footer.props,
                           "properties do not fit the entries");
}

/* Verify the bytes in the file, whatever was verified or cached before. */
static int seg_check_bytes(skv_seg *seg, uint32_t i, skv_buf *buf,
                           skv_err *err) {
  uint64_t at = skv_seg_block_at(seg, i);
  uint64_t size = skv_seg_block_size(seg, i);
  const uint8_t *frame = seg->map ? seg->map + at : NULL;
  if (!frame) {
    buf->size = 0;
    uint8_t *p = skv_buf_reserve(buf, (size_t)size);
    if (!p) return skv_error_nomem(err);
    int rc = skv_in_read(seg->in, at, p, (size_t)size, err);
    if (rc != STRATAKV_OK) return rc;
    frame = p;
  }
  const char *what = skv_frame_check(frame, size, SKV_FRAME_DATA,
                                     skv_frame_seed(seg->footer.uid, at));
  return what ? skv_seg_damage(seg, i, what, err) : STRATAKV_OK;
}

int skv_seg_check(skv_seg *seg, skv_err *err) {
  seg_walk walk = {.seg = seg};
  skv_seg_pin pin = {0};
  skv_buf buf = {0};
  skv_block block;
  int rc = STRATAKV_OK;
  for (uint32_t i = 0; i < seg->index.n && rc == STRATAKV_OK; i++) {
    rc = seg_check_bytes(seg, i, &buf, err);
    if (rc == STRATAKV_OK) rc = skv_seg_load(seg, i, false, &pin, err, &block);
    for (uint32_t s = 0; rc == STRATAKV_OK && s < block.n; s++)
      rc = seg_walk_entry(&walk, &block, i, s, err);
  }
  if (rc == STRATAKV_OK) rc = seg_walk_end(&walk, err);
  skv_seg_pin_clear(seg->cache, &pin);
  skv_buf_clear(&buf);
  skv_buf_clear(&walk.key);
  skv_buf_clear(&walk.last);
  return rc;
}

/* ---- Estimate ---------------------------------------------------------- */

/* A place between entries: block, and how many of its entries stand before. */
typedef struct seg_place {
  uint32_t block;
  double before; /* of n */
  double n;
} seg_place;

/* Before the first entry >= key; NULL: `open`, the first or last block's. A
 * block that cannot be read counts as if key stood in its middle. */
static seg_place seg_find_place(skv_seg *seg, const skv_slice *key,
                                uint32_t open) {
  uint32_t slot;
  bool exact;
  double average = (double)seg->props.entries / seg->index.n;
  seg_place place = {open, 0, average};
  skv_seg_pin pin = {0};
  skv_block block;
  if (!key) return place;
  place.block = skv_index_find(&seg->index, *key);
  place.before = average / 2;
  if (place.block == seg->index.n) {
    place.before = 0;
  } else if (skv_seg_load(seg, place.block, true, &pin, NULL, &block) ==
                 STRATAKV_OK &&
             skv_block_find(&block, *key, &slot, &exact)) {
    place.before = slot;
    place.n = block.n;
  }
  skv_seg_pin_clear(seg->cache, &pin);
  return place;
}

static double seg_place_bytes(const skv_seg *seg, const seg_place *place) {
  double at = (double)skv_seg_block_at(seg, place->block);
  if (place->block == seg->index.n) return at;
  double end = (double)skv_seg_block_at(seg, place->block + 1);
  return at + (end - at) * place->before / place->n;
}

/* The properties may claim any number of entries. */
static uint64_t seg_estimated(double v) {
  if (!(v >= 1)) return 0;
  return v < 9e18 ? (uint64_t)v : (uint64_t)INT64_MAX;
}

void skv_seg_estimate(skv_seg *seg, const skv_slice *start,
                      const skv_slice *end, uint64_t *entries,
                      uint64_t *bytes) {
  *entries = *bytes = 0;
  if (start && end && skv_compare(*start, *end) >= 0) return;
  seg_place from = seg_find_place(seg, start, 0);
  seg_place to = seg_find_place(seg, end, seg->index.n);
  double size = seg_place_bytes(seg, &to) - seg_place_bytes(seg, &from);
  double count = to.before - from.before;
  if (from.block != to.block) {
    uint32_t between = to.block - from.block - 1;
    double average = (double)seg->props.entries / seg->index.n;
    count += from.n + between * average;
  }
  *entries = seg_estimated(count + 0.5);
  *bytes = seg_estimated(size);
}
