/*
 * Scanning a segment, damaged or not. See seg_scan.h.
 */
#include "engine/seg/seg_scan.h"

#include <stdio.h>

#include "engine/seg/seg_compress.h"
#include "engine/seg/seg_frame.h"
#include "engine/util/alloc.h"

#define SCAN_WINDOW (64u << 10)
#define SCAN_FOOTER_BACK 65536u /* how far before the end a footer is sought */
#define SCAN_UID_AT 16          /* in the footer */
/* To guess a uid the first block is summed up to 2,048 times: so many bytes in
 * all, which is every guess with a block of up to 8 MiB. */
#define SCAN_GUESS_MOST ((uint64_t)16 << 30)

/* ---- Opening ------------------------------------------------------------- */

static void scan_note(skv_scan *scan, int part, uint64_t offset,
                      const char *what) {
  scan->parts[part].offset = offset;
  snprintf(scan->parts[part].what, sizeof scan->parts[part].what, "%s", what);
}

/* A read that failed is damage like any other, but for memory. */
static int scan_read(skv_scan *scan, uint64_t at, size_t size, skv_buf *buf,
                     skv_err *err, bool *ok) {
  skv_err why;
  buf->size = 0;
  uint8_t *p = skv_buf_reserve(buf, size);
  if (!p) {
    skv_buf_clear(buf);
    return skv_error_nomem(err);
  }
  *ok = skv_in_read(scan->seg.in, at, p, size, &why) == STRATAKV_OK;
  buf->size = *ok ? size : 0;
  return STRATAKV_OK;
}

/* Whether the block at `offset` is one of that kind, of this segment. */
static bool scan_is_block(const skv_scan *scan, const uint8_t *frame,
                          uint64_t size, int kind, uint64_t offset) {
  return skv_frame_check(frame, size, kind,
                         skv_frame_seed(scan->seg.footer.uid, offset)) == NULL;
}

/* The first block, if the header that it states can be true. */
static int scan_first(skv_scan *scan, skv_err *err, bool *ok) {
  int rc = scan_read(scan, 0, SKV_FRAME_HEADER, &scan->frame, err, ok);
  if (rc != STRATAKV_OK || !*ok) return rc;
  uint64_t size = skv_frame_size(skv_frame_stored(scan->frame.data));
  *ok = size <= scan->seg.size;
  if (!*ok) return rc;
  return scan_read(scan, 0, (size_t)size, &scan->frame, err, ok);
}

/* A damaged footer's uid, perhaps with one byte changed: right if the first
 * block says so. */
static int scan_guess_uid(skv_scan *scan, skv_err *err) {
  uint8_t uid[8];
  bool ok;
  if (scan->seg.size < SKV_FOOTER_SIZE + SKV_FRAME_HEADER) return STRATAKV_OK;
  uint64_t at = scan->seg.size - SKV_FOOTER_SIZE + SCAN_UID_AT;
  int rc = scan_read(scan, at, 8, &scan->frame, err, &ok);
  if (rc != STRATAKV_OK || !ok) return rc;
  memcpy(uid, scan->frame.data, 8);
  rc = scan_first(scan, err, &ok);
  if (rc != STRATAKV_OK || !ok) return rc;
  for (unsigned i = 0; rc == STRATAKV_OK && i < 8 * 256; i++) {
    uint8_t trial[8];
    memcpy(trial, uid, 8);
    trial[i / 256] ^= (uint8_t)i;
    scan->seg.footer.uid = skv_get64(trial);
    scan->has_uid = scan_is_block(scan, scan->frame.data, scan->frame.size,
                                  SKV_FRAME_DATA, 0);
    if (scan->has_uid) break;
    rc = skv_seek_step(&scan->seek, scan->frame.size, err);
    if ((i + 1) * scan->frame.size < SCAN_GUESS_MOST) continue;
    scan_note(scan, 0, at - SCAN_UID_AT,
              "the footer is damaged, the first block too long to guess at it");
    break;
  }
  return rc;
}

/* Bytes were added to the file: the footer stands further in front. */
static int scan_find_footer(skv_scan *scan, const uint64_t *uid, skv_err *err) {
  uint64_t size = scan->seg.size;
  uint64_t back = size < SCAN_FOOTER_BACK ? size : SCAN_FOOTER_BACK;
  uint64_t from = (size - back) & ~UINT64_C(7);
  const char *what;
  bool ok;
  int rc = scan_read(scan, from, (size_t)(size - from), &scan->frame, err, &ok);
  if (rc != STRATAKV_OK || !ok) return rc;
  for (uint64_t at = from; at + SKV_FOOTER_SIZE <= size; at += 8) {
    const uint8_t *p = scan->frame.data + (at - from);
    if (skv_footer_decode(p, at, &scan->seg.footer, &what) != STRATAKV_OK ||
        (uid && scan->seg.footer.uid != *uid))
      continue;
    scan->has_uid = scan->has_footer = true;
    scan->seg.size = at + SKV_FOOTER_SIZE;
    return STRATAKV_OK;
  }
  return STRATAKV_OK;
}

static int scan_open_footer(skv_scan *scan, const uint64_t *uid, skv_err *err) {
  skv_err why = {0};
  skv_seg *seg = &scan->seg;
  int rc = skv_seg_read_footer(seg, &why);
  uint64_t at = seg->size < SKV_FOOTER_SIZE ? 0 : seg->size - SKV_FOOTER_SIZE;
  if (rc == STRATAKV_OK) {
    scan->has_uid = scan->has_footer = true;
    scan->is_other = uid && seg->footer.uid != *uid;
    if (scan->is_other) scan_note(scan, 0, at, "another segment stands here");
    return rc;
  }
  scan_note(scan, 0, at,
            rc == STRATAKV_NOTADB ? "written in a newer format"
                                  : "the footer is damaged");
  if (rc == STRATAKV_NOTADB) return STRATAKV_OK;
  rc = scan_find_footer(scan, uid, err);
  if (rc != STRATAKV_OK || scan->has_uid) return rc;
  if (!uid) return scan_guess_uid(scan, err);
  seg->footer.uid = *uid;
  scan->has_uid = true;
  return rc;
}

/* One of the blocks behind the data. */
static int scan_section(skv_scan *scan, int part, uint64_t from, uint64_t to,
                        int kind, skv_section *out, skv_err *err, bool *ok) {
  static const char *const names[] = {
      "the footer is damaged", "the properties are damaged",
      "the index is damaged", "the filter is damaged"};
  skv_err why = {0};
  int rc = skv_seg_section(&scan->seg, from, to, kind, out, &why);
  *ok = rc == STRATAKV_OK;
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  if (!*ok) scan_note(scan, part, from, names[part]);
  return STRATAKV_OK;
}

static int scan_sections(skv_scan *scan, skv_err *err) {
  skv_seg *seg = &scan->seg;
  const skv_seg_footer *f = &seg->footer;
  uint64_t filter = f->filter ? f->filter : f->props;
  int rc =
      scan_section(scan, 1, f->props, seg->size - SKV_FOOTER_SIZE,
                   SKV_FRAME_PROPS, &seg->props_section, err, &scan->has_props);
  if (rc == STRATAKV_OK)
    rc = scan_section(scan, 2, f->index, filter, SKV_FRAME_INDEX,
                      &seg->index_section, err, &scan->has_index);
  if (rc == STRATAKV_OK && f->filter != 0)
    rc = scan_section(scan, 3, f->filter, f->props, SKV_FRAME_FILTER,
                      &seg->filter_section, err, &scan->has_filter);
  if (rc != STRATAKV_OK) return rc;
  if (scan->has_props &&
      !skv_props_decode(seg->props_section.body, &seg->props))
    scan_note(scan, 1, f->props, "malformed properties");
  if (scan->has_index &&
      !skv_index_open(seg->index_section.body, f->index, &seg->index))
    scan_note(scan, 2, f->index, "malformed index");
  if (scan->has_filter &&
      !skv_filter_open(seg->filter_section.body, &seg->filter))
    scan_note(scan, 3, f->filter, "malformed filter");
  scan->has_props &= scan->parts[1].what[0] == 0;
  scan->has_index &= scan->parts[2].what[0] == 0;
  scan->has_filter &= scan->parts[3].what[0] == 0;
  if (!scan->has_filter) seg->filter.lines = NULL;
  return rc;
}

int skv_scan_open(skv_in *in, const uint64_t *uid, skv_pause pause,
                  skv_err *err, skv_scan *scan) {
  memset(scan, 0, sizeof *scan);
  scan->seek = skv_seek_new(pause);
  skv_unpack_ref();
  scan->seg.in = in;
  scan->seg.size = skv_in_size(in);
  int rc = scan_open_footer(scan, uid, err);
  if (rc == STRATAKV_OK && scan->has_footer) rc = scan_sections(scan, err);
  scan->end = scan->has_footer ? scan->seg.footer.index : scan->seg.size;
  if (!scan->has_uid) scan->at = scan->end;
  if (rc != STRATAKV_OK) skv_scan_close(scan);
  return rc;
}

void skv_scan_close(skv_scan *scan) {
  skv_free(scan->seg.props_section.owned);
  skv_free(scan->seg.index_section.owned);
  skv_free(scan->seg.filter_section.owned);
  skv_buf_clear(&scan->frame);
  skv_buf_clear(&scan->raw);
  skv_buf_clear(&scan->window);
  skv_unpack_unref();
}

/* ---- Data blocks --------------------------------------------------------- */

/* The frame in scan->frame, whose checksum holds, as a block. */
static int scan_decode(skv_scan *scan, skv_err *err, skv_scan_block *out) {
  const uint8_t *frame = scan->frame.data;
  skv_slice body =
      skv_slice_of(frame + SKV_FRAME_HEADER, skv_frame_stored(frame));
  out->compression = skv_frame_compression(frame);
  out->stored = skv_frame_stored(frame);
  out->what = NULL;
  if (out->compression != STRATAKV_COMPRESSION_NONE) {
    size_t raw = skv_unpack_size(body);
    scan->raw.size = 0;
    uint8_t *p = skv_buf_reserve(&scan->raw, raw + 8);
    if (!p) return skv_error_nomem(err);
    int rc =
        raw == 0 ? STRATAKV_CORRUPT : skv_unpack(out->compression, body, p);
    if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
    if (rc != STRATAKV_OK) out->what = "decompression failed";
    body = skv_slice_of(p, raw);
  }
  if (!out->what && !skv_block_open(body.data, body.size, &out->block))
    out->what = "malformed data block";
  return STRATAKV_OK;
}

static int scan_next_indexed(skv_scan *scan, skv_err *err, skv_scan_block *out,
                             bool *more) {
  const skv_index *index = &scan->seg.index;
  bool ok = false;
  *more = scan->next < index->n;
  if (!*more) return STRATAKV_OK;
  out->number = scan->next++;
  out->offset = index->offsets[out->number];
  out->end = index->offsets[out->number + 1];
  int rc = scan_read(scan, out->offset, (size_t)(out->end - out->offset),
                     &scan->frame, err, &ok);
  if (rc != STRATAKV_OK) return rc;
  out->what = "the block cannot be read";
  if (ok)
    out->what =
        skv_frame_check(scan->frame.data, scan->frame.size, SKV_FRAME_DATA,
                        skv_frame_seed(scan->seg.footer.uid, out->offset));
  return out->what ? STRATAKV_OK : scan_decode(scan, err, out);
}

/* The 16 bytes at scan->at, through the window; NULL: not to be read. */
static int scan_peek(skv_scan *scan, skv_err *err, const uint8_t **out) {
  uint64_t at = scan->at;
  bool ok = true;
  *out = NULL;
  if (at < scan->window_at ||
      at + SKV_FRAME_HEADER > scan->window_at + scan->window.size) {
    uint64_t left = scan->seg.size - at;
    size_t n = left < SCAN_WINDOW ? (size_t)left : SCAN_WINDOW;
    scan->window_at = at;
    int rc = scan_read(scan, at, n, &scan->window, err, &ok);
    if (rc != STRATAKV_OK || !ok) return rc;
  }
  *out = scan->window.data + (at - scan->window_at);
  return STRATAKV_OK;
}

/* Whether a data block stands at scan->at; it is then in scan->frame. The
 * index there ends the data. */
static int scan_try(skv_scan *scan, skv_err *err, bool *found) {
  const uint8_t *p;
  bool ok;
  *found = false;
  int rc = scan_peek(scan, err, &p);
  if (rc != STRATAKV_OK || !p) return rc;
  int kind = p[13];
  if ((kind != SKV_FRAME_DATA && kind != SKV_FRAME_INDEX) ||
      p[12] > STRATAKV_COMPRESSION_ZSTD || skv_get16(p + 14) != 0)
    return rc;
  uint64_t size = skv_frame_size(skv_frame_stored(p));
  if (size > scan->end - scan->at || !skv_seek_try(&scan->seek, scan->at, size))
    return rc;
  rc = scan_read(scan, scan->at, (size_t)size, &scan->frame, err, &ok);
  *found = rc == STRATAKV_OK && ok &&
           scan_is_block(scan, scan->frame.data, size, kind, scan->at);
  if (!*found || kind == SKV_FRAME_DATA) return rc;
  scan->end = scan->at;
  *found = false;
  return rc;
}

/* The next data block from scan->at on, which moves there. */
static int scan_seek(skv_scan *scan, skv_err *err, bool *found) {
  int rc = STRATAKV_OK;
  *found = false;
  while (rc == STRATAKV_OK && scan->at + SKV_FRAME_HEADER <= scan->end) {
    rc = scan_try(scan, err, found);
    if (rc != STRATAKV_OK || *found) break;
    scan->at += 8;
    rc = skv_seek_step(&scan->seek, 8, err);
  }
  return rc;
}

static int scan_next_sought(skv_scan *scan, skv_err *err, skv_scan_block *out,
                            bool *more) {
  uint64_t from = scan->at, untried = scan->seek.untried;
  bool found;
  *more = from + SKV_FRAME_HEADER <= scan->end;
  if (!*more) return STRATAKV_OK;
  int rc = scan_seek(scan, err, &found);
  if (rc != STRATAKV_OK) return rc;
  if (scan->end == from) { /* the index was met */
    *more = false;
    return STRATAKV_OK;
  }
  out->number = scan->next;
  out->offset = from;
  out->end = found ? scan->at : scan->end;
  out->what = scan->seek.untried == untried
                  ? "no valid block in these bytes"
                  : "no valid block found in these bytes, where more places "
                    "look like one than could be tried";
  if (!found || scan->at > from) return STRATAKV_OK; /* the gap first */
  out->end = from + scan->frame.size;
  out->number = scan->next++;
  scan->at = out->end;
  return scan_decode(scan, err, out);
}

int skv_scan_next(skv_scan *scan, skv_err *err, skv_scan_block *out,
                  bool *more) {
  memset(out, 0, sizeof *out);
  if (scan->has_index) return scan_next_indexed(scan, err, out, more);
  return scan_next_sought(scan, err, out, more);
}

/* ---- Entries and separators ---------------------------------------------- */

bool skv_scan_entry(const skv_block *block, uint32_t slot, skv_buf *key,
                    skv_entry *entry) {
  skv_block_item item;
  if (!skv_block_get(block, slot, &item) || item.lsn < block->base ||
      skv_block_slot_head(block, slot) != skv_block_head(item.suffix))
    return false;
  key->size = 0;
  skv_buf_append(key, skv_block_prefix(block), block->prefix);
  skv_buf_append(key, item.suffix.data, item.suffix.size);
  entry->key = skv_buf_bytes(key);
  entry->value = item.value;
  entry->lsn = item.lsn;
  entry->kind = item.kind;
  return true;
}

void skv_scan_separator(const skv_scan *scan, uint32_t i, skv_buf *buf) {
  const skv_index *index = &scan->seg.index;
  skv_slice suffix = skv_index_suffix(index, i);
  buf->size = 0;
  skv_buf_append(buf, index->common.data, index->common.size);
  skv_buf_append(buf, suffix.data, suffix.size);
}
