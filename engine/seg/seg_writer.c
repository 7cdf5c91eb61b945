/*
 * Writing segments. See seg.h.
 *
 * MEMORY  One data block (its entries, its encoded and its compressed form,
 *   each at most about 1 MiB; mostly 8 KiB), the index so far and 8 bytes per
 *   entry for the filter, whose size is known only at the end. A segment is
 *   meant to be some 64 MiB of at most 2 M entries: that is 16 MiB at worst,
 *   4 MiB with entries of 128 bytes. Large values are appended straight from
 *   the caller's memory.
 */
#include <assert.h>

#include "engine/seg/seg.h"
#include "engine/seg/seg_block.h"
#include "engine/seg/seg_compress.h"
#include "engine/seg/seg_filter.h"
#include "engine/seg/seg_footer.h"
#include "engine/seg/seg_frame.h"
#include "engine/seg/seg_index.h"
#include "engine/util/alloc.h"
#include "engine/util/hash.h"

#define SEG_BLOCK_MIN 256u
#define SEG_BLOCK_MAX 65536u
#define SEG_FILTER_MAX 20
#define SEG_KEY_MAX (STRATAKV_MAX_KEY + SKV_TABLE_PREFIX)
#define SEG_REST 256u /* bytes of properties and footer, about */

struct skv_seg_writer {
  skv_out *out;            /* borrowed */
  skv_seg_options options; /* checked */
  int rc;                  /* the first failure */
  uint64_t offset;         /* bytes appended */

  skv_block_builder block; /* the data block being filled */
  skv_packer *packer;      /* owned */
  skv_buf frame;           /* a block as it goes out */
  skv_buf packed;          /* the same, compressed */

  skv_index_builder index;
  bool separator_due;   /* the last block written is not in the index yet */
  uint64_t last_offset; /* where it begins */
  skv_buf last_key;     /* the last key of all, once its block is written */
  skv_buf separator;    /* scratch */
  skv_buf hashes;       /* uint64_t each; of all keys, with a filter */

  skv_buf min_key;
  skv_seg_footer footer;
  skv_seg_props props; /* so far, without keys */
};

/* ---- New and free ------------------------------------------------------ */

int skv_seg_writer_new(skv_out *out, const skv_seg_options *options,
                       uint64_t uid, skv_err *err, skv_seg_writer **writer) {
  int rc = STRATAKV_OK;
  skv_seg_writer *w = skv_new(sizeof *w, &rc);
  *writer = NULL;
  if (rc != STRATAKV_OK) return skv_error_nomem(err);
  assert(options->filter_bits >= 0 && options->filter_bits <= SEG_FILTER_MAX);
  assert(options->block_size >= SEG_BLOCK_MIN &&
         options->block_size <= SEG_BLOCK_MAX);
  w->out = out;
  w->options = *options;
  w->footer.uid = uid;
  w->props.block_size = options->block_size;
  w->props.compression = (uint8_t)options->compression;
  w->props.filter_bits = (uint8_t)options->filter_bits;
  rc = skv_packer_new(options->compression, err, &w->packer);
  if (rc != STRATAKV_OK) {
    skv_seg_writer_free(w);
    return rc;
  }
  *writer = w;
  return STRATAKV_OK;
}

void skv_seg_writer_free(skv_seg_writer *w) {
  if (!w) return;
  skv_block_builder_clear(&w->block);
  skv_packer_free(w->packer);
  skv_buf_clear(&w->frame);
  skv_buf_clear(&w->packed);
  skv_index_builder_clear(&w->index);
  skv_buf_clear(&w->last_key);
  skv_buf_clear(&w->separator);
  skv_buf_clear(&w->hashes);
  skv_buf_clear(&w->min_key);
  skv_free(w);
}

/* ---- Blocks ------------------------------------------------------------ */

static int writer_append(skv_seg_writer *w, const void *data, size_t size,
                         skv_err *err) {
  int rc = skv_out_append(w->out, data, size, err);
  if (rc == STRATAKV_OK) w->offset += size;
  return rc;
}

static uint64_t writer_seed(const skv_seg_writer *w) {
  return skv_frame_seed(w->footer.uid, w->offset);
}

/* Begin a frame: the buffer holds room for its header. */
static void writer_begin_frame(skv_buf *frame) {
  frame->size = 0;
  if (skv_buf_reserve(frame, SKV_FRAME_HEADER + 8))
    frame->size = SKV_FRAME_HEADER;
}

/* Seal what writer_begin_frame began and append it. */
static int writer_end_frame(skv_seg_writer *w, skv_buf *frame, int compression,
                            int kind, skv_err *err) {
  skv_buf_reserve(frame, 8); /* the padding */
  if (frame->rc != STRATAKV_OK) return skv_error_nomem(err);
  uint64_t stored = frame->size - SKV_FRAME_HEADER;
  if (stored > UINT32_MAX - 8)
    return SKV_ERROR(err, STRATAKV_TOOBIG, "segment too large");
  uint64_t size = skv_frame_seal(frame->data, stored, compression, kind,
                                 writer_seed(w), NULL);
  return writer_append(w, frame->data, (size_t)size, err);
}

/* The block at `offset` was written, and `last` is its last key. */
static void writer_note_block(skv_seg_writer *w, uint64_t offset,
                              skv_slice last) {
  skv_buf_set(&w->last_key, last);
  w->last_offset = offset;
  w->separator_due = true;
}

static int writer_close_block(skv_seg_writer *w, skv_err *err) {
  uint64_t offset = w->offset;
  int compression = STRATAKV_COMPRESSION_NONE;
  skv_buf *frame = &w->frame;
  if (w->block.count == 0) return STRATAKV_OK;
  writer_begin_frame(frame);
  skv_block_encode(&w->block, frame);
  if (frame->rc != STRATAKV_OK) return skv_error_nomem(err);
  if (w->options.compression != STRATAKV_COMPRESSION_NONE) {
    skv_slice body = skv_slice_of(frame->data + SKV_FRAME_HEADER,
                                  frame->size - SKV_FRAME_HEADER);
    writer_begin_frame(&w->packed);
    uint8_t *p = skv_buf_reserve(&w->packed, body.size);
    if (!p) return skv_error_nomem(err);
    size_t size = skv_packer_pack(w->packer, body, p);
    if (size > 0) {
      compression = w->options.compression;
      w->packed.size += size;
      frame = &w->packed;
    }
  }
  int rc = writer_end_frame(w, frame, compression, SKV_FRAME_DATA, err);
  if (rc != STRATAKV_OK) return rc;
  writer_note_block(w, offset, skv_block_last(&w->block));
  skv_block_builder_reset(&w->block);
  return STRATAKV_OK;
}

/* ---- Adding ------------------------------------------------------------ */

/* Whether an entry goes out straight from the caller's memory: where it has a
 * block of its own and that will not be compressed. */
static bool writer_is_large(const skv_seg_writer *w, const skv_entry *entry) {
  size_t size = entry->key.size + entry->value.size;
  if (w->options.compression == STRATAKV_COMPRESSION_NONE)
    return size >= w->options.block_size;
  return size + 128 >= SKV_COMPRESS_LIMIT; /* the body's other bytes */
}

static int writer_add_large(skv_seg_writer *w, const skv_entry *entry,
                            skv_err *err) {
  static const uint8_t zeros[8] = {0};
  uint64_t offset = w->offset;
  writer_begin_frame(&w->frame);
  skv_block_encode_one(entry, &w->frame);
  if (w->frame.rc != STRATAKV_OK) return skv_error_nomem(err);
  uint64_t stored = w->frame.size - SKV_FRAME_HEADER + entry->value.size;
  uint64_t size =
      skv_frame_seal(w->frame.data, stored, STRATAKV_COMPRESSION_NONE,
                     SKV_FRAME_DATA, writer_seed(w), &entry->value);
  int rc = writer_append(w, w->frame.data, w->frame.size, err);
  if (rc == STRATAKV_OK)
    rc = writer_append(w, entry->value.data, entry->value.size, err);
  if (rc == STRATAKV_OK)
    rc = writer_append(w, zeros, (size_t)(offset + size - w->offset), err);
  if (rc == STRATAKV_OK) writer_note_block(w, offset, entry->key);
  return rc;
}

/* Before the first entry of a block: the block before it gets its separator. */
static void writer_settle(skv_seg_writer *w, skv_slice key) {
  if (!w->separator_due) return;
  skv_index_separator(skv_buf_bytes(&w->last_key), key, &w->separator);
  skv_index_add(&w->index, skv_buf_bytes(&w->separator), w->last_offset);
  w->separator_due = false;
}

/* Put the entry into a block. */
static int writer_place(skv_seg_writer *w, const skv_entry *entry,
                        skv_err *err) {
  size_t limit = w->options.block_size;
  bool is_large = writer_is_large(w, entry);
  if (!is_large && w->block.count > 0 && skv_block_add(&w->block, entry, limit))
    return STRATAKV_OK;
  int rc = writer_close_block(w, err);
  if (rc != STRATAKV_OK) return rc;
  writer_settle(w, entry->key);
  if (is_large) return writer_add_large(w, entry, err);
  skv_block_add(&w->block, entry, limit);
  return STRATAKV_OK;
}

static int writer_check(const skv_seg_writer *w, const skv_entry *entry,
                        skv_err *err) {
  if (entry->key.size > SEG_KEY_MAX || entry->value.size > STRATAKV_MAX_VALUE)
    return SKV_ERROR(err, STRATAKV_TOOBIG, "entry too large for a segment");
  if (w->props.entries == 0) return STRATAKV_OK;
  skv_slice last = w->block.count > 0 ? skv_block_last(&w->block)
                                      : skv_buf_bytes(&w->last_key);
  /* What we read from was damaged; written, it would not be found. */
  if (skv_compare(last, entry->key) >= 0)
    return SKV_ERROR(err, STRATAKV_CORRUPT, "entries out of order");
  return STRATAKV_OK;
}

static void writer_count(skv_seg_writer *w, const skv_entry *entry) {
  skv_seg_props *props = &w->props;
  if (props->entries == 0) {
    skv_buf_set(&w->min_key, entry->key);
    props->min_lsn = entry->lsn;
  }
  if (entry->lsn < props->min_lsn) props->min_lsn = entry->lsn;
  if (entry->lsn > props->max_lsn) props->max_lsn = entry->lsn;
  props->entries++;
  props->tombstones += entry->kind == SKV_KIND_DELETE;
  props->raw_bytes += entry->key.size + entry->value.size;
  if (w->options.filter_bits > 0) skv_buf_u64(&w->hashes, skv_hash(entry->key));
}

static bool writer_is_out_of_memory(const skv_seg_writer *w) {
  const skv_index_builder *index = &w->index;
  return w->block.raw.rc | w->block.items.rc | w->hashes.rc | w->min_key.rc |
         w->last_key.rc | w->separator.rc | index->bytes.rc | index->ends.rc |
         index->offsets.rc;
}

int skv_seg_writer_add(skv_seg_writer *w, const skv_entry *entry,
                       skv_err *err) {
  assert(entry->kind == SKV_KIND_PUT ||
         (entry->kind == SKV_KIND_DELETE && entry->value.size == 0));
  if (w->rc != STRATAKV_OK)
    return SKV_ERROR(err, w->rc, "an earlier write to a segment failed");
  w->rc = writer_check(w, entry, err);
  if (w->rc == STRATAKV_OK) w->rc = writer_place(w, entry, err);
  if (w->rc == STRATAKV_OK) writer_count(w, entry);
  if (w->rc == STRATAKV_OK && writer_is_out_of_memory(w))
    w->rc = skv_error_nomem(err);
  return w->rc;
}

uint64_t skv_seg_writer_size(const skv_seg_writer *w) {
  uint64_t filter = w->props.entries * (unsigned)w->options.filter_bits / 8;
  return w->offset + w->block.keys + w->block.others +
         (uint64_t)SKV_BLOCK_SLOT * w->block.count +
         skv_index_estimate(&w->index) + filter + SEG_REST;
}

uint64_t skv_seg_writer_entries(const skv_seg_writer *w) {
  return w->props.entries;
}

/* ---- Finishing --------------------------------------------------------- */

static int writer_put_index(skv_seg_writer *w, skv_err *err) {
  skv_index_add(&w->index, skv_buf_bytes(&w->last_key), w->last_offset);
  w->footer.index = w->offset;
  writer_begin_frame(&w->frame);
  int rc = skv_index_encode(&w->index, w->offset + SKV_FRAME_HEADER, w->offset,
                            &w->frame);
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  if (rc != STRATAKV_OK)
    return SKV_ERROR(err, rc, "keys too long for the index of a segment");
  return writer_end_frame(w, &w->frame, STRATAKV_COMPRESSION_NONE,
                          SKV_FRAME_INDEX, err);
}

static int writer_put_filter(skv_seg_writer *w, skv_err *err) {
  if (w->options.filter_bits == 0) return STRATAKV_OK;
  w->footer.filter = w->offset;
  writer_begin_frame(&w->frame);
  skv_filter_encode(&w->frame, w->offset + SKV_FRAME_HEADER,
                    (const uint64_t *)(const void *)w->hashes.data,
                    w->hashes.size / 8, w->options.filter_bits);
  return writer_end_frame(w, &w->frame, STRATAKV_COMPRESSION_NONE,
                          SKV_FRAME_FILTER, err);
}

static int writer_put_props(skv_seg_writer *w, skv_err *err) {
  w->footer.props = w->offset;
  w->props.min_key = skv_buf_bytes(&w->min_key);
  w->props.max_key = skv_buf_bytes(&w->last_key);
  writer_begin_frame(&w->frame);
  skv_props_encode(&w->props, &w->frame);
  return writer_end_frame(w, &w->frame, STRATAKV_COMPRESSION_NONE,
                          SKV_FRAME_PROPS, err);
}

static int writer_put_end(skv_seg_writer *w, skv_err *err) {
  uint8_t bytes[SKV_FOOTER_SIZE];
  int rc = writer_close_block(w, err);
  if (rc == STRATAKV_OK && writer_is_out_of_memory(w)) /* the last key */
    rc = skv_error_nomem(err);
  if (rc == STRATAKV_OK) rc = writer_put_index(w, err);
  if (rc == STRATAKV_OK) rc = writer_put_filter(w, err);
  if (rc == STRATAKV_OK) rc = writer_put_props(w, err);
  if (rc != STRATAKV_OK) return rc;
  skv_footer_encode(&w->footer, w->offset, bytes);
  rc = writer_append(w, bytes, sizeof bytes, err);
  if (rc == STRATAKV_OK) rc = skv_out_sync(w->out, err);
  return rc;
}

int skv_seg_writer_finish(skv_seg_writer *w, skv_err *err, skv_seg_meta *meta) {
  memset(meta, 0, sizeof *meta);
  if (w->rc != STRATAKV_OK)
    return SKV_ERROR(err, w->rc, "an earlier write to a segment failed");
  if (w->props.entries == 0)
    return SKV_ERROR(err, STRATAKV_MISUSE, "a segment without entries");
  w->rc = writer_put_end(w, err);
  if (w->rc != STRATAKV_OK) return w->rc;
  meta->uid = w->footer.uid;
  meta->size = w->offset;
  meta->entries = w->props.entries;
  meta->tombstones = w->props.tombstones;
  meta->raw_bytes = w->props.raw_bytes;
  meta->min_lsn = w->props.min_lsn;
  meta->max_lsn = w->props.max_lsn;
  meta->min_key = skv_buf_bytes(&w->min_key);
  meta->max_key = skv_buf_bytes(&w->last_key);
  return STRATAKV_OK;
}
