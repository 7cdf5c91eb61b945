/*
 * Check: one segment, every byte of it. See check.h.
 */
#include <stdio.h>

#include "engine/db/check.h"
#include "engine/seg/seg_scan.h"
#include "engine/util/hash.h"

typedef struct seg_walk {
  skv_check *check;
  const skv_segref *ref;
  const char *name;
  skv_scan scan;
  bool is_broken; /* something is missing: sums mean nothing */
  skv_buf key, last;
  bool has_last;
  skv_seg_props sum;
} seg_walk;

static int seg_damage(seg_walk *walk, uint64_t at, skv_err *err,
                      const char *text) {
  walk->is_broken = true;
  return skv_check_damage(walk->check, walk->name, at, err, text);
}

/* What is wrong with an entry's place or LSN; NULL: nothing. */
static const char *seg_entry(const seg_walk *walk, const skv_entry *entry,
                             uint32_t block) {
  const skv_scan *scan = &walk->scan;
  const skv_segref *ref = walk->ref;
  if (walk->has_last &&
      skv_compare(skv_buf_bytes(&walk->last), entry->key) >= 0)
    return "keys out of order";
  if (skv_compare(entry->key, ref->meta.min_key) < 0 ||
      skv_compare(entry->key, ref->meta.max_key) > 0)
    return "key outside the segment's range";
  if (scan->has_index && skv_index_find(&scan->seg.index, entry->key) != block)
    return "key in the wrong block";
  if (!skv_seg_may_have(&scan->seg, skv_hash(entry->key)))
    return "key unknown to the filter";
  if (ref->ingest_lsn != 0
          ? entry->lsn != 0
          : entry->lsn < ref->meta.min_lsn || entry->lsn > ref->meta.max_lsn)
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
  if (b->what) return seg_damage(walk, b->offset, err, b->what);
  for (uint32_t slot = 0; slot < b->block.n; slot++) {
    skv_entry entry;
    const char *what = "malformed entry";
    if (skv_scan_entry(&b->block, slot, &walk->key, &entry))
      what = seg_entry(walk, &entry, b->number);
    if (walk->key.rc != STRATAKV_OK) return skv_error_nomem(err);
    if (what) return seg_damage(walk, b->offset, err, what);
    if (walk->sum.entries == 0 && !walk->is_broken &&
        !skv_equal(entry.key, walk->ref->meta.min_key))
      return seg_damage(walk, b->offset, err,
                        "the first key is not the manifest's");
    seg_count(walk, &entry);
  }
  return STRATAKV_OK;
}

static int seg_blocks(seg_walk *walk, skv_err *err) {
  bool more = true;
  while (more) {
    skv_scan_block block;
    int rc = skv_scan_next(&walk->scan, err, &block, &more);
    if (rc == STRATAKV_OK && more) rc = seg_block(walk, &block, err);
    if (rc == STRATAKV_OK && more)
      rc = skv_watcher_step(&walk->check->watcher, block.end - block.offset,
                            err);
    if (rc != STRATAKV_OK) return rc;
  }
  return STRATAKV_OK;
}

static bool seg_sums_equal(const skv_seg_props *a, const skv_seg_props *b) {
  return a->entries == b->entries && a->tombstones == b->tombstones &&
         a->raw_bytes == b->raw_bytes && a->min_lsn == b->min_lsn &&
         a->max_lsn == b->max_lsn;
}

/* What the manifest says, as the properties would say it. */
static skv_seg_props seg_described(const skv_segref *ref) {
  const skv_seg_meta *meta = &ref->meta;
  bool ingested = ref->ingest_lsn != 0;
  return (skv_seg_props){.entries = meta->entries,
                         .tombstones = meta->tombstones,
                         .raw_bytes = meta->raw_bytes,
                         .min_lsn = ingested ? 0 : meta->min_lsn,
                         .max_lsn = ingested ? 0 : meta->max_lsn};
}

/* Entries, properties and manifest say the same. */
static int seg_compare(seg_walk *walk, skv_err *err) {
  const skv_segref *ref = walk->ref;
  const skv_seg_props *props = &walk->scan.seg.props;
  skv_seg_props want = seg_described(ref);
  int rc = STRATAKV_OK;
  if (walk->scan.has_props && (!seg_sums_equal(props, &want) ||
                               !skv_equal(props->min_key, ref->meta.min_key) ||
                               !skv_equal(props->max_key, ref->meta.max_key)))
    rc = seg_damage(walk, walk->scan.seg.footer.props, err,
                    "the properties are not what the manifest says");
  else if (!walk->is_broken &&
           (!seg_sums_equal(&walk->sum, &want) ||
            !skv_equal(skv_buf_bytes(&walk->last), ref->meta.max_key)))
    rc = seg_damage(walk, UINT64_MAX, err,
                    "the entries are not what the manifest says");
  if (rc == STRATAKV_OK && ref->ingest_lsn != 0 &&
      (ref->meta.min_lsn != ref->ingest_lsn ||
       ref->meta.max_lsn != ref->ingest_lsn))
    rc = seg_damage(walk, UINT64_MAX, err, "LSN of another ingest");
  if (rc == STRATAKV_OK && skv_segref_max_lsn(ref) >= walk->check->view.lsn)
    rc = seg_damage(walk, UINT64_MAX, err, "holds what is not visible yet");
  return rc;
}

static int seg_walk_all(seg_walk *walk, skv_in *in, skv_err *err) {
  int rc = skv_scan_open(in, err, &walk->scan);
  if (rc != STRATAKV_OK) return rc;
  for (int i = 0; rc == STRATAKV_OK && i < SKV_SCAN_PARTS; i++)
    if (walk->scan.parts[i].what[0] != 0)
      rc = seg_damage(walk, walk->scan.parts[i].offset, err,
                      walk->scan.parts[i].what);
  /* Without its index a segment is not read, whatever its blocks hold. */
  if (rc == STRATAKV_OK && walk->scan.has_index) rc = seg_blocks(walk, err);
  if (rc == STRATAKV_OK) rc = seg_compare(walk, err);
  skv_scan_close(&walk->scan);
  skv_buf_clear(&walk->key);
  skv_buf_clear(&walk->last);
  return rc;
}

int skv_check_seg(skv_check *check, skv_segref *ref, skv_err *err) {
  skv_name name = {.kind = SKV_NAME_SEG, .number = ref->number};
  char text[SKV_NAME_SIZE];
  skv_in *own = NULL;
  skv_err why = {0};
  skv_name_format(&name, text);
  int rc = skv_in_open(check->db->store, ref->number, NULL, ref->meta.size,
                       false, &why, &own);
  if (rc == STRATAKV_NOTFOUND &&
      !skv_check_named(check, SKV_NAME_SEG, ref->number))
    rc = STRATAKV_OK; /* merged and gone: the view holds it open */
  else if (rc != STRATAKV_OK)
    return skv_check_failed(check, text, rc, &why, err);
  seg_walk walk = {.check = check, .ref = ref, .name = text};
  rc = seg_walk_all(&walk, own ? own : skv_segref_in(ref), err);
  skv_in_close(own);
  return rc;
}
