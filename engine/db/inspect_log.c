/*
 * Describing logs and manifests, record by record. See inspect.h.
 */
#include <inttypes.h>

#include "engine/db/inspect.h"
#include "engine/wal/batch.h"

/* ---- Logs ---------------------------------------------------------------- */

static const char *record_name(uint8_t type) {
  static const char *const names[] = {"",      "COMMIT", "PREPARE",
                                      "ABORT", "INGEST", "SEAL"};
  return names[type];
}

static int record_entries(skv_inspect *inspect, skv_slice batch, uint64_t lsn,
                          skv_err *err) {
  const uint8_t *p = batch.data, *end = p + batch.size;
  int rc = STRATAKV_OK;
  while (rc == STRATAKV_OK && p < end) {
    skv_entry entry = {.lsn = lsn};
    p = skv_entry_get(p, end, &entry, NULL);
    rc = skv_inspect_entry(inspect, &entry, err);
  }
  return rc;
}

static int inspect_record(skv_inspect *inspect, const skv_wal_header *header,
                          const skv_wal_record *r, skv_err *err) {
  uint64_t lsn = skv_wal_lsn(header->start, r->offset), count = 0;
  bool has_batch =
      r->type == SKV_RECORD_COMMIT || r->type == SKV_RECORD_PREPARE;
  bool ok = !has_batch || skv_batch_check(r->payload, &count);
  int rc = skv_inspect_line(
      inspect, err,
      "at %" PRIu64 "  lsn %" PRIu64 "  %s  epoch %" PRIu32 "  payload %zu"
      "  durable %" PRIu64 "  entries %" PRIu64 "  checksum ok",
      r->offset, lsn, record_name(r->type), r->epoch, r->payload.size,
      r->durable, count);
  if (rc == STRATAKV_OK && !ok)
    return skv_inspect_damage(inspect, r->offset, err, "malformed batch");
  if (rc == STRATAKV_OK && has_batch && inspect->entries)
    rc = record_entries(inspect, r->payload, lsn, err);
  return rc;
}

/* Something that is no record: the end, damage, or what was never finished. */
static int inspect_log_gap(skv_inspect *inspect, const uint8_t *bytes,
                           uint64_t size, uint64_t start, skv_wal_place *place,
                           bool *more, skv_err *err) {
  skv_wal_place from = *place;
  uint64_t at;
  bool proof = skv_wal_proof_of_damage(bytes, size, start, &from, &at);
  *more = skv_wal_resume(bytes, size, place);
  if (proof)
    return skv_inspect_damage(inspect, from.offset, err,
                              "record before a synced one is damaged");
  if (!*more)
    return skv_inspect_line(inspect, err,
                            "at %" PRIu64 "  lsn %" PRIu64
                            "  end: no valid record from here on",
                            from.offset, skv_wal_lsn(start, from.offset));
  return skv_inspect_line(inspect, err,
                          "at %" PRIu64 "  no record up to %" PRIu64
                          ", and what follows was not synced after it",
                          from.offset, place->offset);
}

int skv_inspect_log(skv_inspect *inspect, skv_err *err) {
  const uint8_t *bytes = skv_in_map(inspect->in);
  uint64_t size = skv_in_size(inspect->in);
  skv_wal_header header;
  skv_wal_record record;
  skv_err why = {0};
  bool more = true;
  int rc = skv_wal_header_decode(bytes, size, inspect->name, &why, &header);
  if (rc != STRATAKV_OK)
    return skv_inspect_damage(inspect, 0, err, why.message);
  rc = skv_inspect_line(inspect, err,
                        "log %" PRIu64 "  %" PRIu64 " bytes  start lsn %" PRIu64
                        "  prev %08" PRIx32 "  header checksum ok",
                        header.number, size, header.start, header.prev);
  skv_wal_place place = {skv_wal_seed(&header), SKV_WAL_HEADER, header.prev, 0};
  while (rc == STRATAKV_OK && more && place.offset < size) {
    if (skv_wal_read(bytes, size, true, &place, &record))
      rc = inspect_record(inspect, &header, &record, err);
    else
      rc = inspect_log_gap(inspect, bytes, size, header.start, &place, &more,
                           err);
  }
  return rc;
}

/* ---- Manifests ----------------------------------------------------------- */

typedef struct operation_lines {
  skv_inspect *inspect;
  skv_err *err;
} operation_lines;

static int operation_line(void *arg, const char *line) {
  operation_lines *lines = arg;
  return skv_inspect_line(lines->inspect, lines->err, "    %s", line);
}

static int inspect_edit(skv_inspect *inspect, const skv_edit_info *edit,
                        uint64_t chain, skv_err *err) {
  operation_lines lines = {inspect, err};
  skv_err why = {0};
  bool fits = edit->prev == chain;
  int rc =
      skv_inspect_line(inspect, err,
                       "at %" PRIu64 "  edit of %zu  checksum ok  chain "
                       "%s%s",
                       edit->offset, edit->payload.size, fits ? "ok" : "BROKEN",
                       edit->is_padded ? "" : "  padding not zero");
  if (rc == STRATAKV_OK && (!fits || !edit->is_padded))
    rc = skv_inspect_damage(inspect, edit->offset, err,
                            fits ? "padding is not zero"
                                 : "edit of another chain");
  if (rc != STRATAKV_OK) return rc;
  rc = skv_edit_describe(edit->payload, operation_line, &lines, &why);
  if (rc == STRATAKV_CORRUPT)
    rc = skv_inspect_damage(inspect, edit->offset, err, why.message);
  return rc;
}

/* From a place without a valid edit to the next one, or the end. */
static int inspect_manifest_gap(skv_inspect *inspect, uint64_t from,
                                uint64_t to, bool is_last, skv_err *err) {
  if (!is_last || from == SKV_MANIFEST_HEADER)
    return skv_inspect_damage(inspect, from, err, "invalid edit");
  return skv_inspect_line(inspect, err,
                          "at %" PRIu64 "  %" PRIu64
                          " bytes that are no valid edit: not finished, or "
                          "damaged",
                          from, to - from);
}

int skv_inspect_manifest(skv_inspect *inspect, skv_err *err) {
  const uint8_t *bytes = skv_in_map(inspect->in);
  uint64_t size = skv_in_size(inspect->in), file;
  uint8_t id[16];
  skv_err why = {0};
  int rc = skv_manifest_header(bytes, size, inspect->name, &why, id, &file);
  if (rc != STRATAKV_OK)
    return skv_inspect_damage(inspect, 0, err, why.message);
  rc = skv_inspect_line(inspect, err,
                        "manifest %" PRIu64 "  %" PRIu64
                        " bytes  header checksum ok",
                        file, size);
  uint64_t at = SKV_MANIFEST_HEADER, chain = 0, gap = 0;
  while (rc == STRATAKV_OK && at < size) {
    skv_edit_info edit;
    if (!skv_manifest_edit_at(bytes, size, id, file, at, &edit)) {
      if (gap == 0) gap = at;
      at += 8;
      continue;
    }
    if (gap != 0) {
      rc = inspect_manifest_gap(inspect, gap, at, false, err);
      chain = edit.prev;
    }
    gap = 0;
    if (rc == STRATAKV_OK) rc = inspect_edit(inspect, &edit, chain, err);
    chain = edit.checksum;
    at = edit.end;
  }
  if (rc == STRATAKV_OK && gap != 0)
    rc = inspect_manifest_gap(inspect, gap, size, true, err);
  if (rc == STRATAKV_OK && size == SKV_MANIFEST_HEADER)
    rc = skv_inspect_damage(inspect, size, err, "no edit");
  return rc;
}
