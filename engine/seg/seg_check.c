/*
 * What is asked of a whole segment: verify it (seg_scan.h), and estimate a
 * range of it (seg.h).
 */
#include "engine/seg/seg_frame.h"
#include "engine/seg/seg_scan.h"
#include "engine/util/hash.h"

/* ---- Check --------------------------------------------------------------- */

typedef struct seg_walk {
  const skv_seg_judge *judge;
  skv_scan scan;
  skv_seg_props want; /* what it must hold; entries 0: not known */
  skv_seg_props sum;  /* what was seen so far */
  skv_buf key, last;  /* this entry's, and the one's before */
  bool has_last;
  bool is_broken; /* something is missing: sums mean nothing */
} seg_walk;

static int seg_damage(seg_walk *walk, uint64_t at, const char *what,
                      skv_err *err) {
  walk->is_broken = true;
  return walk->judge->damage(walk->judge->arg, at, what, err);
}

/* What the manifest says, as the properties would say it; without a manifest
 * the properties are believed. */
static skv_seg_props seg_wanted(const seg_walk *walk) {
  const skv_seg_meta *meta = walk->judge->meta;
  bool ingested = walk->judge->ingest_lsn != 0;
  if (!meta) return walk->scan.seg.props;
  return (skv_seg_props){.entries = meta->entries,
                         .tombstones = meta->tombstones,
                         .raw_bytes = meta->raw_bytes,
                         .min_lsn = ingested ? 0 : meta->min_lsn,
                         .max_lsn = ingested ? 0 : meta->max_lsn,
                         .min_key = meta->min_key,
                         .max_key = meta->max_key};
}

/* What is wrong with an entry's place or LSN; NULL: nothing. */
static const char *seg_entry(const seg_walk *walk, const skv_entry *entry,
                             uint32_t block) {
  const skv_scan *scan = &walk->scan;
  const skv_seg_props *want = &walk->want;
  if (walk->has_last &&
      skv_compare(skv_buf_bytes(&walk->last), entry->key) >= 0)
    return "keys out of order";
  if (scan->has_index && skv_index_find(&scan->seg.index, entry->key) != block)
    return "key in the wrong block";
  if (!skv_seg_may_have(&scan->seg, skv_hash(entry->key)))
    return "key unknown to the filter";
  if (want->entries == 0) return NULL;
  if (skv_compare(entry->key, want->min_key) < 0 ||
      skv_compare(entry->key, want->max_key) > 0)
    return "key outside the segment's range";
  if (entry->lsn < want->min_lsn || entry->lsn > want->max_lsn)
    return "LSN outside the segment's range";
  return NULL;
}

static void seg_count(seg_walk *walk, const skv_entry *entry) {
  skv_seg_props *sum = &walk->sum;
  if (sum->entries == 0 || entry->lsn < sum->min_lsn) sum->min_lsn = entry->lsn;
  if (entry->lsn > sum->max_lsn) sum->max_lsn = entry->lsn;
  sum->entries++;
  sum->tombstones += entry->kind == SKV_KIND_DELETE;
  sum->raw_bytes += entry->key.size + entry->value.size;
  skv_buf swap = walk->last;
  walk->last = walk->key;
  walk->key = swap;
  walk->has_last = true;
}

static int seg_block(seg_walk *walk, const skv_scan_block *b, skv_err *err) {
  if (b->what) return seg_damage(walk, b->offset, b->what, err);
  for (uint32_t slot = 0; slot < b->block.n; slot++) {
    skv_entry entry;
    const char *what = "malformed entry";
    if (skv_scan_entry(&b->block, slot, &walk->key, &entry))
      what = seg_entry(walk, &entry, b->number);
    if (walk->key.rc != STRATAKV_OK) return skv_error_nomem(err);
    if (what) return seg_damage(walk, b->offset, what, err);
    if (walk->sum.entries == 0 && !walk->is_broken && walk->want.entries > 0 &&
        !skv_equal(entry.key, walk->want.min_key))
      return seg_damage(walk, b->offset, "the first key is another one", err);
    seg_count(walk, &entry);
  }
  return STRATAKV_OK;
}

static int seg_blocks(seg_walk *walk, skv_err *err) {
  const skv_seg_judge *judge = walk->judge;
  bool more = true;
  while (more) {
    skv_scan_block block;
    int rc = skv_scan_next(&walk->scan, err, &block, &more);
    if (rc == STRATAKV_OK && more) rc = seg_block(walk, &block, err);
    if (rc == STRATAKV_OK && more && judge->step)
      rc = judge->step(judge->arg, block.end - block.offset, err);
    if (rc != STRATAKV_OK) return rc;
  }
  return STRATAKV_OK;
}

static bool seg_sums_equal(const skv_seg_props *a, const skv_seg_props *b) {
  return a->entries == b->entries && a->tombstones == b->tombstones &&
         a->raw_bytes == b->raw_bytes && a->min_lsn == b->min_lsn &&
         a->max_lsn == b->max_lsn;
}

/* Entries, properties and manifest say the same. */
static int seg_compare(seg_walk *walk, skv_err *err) {
  const skv_scan *scan = &walk->scan;
  const skv_seg_props *props = &scan->seg.props, *want = &walk->want;
  if (scan->has_props && (!seg_sums_equal(props, want) ||
                          !skv_equal(props->min_key, want->min_key) ||
                          !skv_equal(props->max_key, want->max_key)))
    return seg_damage(walk, scan->seg.footer.props,
                      "the properties are not what the manifest says", err);
  if (!walk->is_broken &&
      (!seg_sums_equal(&walk->sum, want) ||
       !skv_equal(skv_buf_bytes(&walk->last), want->max_key)))
    return seg_damage(walk, UINT64_MAX,
                      "the entries are not what is said of them", err);
  return STRATAKV_OK;
}

static int seg_walk_all(seg_walk *walk, skv_err *err) {
  const skv_scan *scan = &walk->scan;
  int rc = STRATAKV_OK;
  for (int i = 0; rc == STRATAKV_OK && i < SKV_SCAN_PARTS; i++)
    if (scan->parts[i].what[0] != 0)
      rc = seg_damage(walk, scan->parts[i].offset, scan->parts[i].what, err);
  if (rc != STRATAKV_OK || scan->is_other) return rc;
  walk->want = seg_wanted(walk);
  /* Without its index a segment is not read, whatever its blocks hold. */
  if (scan->has_index) rc = seg_blocks(walk, err);
  return rc == STRATAKV_OK ? seg_compare(walk, err) : rc;
}

int skv_seg_check(skv_in *in, const skv_seg_judge *judge, skv_err *err) {
  seg_walk walk = {.judge = judge};
  const uint64_t *uid = judge->meta ? &judge->meta->uid : NULL;
  int rc = skv_scan_open(in, uid, (skv_pause){0}, err, &walk.scan);
  if (rc != STRATAKV_OK) return rc;
  rc = seg_walk_all(&walk, err);
  skv_scan_close(&walk.scan);
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
