/*
 * Salvage: what verifies in a segment or a log, block by block, record by
 * record. See salvage.h.
 */
#include <inttypes.h>
#include <stdio.h>

#include "engine/db/salvage.h"
#include "engine/seg/seg_scan.h"
#include "engine/wal/batch.h"

#define SALVAGE_LSN_MOST (UINT64_C(1) << 62) /* more was never written */

static int salvage_add(skv_salvage *s, const skv_entry *entry, skv_err *err) {
  uint32_t table = (uint32_t)entry->key.data[0] << 8 | entry->key.data[1];
  s->tables[table / 8] |= (uint8_t)(1u << (table % 8));
  return skv_sorter_add(&s->sorter, entry, err);
}

static bool salvage_is_sane(const skv_entry *entry) {
  return entry->key.size >= SKV_TABLE_PREFIX &&
         entry->key.size <= SKV_TABLE_PREFIX + STRATAKV_MAX_KEY &&
         entry->value.size <= STRATAKV_MAX_VALUE &&
         (entry->key.data[0] | entry->key.data[1]) != 0 &&
         entry->lsn < SALVAGE_LSN_MOST;
}

/* ---- Segments ------------------------------------------------------------ */

typedef struct seg_source {
  skv_salvage *s;
  const char *name;
  skv_salvage_ref ref;
  bool is_known; /* ref says which segment it is */
  bool doubted;  /* said so already */
  skv_scan scan;
  skv_buf key;
  skv_scan_block gap; /* without an index: damage that is not told yet; what
                         NULL: none */
} seg_source;

/* Neighbouring damage, without an index: one finding for all of it. */
static int seg_gap(seg_source *source, skv_err *err) {
  char text[200];
  const skv_scan_block gap = source->gap;
  source->gap.what = NULL;
  if (!gap.what) return STRATAKV_OK;
  snprintf(text, sizeof text, "%s, up to offset %" PRIu64, gap.what, gap.end);
  return skv_salvage_damage(source->s, source->name, gap.offset, err, text);
}

/* A damaged block: which keys may be lost. */
static int seg_lost(seg_source *source, const skv_scan_block *b, skv_err *err) {
  char text[900], low[360] = "the first", high[360];
  if (!source->scan.has_index) {
    if (!source->gap.what) source->gap = *b;
    source->gap.end = b->end;
    return STRATAKV_OK;
  }
  if (b->number > 0) {
    skv_scan_separator(&source->scan, b->number - 1, &source->key);
    skv_key_text(skv_buf_bytes(&source->key), low, sizeof low);
  }
  skv_scan_separator(&source->scan, b->number, &source->key);
  skv_key_text(skv_buf_bytes(&source->key), high, sizeof high);
  if (source->key.rc != STRATAKV_OK) return skv_error_nomem(err);
  snprintf(text, sizeof text, "%s; lost: entries behind %s up to %s", b->what,
           low, high);
  return skv_salvage_damage(source->s, source->name, b->offset, err, text);
}

static int seg_take(seg_source *source, skv_entry *entry, uint64_t at,
                    skv_err *err) {
  if (source->ref.ingest_lsn != 0) entry->lsn = source->ref.ingest_lsn;
  if (entry->lsn == 0 && !source->is_known && !source->doubted) {
    source->doubted = true;
    int rc = skv_salvage_damage(source->s, source->name, at, err,
                                "the commit of these entries is lost: they "
                                "count as older than all others");
    if (rc != STRATAKV_OK) return rc;
  }
  if (skv_compare(entry->key, source->ref.trim) < 0) return STRATAKV_OK;
  if (!salvage_is_sane(entry))
    return skv_salvage_damage(source->s, source->name, at, err,
                              "an entry that cannot be");
  return salvage_add(source->s, entry, err);
}

static int seg_take_block(seg_source *source, const skv_scan_block *b,
                          skv_err *err) {
  if (b->what) return seg_lost(source, b, err);
  int rc = seg_gap(source, err);
  for (uint32_t slot = 0; rc == STRATAKV_OK && slot < b->block.n; slot++) {
    skv_entry entry;
    if (!skv_scan_entry(&b->block, slot, &source->key, &entry))
      return skv_salvage_damage(source->s, source->name, b->offset, err,
                                "malformed entry");
    if (source->key.rc != STRATAKV_OK) return skv_error_nomem(err);
    rc = seg_take(source, &entry, b->offset, err);
  }
  return rc;
}

/* Another segment stands under this name: it is taken as what it is, if the
 * manifest knows it, and else not at all: it is of another store or time. */
static bool seg_is_taken(seg_source *source) {
  const skv_scan *scan = &source->scan;
  return !scan->is_other ||
         skv_salvage_find(source->s, scan->seg.footer.uid, true, &source->ref);
}

static int seg_take_all(seg_source *source, skv_err *err) {
  bool more = seg_is_taken(source);
  int rc = STRATAKV_OK;
  for (int i = 0; rc == STRATAKV_OK && i < SKV_SCAN_PARTS; i++)
    if (source->scan.parts[i].what[0] != 0)
      rc = skv_salvage_damage(source->s, source->name,
                              source->scan.parts[i].offset, err,
                              source->scan.parts[i].what);
  if (rc == STRATAKV_OK && !source->scan.has_uid)
    rc = skv_salvage_damage(source->s, source->name, UINT64_MAX, err,
                            "nothing in this segment can be verified: none "
                            "of it is taken");
  while (rc == STRATAKV_OK && more) {
    skv_scan_block block;
    rc = skv_scan_next(&source->scan, err, &block, &more);
    if (rc == STRATAKV_OK && more) rc = seg_take_block(source, &block, err);
    if (rc == STRATAKV_OK && more)
      rc = skv_watcher_step(&source->s->watcher, block.end - block.offset, err);
  }
  return rc == STRATAKV_OK ? seg_gap(source, err) : rc;
}

int skv_salvage_seg(skv_salvage *s, const char *name,
                    const skv_salvage_ref *ref, skv_err *err) {
  seg_source source = {.s = s, .name = name, .is_known = ref != NULL};
  if (ref) source.ref = *ref;
  skv_err why = {0};
  skv_in *in = NULL;
  int rc = skv_in_open_name(s->from, name, false, &why, &in);
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  if (rc == STRATAKV_NOTFOUND) return rc;
  if (rc != STRATAKV_OK)
    return skv_salvage_damage(s, name, UINT64_MAX, err, why.message);
  rc = skv_scan_open(in, ref ? &ref->uid : NULL, skv_watcher_pause(&s->watcher),
                     err, &source.scan);
  if (rc == STRATAKV_OK) {
    rc = seg_take_all(&source, err);
    skv_scan_close(&source.scan);
  }
  skv_in_close(in);
  skv_buf_clear(&source.key);
  return rc;
}

/* ---- Logs ---------------------------------------------------------------- */

typedef struct log_source {
  skv_salvage *s;
  char name[SKV_NAME_SIZE];
  const uint8_t *bytes;
  uint64_t limit; /* of what is looked at, within the file */
  uint64_t end;   /* where the manifest says it ends, 0: not known; a file that
                     was cut ends before */
  uint64_t least; /* nothing below this may be missing; likewise */
  skv_wal_header header;
  skv_wal_place place;
  skv_seek seek;
  uint64_t gap;  /* where damage begins that is not told yet; 0: none */
  bool told_end; /* that it is missing */
  bool ingests_only;
} log_source;

static int log_batch(log_source *source, const skv_wal_record *r,
                     skv_err *err) {
  const uint8_t *p = r->payload.data, *end = p + r->payload.size;
  int rc = STRATAKV_OK;
  uint64_t count;
  if (!skv_batch_check(r->payload, &count))
    return skv_salvage_damage(source->s, source->name, r->offset, err,
                              "malformed batch");
  while (rc == STRATAKV_OK && p < end) {
    skv_entry entry = {.lsn = skv_wal_lsn(source->header.start, r->offset)};
    p = skv_entry_get(p, end, &entry, NULL);
    rc = salvage_is_sane(&entry)
             ? salvage_add(source->s, &entry, err)
             : skv_salvage_damage(source->s, source->name, r->offset, err,
                                  "an entry that cannot be");
  }
  return rc;
}

/* Whether the record behind this one aborts it. */
static bool log_is_aborted(const log_source *source, const skv_wal_record *r) {
  skv_wal_place place = source->place;
  skv_wal_record next;
  return skv_wal_read(source->bytes, source->limit, true, &place, &next) &&
         next.type == SKV_RECORD_ABORT &&
         skv_get64(next.payload.data) ==
             skv_wal_lsn(source->header.start, r->offset);
}

/* A segment of an INGEST, under its temporary name or its number. */
static int log_ingested(skv_salvage *s, const skv_salvage_ref *ref,
                        const skv_name *tmp, skv_err *err) {
  skv_name name = {.kind = SKV_NAME_SEG, .number = ref->number};
  char text[SKV_NAME_SIZE];
  skv_name_format(tmp, text);
  int rc = skv_salvage_seg(s, text, ref, err);
  if (rc != STRATAKV_NOTFOUND) return rc;
  skv_name_format(&name, text);
  rc = skv_salvage_seg(s, text, ref, err);
  if (rc != STRATAKV_NOTFOUND) return rc;
  return skv_salvage_damage(s, text, UINT64_MAX, err,
                            "a segment of a large transaction is missing");
}

/* An INGEST: what the manifest does not name yet is read, unless every segment
 * of the directory is; at first it is only noted. */
static int log_ingest(log_source *source, const skv_wal_record *r,
                      skv_err *err) {
  skv_salvage *s = source->s;
  skv_products products = {0};
  uint64_t first, lsn = skv_wal_lsn(source->header.start, r->offset);
  int rc = skv_ingest_read(r->payload, NULL, &first, &products);
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  if (rc != STRATAKV_OK) {
    skv_free(products.list);
    return skv_salvage_damage(s, source->name, r->offset, err,
                              "INGEST does not decode");
  }
  for (size_t i = 0; rc == STRATAKV_OK && i < products.count; i++) {
    const skv_product *p = &products.list[i];
    skv_salvage_ref ref = {first + i, p->meta.uid, lsn, {NULL, 0}}, named;
    if (source->ingests_only)
      skv_buf_append(&s->ingests, &ref, sizeof ref);
    else if (!skv_salvage_find(s, ref.number, false, &named) &&
             (s->is_whole || !skv_salvage_has_seg(s, ref.number)))
      rc = log_ingested(s, &ref, &p->tmp, err);
  }
  skv_free(products.list);
  if (s->ingests.rc != STRATAKV_OK) return skv_error_nomem(err);
  return rc;
}

static int log_take(log_source *source, const skv_wal_record *r, skv_err *err) {
  bool has_batch =
      r->type == SKV_RECORD_COMMIT || r->type == SKV_RECORD_PREPARE;
  if (r->type != SKV_RECORD_COMMIT && log_is_aborted(source, r))
    return STRATAKV_OK;
  if (r->type == SKV_RECORD_INGEST) return log_ingest(source, r, err);
  if (!has_batch || source->ingests_only) return STRATAKV_OK;
  return log_batch(source, r, err);
}

/* Up to where there must be records, as far as that is known; else how far it
 * was looked for them. */
static uint64_t log_must_end(const log_source *source, bool tried) {
  if (source->end > 0) return source->end;
  if (source->least > source->limit || (source->least > 0 && tried))
    return source->least;
  return source->limit;
}

/* There was no record: damage up to the valid one at `to`, or (0) the end. */
static int log_gap(log_source *source, uint64_t to, skv_err *err) {
  char text[200];
  uint64_t from = source->gap;
  bool tried = source->seek.untried == 0;
  source->gap = source->seek.untried = 0;
  if (from == 0 || source->ingests_only) return STRATAKV_OK;
  if (to == 0 && source->end == 0 && tried && from >= source->least)
    return STRATAKV_OK;
  source->told_end = to == 0;
  if (to == 0) to = log_must_end(source, tried);
  snprintf(text, sizeof text, "records are lost up to offset %" PRIu64 "%s", to,
           tried ? ""
                 : ": more places there look like one than could be tried");
  return skv_salvage_damage(source->s, source->name, from, err, text);
}

/* The record that stands here; if there is none, go on to the next. */
static int log_next(log_source *source, bool *more, skv_err *err) {
  skv_wal_record record;
  uint64_t at = source->place.offset;
  if (!skv_wal_read(source->bytes, source->limit, true, &source->place,
                    &record)) {
    if (source->gap == 0) source->gap = at;
    return skv_wal_resume(source->bytes, source->limit, &source->seek, err,
                          &source->place, more);
  }
  int rc = log_gap(source, at, err);
  if (rc == STRATAKV_OK) rc = log_take(source, &record, err);
  *more = record.type != SKV_RECORD_SEAL;
  if (rc == STRATAKV_OK && *more && !source->ingests_only)
    rc = skv_watcher_step(&source->s->watcher, record.end - record.offset, err);
  return rc;
}

static int log_take_all(log_source *source, skv_err *err) {
  bool more = true;
  int rc = STRATAKV_OK;
  uint64_t end = log_must_end(source, false);
  source->seek = skv_seek_new(skv_watcher_pause(&source->s->watcher));
  while (rc == STRATAKV_OK && more && source->place.offset < end)
    rc = log_next(source, &more, err);
  return rc == STRATAKV_OK ? log_gap(source, 0, err) : rc;
}

/* The file is not as long as it was made, and that is not told yet. */
static int log_cut(log_source *source, const skv_wal_info *info, uint64_t size,
                   skv_err *err) {
  char text[200];
  if (!info || size >= info->size || source->told_end || source->ingests_only)
    return STRATAKV_OK;
  snprintf(text, sizeof text,
           "the file is cut off here, of %" PRIu64
           " bytes: records may be lost",
           info->size);
  return skv_salvage_damage(source->s, source->name, size, err, text);
}

/* Whether the header, which is valid, is of another store than the manifest. */
static bool log_is_foreign(const log_source *source) {
  return source->s->version != NULL &&
         memcmp(source->header.store_id, source->s->store_id, 16) != 0;
}

/* The header, or what the manifest knows of it; its start is 0 if neither can
 * be had. In the pass for ingests nothing is said: the other one does. */
static int log_header(log_source *source, const skv_wal_info *info,
                      uint64_t size, skv_err *err) {
  skv_err why = {0};
  skv_wal_header *header = &source->header;
  int rc =
      skv_wal_header_decode(source->bytes, size, source->name, &why, header);
  bool foreign = rc == STRATAKV_OK && log_is_foreign(source);
  if (rc == STRATAKV_OK && !foreign && info && !source->ingests_only &&
      (header->number != info->number || header->start != info->start))
    return skv_salvage_damage(source->s, source->name, 0, err,
                              "header of another log");
  if (rc == STRATAKV_OK && !foreign) return rc;
  memset(header, 0, sizeof *header);
  if (source->ingests_only) return STRATAKV_OK;
  rc = skv_salvage_damage(source->s, source->name, 0, err,
                          foreign ? "a log of another store: not taken"
                                  : why.message);
  if (rc != STRATAKV_OK || foreign || !info) return rc;
  memcpy(header->store_id, source->s->store_id, 16);
  header->number = info->number;
  header->start = info->start;
  if (size >= SKV_WAL_HEADER + SKV_RECORD_HEADER) /* the first record's word */
    header->prev = skv_get32(source->bytes + SKV_WAL_HEADER + 16);
  return rc;
}

/* Where records begin to be ones that may be missing: behind a clean close, or
 * what SHARED says was synced. */
static uint64_t log_least(const skv_salvage *s, const skv_wal_info *info) {
  uint64_t lsn = s->version->clean;
  if (lsn == 0) lsn = skv_page_least(&s->page, info->start, info->size);
  return lsn > info->start ? skv_wal_offset(info->start, lsn) : 0;
}

static void log_begin(log_source *source, const skv_wal_info *info,
                      uint64_t size) {
  const skv_wal_header *header = &source->header;
  if (info && info->end != 0 && info->start == header->start)
    source->end = skv_wal_offset(header->start, info->end);
  else if (info && info->start == header->start)
    source->least = log_least(source->s, info);
  source->limit = size;
  if (source->end != 0 && source->end < size) source->limit = source->end;
  source->place =
      (skv_wal_place){skv_wal_seed(header), SKV_WAL_HEADER, header->prev, 0};
}

int skv_salvage_log(skv_salvage *s, uint64_t number, const skv_wal_info *info,
                    bool ingests_only, skv_err *err) {
  log_source source = {.s = s, .ingests_only = ingests_only};
  skv_name name = {.kind = SKV_NAME_WAL, .number = number};
  skv_err why = {0};
  skv_in *in = NULL;
  skv_name_format(&name, source.name);
  int rc = skv_in_open_name(s->from, source.name, true, &why, &in);
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  if (rc != STRATAKV_OK)
    return ingests_only ? STRATAKV_OK
                        : skv_salvage_damage(s, source.name, UINT64_MAX, err,
                                             why.message);
  source.bytes = skv_in_map(in);
  if (skv_in_size(in) > 0)
    rc = log_header(&source, info, skv_in_size(in), err);
  else if (!ingests_only)
    rc = skv_salvage_damage(s, source.name, 0, err, "empty");
  if (rc == STRATAKV_OK && source.header.start != 0) {
    log_begin(&source, info, skv_in_size(in));
    rc = log_take_all(&source, err);
    if (rc == STRATAKV_OK) rc = log_cut(&source, info, skv_in_size(in), err);
  }
  skv_in_close(in);
  return rc;
}
