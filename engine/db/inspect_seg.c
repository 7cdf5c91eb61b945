/*
 * Describing segments, block by block. See inspect.h.
 */
#include <inttypes.h>

#include "engine/db/inspect.h"
#include "engine/seg/seg_scan.h"

static const char *compression_name(int compression) {
  static const char *const names[] = {"none", "lz4", "zstd"};
  return compression >= 0 && compression <= 2 ? names[compression] : "?";
}

static int inspect_parts(skv_inspect *inspect, const skv_scan *scan,
                         skv_err *err) {
  const skv_seg_footer *f = &scan->seg.footer;
  const skv_seg_props *p = &scan->seg.props;
  char min[300], max[300];
  int rc = STRATAKV_OK;
  for (int i = 0; rc == STRATAKV_OK && i < SKV_SCAN_PARTS; i++)
    if (scan->parts[i].what[0] != 0)
      rc = skv_inspect_damage(inspect, scan->parts[i].offset, err,
                              scan->parts[i].what);
  if (rc == STRATAKV_OK && scan->has_footer)
    rc = skv_inspect_line(
        inspect, err,
        "segment of %" PRIu64 " bytes  uid %016" PRIx64 "  index at %" PRIu64
        "  filter at %" PRIu64 "  properties at %" PRIu64,
        scan->seg.size, f->uid, f->index, f->filter, f->props);
  if (rc != STRATAKV_OK || !scan->has_props) return rc;
  skv_key_text(p->min_key, min, sizeof min);
  skv_key_text(p->max_key, max, sizeof max);
  rc = skv_inspect_line(inspect, err,
                        "entries %" PRIu64 "  tombstones %" PRIu64
                        "  raw bytes %" PRIu64 "  lsn %" PRIu64 " to %" PRIu64,
                        p->entries, p->tombstones, p->raw_bytes, p->min_lsn,
                        p->max_lsn);
  if (rc == STRATAKV_OK)
    rc = skv_inspect_line(inspect, err,
                          "block size %" PRIu32 "  compression %s  filter bits "
                          "%u",
                          p->block_size, compression_name(p->compression),
                          p->filter_bits);
  if (rc == STRATAKV_OK) rc = skv_inspect_line(inspect, err, "from %s", min);
  if (rc == STRATAKV_OK) rc = skv_inspect_line(inspect, err, "to   %s", max);
  return rc;
}

static int inspect_block(skv_inspect *inspect, const skv_scan_block *b,
                         skv_buf *key, skv_err *err) {
  if (b->what) return skv_inspect_damage(inspect, b->offset, err, b->what);
  int rc = skv_inspect_line(inspect, err,
                            "at %" PRIu64 "  data block %" PRIu32
                            "  stored %" PRIu32 "  %s  raw %zu  entries "
                            "%" PRIu32 "  base lsn %" PRIu64 "  checksum ok",
                            b->offset, b->number, b->stored,
                            compression_name(b->compression), b->block.size,
                            b->block.n, b->block.base);
  for (uint32_t slot = 0;
       rc == STRATAKV_OK && inspect->entries && slot < b->block.n; slot++) {
    skv_entry entry;
    if (!skv_scan_entry(&b->block, slot, key, &entry))
      return skv_inspect_damage(inspect, b->offset, err, "malformed entry");
    if (key->rc != STRATAKV_OK) return skv_error_nomem(err);
    rc = skv_inspect_entry(inspect, &entry, err);
  }
  return rc;
}

int skv_inspect_seg(skv_inspect *inspect, skv_err *err) {
  skv_scan scan;
  skv_buf key = {0};
  bool more = true;
  int rc =
      skv_scan_open(inspect->in, NULL, skv_inspect_pause(inspect), err, &scan);
  if (rc != STRATAKV_OK) return rc;
  rc = inspect_parts(inspect, &scan, err);
  while (rc == STRATAKV_OK && more) {
    skv_scan_block block;
    rc = skv_scan_next(&scan, err, &block, &more);
    if (rc == STRATAKV_OK && more)
      rc = inspect_block(inspect, &block, &key, err);
  }
  skv_scan_close(&scan);
  skv_buf_clear(&key);
  return rc;
}
