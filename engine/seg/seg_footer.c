/*
 * Properties and footer of a segment.
 *
 * PROPERTIES
 *      0  8  entries (>= 1), tombstones included
 *      8  8  tombstones
 *     16  8  sum of key and value lengths
 *     24  8  smallest LSN
 *     32  8  greatest LSN
 *     40  4  block size, 44 1 compression, 45 1 filter bits: the writer's
 *            options, for tools
 *     46  2  zero
 *     48  4  length of the smallest key
 *     52  4  length of the greatest key
 *     56     both keys
 *
 * FOOTER, the last 64 bytes
 *      0  8  magic "STRATSEG"
 *      8  4  format version (SKV_FORMAT)
 *     12  4  zero
 *     16  8  uid
 *     24  8  offset of the index block
 *     32  8  offset of the filter block, 0 if there is none
 *     40  8  offset of the properties block
 *     48  8  zero
 *     56  8  checksum of bytes 0..55, seeded with the footer's offset
 */
#include "engine/seg/seg_footer.h"

#include "engine/store/store.h"
#include "engine/util/hash.h"

#define PROPS_FIXED 56u

static const char footer_magic[8] = {'S', 'T', 'R', 'A', 'T', 'S', 'E', 'G'};

void skv_footer_encode(const skv_seg_footer *footer, uint64_t at,
                       uint8_t bytes[SKV_FOOTER_SIZE]) {
  memset(bytes, 0, SKV_FOOTER_SIZE);
  memcpy(bytes, footer_magic, 8);
  skv_put32(bytes + 8, SKV_FORMAT);
  skv_put64(bytes + 16, footer->uid);
  skv_put64(bytes + 24, footer->index);
  skv_put64(bytes + 32, footer->filter);
  skv_put64(bytes + 40, footer->props);
  skv_put64(bytes + 56, skv_checksum(bytes, 56, at));
}

/* Blocks stand one behind the other; each has a header at least. */
static bool footer_places_ok(const skv_seg_footer *f, uint64_t at) {
  uint64_t filter = f->filter ? f->filter : f->props;
  if ((f->index | filter | f->props | at) & 7) return false;
  return f->index > 0 && f->index < filter &&
         (f->filter == 0 || f->filter < f->props) && f->props < at;
}

int skv_footer_decode(const uint8_t bytes[SKV_FOOTER_SIZE], uint64_t at,
                      skv_seg_footer *out, const char **what) {
  *what = "not a segment's footer";
  if (memcmp(bytes, footer_magic, 8) != 0) return STRATAKV_CORRUPT;
  *what = "checksum mismatch";
  if (!skv_checksum_ok(bytes, 56, at, skv_get64(bytes + 56)))
    return STRATAKV_CORRUPT;
  *what = "unknown format version";
  if (skv_get32(bytes + 8) != SKV_FORMAT) return STRATAKV_NOTADB;
  out->uid = skv_get64(bytes + 16);
  out->index = skv_get64(bytes + 24);
  out->filter = skv_get64(bytes + 32);
  out->props = skv_get64(bytes + 40);
  *what = "malformed footer";
  if (skv_get32(bytes + 12) != 0 || skv_get64(bytes + 48) != 0 ||
      !footer_places_ok(out, at))
    return STRATAKV_CORRUPT;
  return STRATAKV_OK;
}

void skv_props_encode(const skv_seg_props *props, skv_buf *buf) {
  skv_buf_u64(buf, props->entries);
  skv_buf_u64(buf, props->tombstones);
  skv_buf_u64(buf, props->raw_bytes);
  skv_buf_u64(buf, props->min_lsn);
  skv_buf_u64(buf, props->max_lsn);
  skv_buf_u32(buf, props->block_size);
  skv_buf_u8(buf, props->compression);
  skv_buf_u8(buf, props->filter_bits);
  skv_buf_u16(buf, 0);
  skv_buf_u32(buf, (uint32_t)props->min_key.size);
  skv_buf_u32(buf, (uint32_t)props->max_key.size);
  skv_buf_append(buf, props->min_key.data, props->min_key.size);
  skv_buf_append(buf, props->max_key.data, props->max_key.size);
}

bool skv_props_decode(skv_slice body, skv_seg_props *out) {
  const uint8_t *p = body.data;
  if (body.size < PROPS_FIXED) return false;
  out->entries = skv_get64(p);
  out->tombstones = skv_get64(p + 8);
  out->raw_bytes = skv_get64(p + 16);
  out->min_lsn = skv_get64(p + 24);
  out->max_lsn = skv_get64(p + 32);
  out->block_size = skv_get32(p + 40);
  out->compression = p[44];
  out->filter_bits = p[45];
  uint64_t min = skv_get32(p + 48), max = skv_get32(p + 52);
  if (out->entries == 0 || out->tombstones > out->entries ||
      out->min_lsn > out->max_lsn || skv_get16(p + 46) != 0 ||
      body.size != PROPS_FIXED + min + max)
    return false;
  out->min_key = skv_slice_of(p + PROPS_FIXED, min);
  out->max_key = skv_slice_of(p + PROPS_FIXED + min, max);
  return true;
}
