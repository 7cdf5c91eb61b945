/*
 * Reading segments: open, data blocks, point lookups. See seg.h.
 *
 * VERIFYING  Footer, properties, index and filter at open. A data block that
 *   is read in place, when it is first used in this process; any other, each
 *   time it is decoded (INV-8). A checksum says that these are the bytes that
 *   were written, not that a sane program wrote them: what is decoded is
 *   checked against its end again.
 *
 * MEMORY OF A BLOCK  that is not read in place, in the cache or in a pin: 16
 *   bytes like a frame's header, of which only the body's size means
 *   something, then the body. So an uncompressed block is read from the file
 *   to where it stays.
 */
#include "engine/seg/seg_compress.h"
#include "engine/seg/seg_frame.h"
#include "engine/seg/seg_open.h"
#include "engine/util/alloc.h"

/* A pin's own memory from this size on is not kept for the next block. */
#define SEG_PIN_KEEP ((size_t)1024 * 1024)

/* ---- Opening ----------------------------------------------------------- */

static int seg_section_bytes(skv_seg *seg, uint64_t from, size_t size,
                             skv_section *out, skv_err *err,
                             const uint8_t **bytes) {
  if (seg->map) {
    *bytes = seg->map + from;
    return STRATAKV_OK;
  }
  size_t lead = (size_t)(from & 63);
  out->owned = skv_aligned(64, lead + size);
  if (!out->owned) return skv_error_nomem(err);
  seg->anonymous += lead + size;
  uint8_t *p = (uint8_t *)out->owned + lead;
  *bytes = p;
  return skv_in_read(seg->in, from, p, size, err);
}

int skv_seg_section(skv_seg *seg, uint64_t from, uint64_t to, int kind,
                    skv_section *out, skv_err *err) {
  const uint8_t *frame = NULL;
  int rc = seg_section_bytes(seg, from, (size_t)(to - from), out, err, &frame);
  if (rc != STRATAKV_OK) return rc;
  const char *what = skv_frame_check(frame, to - from, kind,
                                     skv_frame_seed(seg->footer.uid, from));
  if (!what && skv_frame_compression(frame) != STRATAKV_COMPRESSION_NONE)
    what = "malformed block header";
  if (what) return skv_error_corrupt(err, skv_in_name(seg->in), from, what);
  out->body = skv_slice_of(frame + SKV_FRAME_HEADER, skv_frame_stored(frame));
  return STRATAKV_OK;
}

int skv_seg_read_footer(skv_seg *seg, skv_err *err) {
  uint8_t bytes[SKV_FOOTER_SIZE];
  const char *name = skv_in_name(seg->in), *what;
  if (seg->size < SKV_FOOTER_SIZE)
    return skv_error_corrupt(err, name, 0, "too short for a segment");
  uint64_t at = seg->size - SKV_FOOTER_SIZE;
  int rc = skv_in_read(seg->in, at, bytes, sizeof bytes, err);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_footer_decode(bytes, at, &seg->footer, &what);
  if (rc == STRATAKV_CORRUPT) return skv_error_corrupt(err, name, at, what);
  if (rc != STRATAKV_OK) rc = SKV_ERROR(err, rc, "%s: %s", name, what);
  return rc;
}

/* Properties, index, filter. */
static int seg_read_sections(skv_seg *seg, skv_err *err) {
  const skv_seg_footer *f = &seg->footer;
  const char *name = skv_in_name(seg->in);
  uint64_t filter = f->filter ? f->filter : f->props;
  int rc = skv_seg_section(seg, f->props, seg->size - SKV_FOOTER_SIZE,
                           SKV_FRAME_PROPS, &seg->props_section, err);
  if (rc != STRATAKV_OK) return rc;
  if (!skv_props_decode(seg->props_section.body, &seg->props))
    return skv_error_corrupt(err, name, f->props, "malformed properties");
  rc = skv_seg_section(seg, f->index, filter, SKV_FRAME_INDEX,
                       &seg->index_section, err);
  if (rc != STRATAKV_OK) return rc;
  if (!skv_index_open(seg->index_section.body, f->index, &seg->index))
    return skv_error_corrupt(err, name, f->index, "malformed index");
  if (f->filter == 0) return STRATAKV_OK;
  rc = skv_seg_section(seg, f->filter, f->props, SKV_FRAME_FILTER,
                       &seg->filter_section, err);
  if (rc == STRATAKV_OK &&
      !skv_filter_open(seg->filter_section.body, &seg->filter))
    rc = skv_error_corrupt(err, name, f->filter, "malformed filter");
  return rc;
}

static int seg_new_bitmap(skv_seg *seg, skv_err *err) {
  if (!seg->map) return STRATAKV_OK;
  size_t words = (size_t)seg->index.n / 64 + 1;
  seg->checked = skv_calloc(words, sizeof *seg->checked);
  if (!seg->checked) return skv_error_nomem(err);
  seg->anonymous += words * sizeof *seg->checked;
  return STRATAKV_OK;
}

int skv_seg_open(skv_in *in, skv_cache *cache, uint64_t cache_id, uint64_t uid,
                 uint64_t ingest_lsn, skv_err *err, skv_seg **out) {
  int rc = STRATAKV_OK;
  skv_seg *seg = skv_new(sizeof *seg, &rc);
  *out = NULL;
  if (rc != STRATAKV_OK) return skv_error_nomem(err);
  skv_unpack_ref();
  seg->in = in;
  seg->map = skv_in_map(in);
  seg->size = skv_in_size(in);
  seg->cache = cache;
  seg->cache_id = cache_id;
  seg->ingest_lsn = ingest_lsn;
  seg->anonymous = sizeof *seg;
  rc = skv_seg_read_footer(seg, err);
  if (rc == STRATAKV_OK && seg->footer.uid != uid) /* INV-8 */
    rc = skv_error_corrupt(err, skv_in_name(in), seg->size - SKV_FOOTER_SIZE,
                           "another segment stands here");
  if (rc == STRATAKV_OK) rc = seg_read_sections(seg, err);
  if (rc == STRATAKV_OK) rc = seg_new_bitmap(seg, err);
  if (rc != STRATAKV_OK) {
    seg->in = NULL; /* stays the caller's */
    skv_seg_close(seg);
    seg = NULL;
  }
  *out = seg;
  return rc;
}

void skv_seg_close(skv_seg *seg) {
  if (!seg) return;
  if (seg->cache && atomic_load(&seg->cached))
    skv_cache_drop(seg->cache, seg->cache_id);
  skv_free(seg->props_section.owned);
  skv_free(seg->index_section.owned);
  skv_free(seg->filter_section.owned);
  skv_free(seg->checked);
  skv_in_close(seg->in);
  skv_free(seg);
  skv_unpack_unref();
}

skv_in *skv_seg_in(const skv_seg *seg) { return seg->in; }

uint64_t skv_seg_anonymous(const skv_seg *seg) { return seg->anonymous; }

/* ---- Pins -------------------------------------------------------------- */

void skv_seg_pin_release(skv_cache *cache, skv_seg_pin *pin) {
  if (pin->block) skv_cache_unref(cache, pin->block);
  pin->block = NULL;
}

void skv_seg_pin_clear(skv_cache *cache, skv_seg_pin *pin) {
  skv_seg_pin_release(cache, pin);
  skv_buf_clear(&pin->buf);
}

/* ---- Data blocks ------------------------------------------------------- */

int skv_seg_damage(const skv_seg *seg, uint32_t i, const char *what,
                   skv_err *err) {
  return skv_error_corrupt(err, skv_in_name(seg->in), skv_seg_block_at(seg, i),
                           what);
}

static int seg_check_frame(const skv_seg *seg, uint32_t i, const uint8_t *frame,
                           skv_err *err) {
  uint64_t at = skv_seg_block_at(seg, i);
  const char *what =
      skv_frame_check(frame, skv_seg_block_size(seg, i), SKV_FRAME_DATA,
                      skv_frame_seed(seg->footer.uid, at));
  return what ? skv_seg_damage(seg, i, what, err) : STRATAKV_OK;
}

/* Memory for a block: the cache's or pin's own. */
static uint8_t *seg_room(skv_seg *seg, bool keep, size_t size,
                         skv_seg_pin *pin) {
  if (seg->cache && keep) {
    pin->block = skv_cache_alloc(seg->cache, size);
    return pin->block ? (uint8_t *)(uintptr_t)pin->block->data : NULL;
  }
  if (pin->buf.capacity > SEG_PIN_KEEP || pin->buf.rc != STRATAKV_OK)
    skv_buf_clear(&pin->buf);
  pin->buf.size = 0;
  return skv_buf_reserve(&pin->buf, size);
}

static int seg_open_block(const skv_seg *seg, uint32_t i, const uint8_t *frame,
                          skv_err *err, skv_block *block) {
  uint64_t stored = skv_frame_stored(frame);
  if (seg->map && frame >= seg->map && frame < seg->map + seg->size &&
      stored > skv_seg_block_size(seg, i)) /* changed since it was verified */
    return skv_seg_damage(seg, i, "wrong block size", err);
  if (skv_block_open(frame + SKV_FRAME_HEADER, stored, block))
    return STRATAKV_OK;
  return skv_seg_damage(seg, i, "malformed data block", err);
}

/* Decompress a checked frame. */
static int seg_decode(skv_seg *seg, uint32_t i, const uint8_t *frame, bool keep,
                      skv_seg_pin *pin, skv_err *err, const uint8_t **out) {
  skv_slice body =
      skv_slice_of(frame + SKV_FRAME_HEADER, skv_frame_stored(frame));
  size_t raw = skv_unpack_size(body);
  if (raw == 0) return skv_seg_damage(seg, i, "malformed data block", err);
  uint8_t *p = seg_room(seg, keep, SKV_FRAME_HEADER + raw, pin);
  if (!p) return skv_error_nomem(err);
  memset(p, 0, SKV_FRAME_HEADER);
  skv_put32(p + 8, (uint32_t)raw);
  int rc = skv_unpack(skv_frame_compression(frame), body, p + SKV_FRAME_HEADER);
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  if (rc != STRATAKV_OK)
    return skv_seg_damage(seg, i, "decompression failed", err);
  *out = p;
  return STRATAKV_OK;
}

/* Read an unmapped block: straight to where it stays if it turns out to be
 * uncompressed. */
static int seg_fetch(skv_seg *seg, uint32_t i, bool keep, skv_seg_pin *pin,
                     skv_err *err, const uint8_t **out) {
  uint64_t at = skv_seg_block_at(seg, i);
  size_t size = (size_t)skv_seg_block_size(seg, i);
  uint8_t *p = seg_room(seg, keep, size, pin);
  if (!p) return skv_error_nomem(err);
  int rc = skv_in_read(seg->in, at, p, size, err);
  if (rc == STRATAKV_OK) rc = seg_check_frame(seg, i, p, err);
  *out = p;
  if (rc != STRATAKV_OK ||
      skv_frame_compression(p) == STRATAKV_COMPRESSION_NONE)
    return rc;

  /* Set the compressed bytes aside. */
  skv_cache_block *packed = pin->block;
  skv_buf packed_buf = {0};
  pin->block = NULL;
  if (!packed) {
    packed_buf = pin->buf;
    pin->buf = (skv_buf){0};
  }
  rc = seg_decode(seg, i, p, keep, pin, err, out);
  if (packed) skv_cache_unref(seg->cache, packed);
  skv_buf_clear(&packed_buf);
  return rc;
}

/* A block that cannot be read in place: the cache's, or a new one. */
static int seg_load_copy(skv_seg *seg, uint32_t i, bool keep, skv_seg_pin *pin,
                         skv_err *err, const uint8_t **out) {
  uint64_t at = skv_seg_block_at(seg, i);
  int rc = STRATAKV_OK;
  if (seg->cache) {
    pin->block = skv_cache_get(seg->cache, seg->cache_id, at);
    if (pin->block) {
      *out = pin->block->data;
      return STRATAKV_OK;
    }
  }
  if (seg->map) {
    rc = seg_check_frame(seg, i, seg->map + at, err);
    if (rc == STRATAKV_OK)
      rc = seg_decode(seg, i, seg->map + at, keep, pin, err, out);
  } else {
    rc = seg_fetch(seg, i, keep, pin, err, out);
  }
  if (rc != STRATAKV_OK) {
    skv_seg_pin_release(seg->cache, pin);
  } else if (pin->block) {
    if (!atomic_load_explicit(&seg->cached, memory_order_relaxed))
      atomic_store(&seg->cached, true);
    pin->block = skv_cache_publish(seg->cache, seg->cache_id, at, pin->block);
    *out = pin->block->data;
  }
  return rc;
}

/* Mapped and uncompressed: verify unless that was done. */
static int seg_check_once(skv_seg *seg, uint32_t i, const uint8_t *frame,
                          skv_err *err) {
  _Atomic uint64_t *word = &seg->checked[i / 64];
  uint64_t bit = UINT64_C(1) << (i % 64);
  if (atomic_load_explicit(word, memory_order_relaxed) & bit)
    return STRATAKV_OK;
  int rc = seg_check_frame(seg, i, frame, err);
  if (rc == STRATAKV_OK)
    atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
  return rc;
}

int skv_seg_load(skv_seg *seg, uint32_t i, bool keep, skv_seg_pin *pin,
                 skv_err *err, skv_block *block) {
  const uint8_t *frame = NULL;
  int rc;
  skv_seg_pin_release(seg->cache, pin);
  if (seg->map) frame = seg->map + skv_seg_block_at(seg, i);
  /* Not believed yet: if it lies, the check fails whichever way we go. */
  if (frame && skv_frame_compression(frame) == STRATAKV_COMPRESSION_NONE)
    rc = seg_check_once(seg, i, frame, err);
  else
    rc = seg_load_copy(seg, i, keep, pin, err, &frame);
  if (rc == STRATAKV_OK) rc = seg_open_block(seg, i, frame, err, block);
  return rc;
}

/* ---- Point lookups ----------------------------------------------------- */

bool skv_seg_may_have(const skv_seg *seg, uint64_t hash) {
  return !seg->filter.lines || skv_filter_has(&seg->filter, hash);
}

void skv_seg_filter_prefetch(const skv_seg *seg, uint64_t hash) {
  if (seg->filter.lines)
    __builtin_prefetch(skv_filter_line(&seg->filter, hash));
}

int skv_seg_get(skv_seg *seg, skv_slice key, uint64_t hash, skv_seg_pin *pin,
                skv_err *err, bool *found, skv_entry *entry) {
  skv_block block;
  skv_block_item item;
  uint32_t slot;
  *found = false;
  if (!skv_seg_may_have(seg, hash)) return STRATAKV_OK;
  uint32_t i = skv_index_find(&seg->index, key);
  if (i == seg->index.n) return STRATAKV_OK;
  skv_seg_prefetch(seg, i);
  int rc = skv_seg_load(seg, i, true, pin, err, &block);
  if (rc != STRATAKV_OK) return rc;
  bool exact = false;
  if (!skv_block_find(&block, key, &slot, &exact) ||
      (exact && !skv_block_get(&block, slot, &item)))
    return skv_seg_damage(seg, i, "malformed data block", err);
  if (!exact) return STRATAKV_OK;
  entry->key = key;
  entry->value = item.value;
  entry->lsn = seg->ingest_lsn ? seg->ingest_lsn : item.lsn;
  entry->kind = item.kind;
  *found = true;
  return STRATAKV_OK;
}
