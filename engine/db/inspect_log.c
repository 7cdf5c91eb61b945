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

typedef struct log_lines {
  skv_inspect *inspect;
  const uint8_t *bytes;
  uint64_t size;
  skv_wal_header header;
  skv_wal_place place;
  skv_seek seek, proofs; /* for records, and for what was synced */
  skv_wal_place gap;     /* what is no record, and not told; offset 0: none */
  bool proof;            /* it had been synced */
  bool no_proof;         /* behind the last gap there was none, not even of */
  uint32_t epoch;        /* this epoch; so there is none behind later ones */
} log_lines;

/* Over the file: damaged places that nothing proves to have been synced are
 * few. */
#define LOG_PROOF_PASSES 64u

#define LOG_UNTRIED ": more places there look like one than could be tried"

/* Something that is no record: the end, damage, or what was never finished;
 * up to a record at `to`, or (0) the end. */
static int inspect_log_gap(log_lines *lines, uint64_t to, skv_err *err) {
  uint64_t from = lines->gap.offset;
  skv_inspect *inspect = lines->inspect;
  bool untried =
      lines->seek.untried > 0 || (!lines->proof && lines->proofs.untried > 0);
  bool proof = lines->proof;
  lines->gap.offset = lines->seek.untried = lines->proofs.untried = 0;
  lines->proof = false;
  if (from == 0) return STRATAKV_OK;
  if (proof)
    return skv_inspect_damage(inspect, from, err,
                              "record before a synced one is damaged");
  if (to == 0 && untried)
    return skv_inspect_damage(inspect, from, err,
                              "no record found from here on" LOG_UNTRIED);
  if (to == 0)
    return skv_inspect_line(inspect, err,
                            "at %" PRIu64 "  lsn %" PRIu64
                            "  end: no valid record from here on",
                            from, skv_wal_lsn(lines->header.start, from));
  return skv_inspect_line(
      inspect, err, "at %" PRIu64 "  no record up to %" PRIu64 "%s", from, to,
      untried ? LOG_UNTRIED : ", and what follows was not synced after it");
}

/* A gap begins here: whether it had been synced. */
static int inspect_log_proof(log_lines *lines, skv_err *err) {
  skv_seek *seek = &lines->proofs;
  lines->gap = lines->place;
  if (lines->no_proof && lines->place.epoch >= lines->epoch) return STRATAKV_OK;
  if (seek->passed / LOG_PROOF_PASSES > lines->size) {
    seek->untried++;
    return STRATAKV_OK;
  }
  int rc = skv_wal_seek_proof(lines->bytes, lines->size, lines->header.start,
                              &lines->place, seek, err, &lines->proof);
  lines->no_proof = !lines->proof && seek->untried == 0;
  lines->epoch = lines->place.epoch;
  return rc;
}

static int inspect_log_next(log_lines *lines, bool *more, skv_err *err) {
  skv_wal_record record;
  if (skv_wal_read(lines->bytes, lines->size, true, &lines->place, &record)) {
    int rc = inspect_log_gap(lines, record.offset, err);
    if (rc == STRATAKV_OK)
      rc = inspect_record(lines->inspect, &lines->header, &record, err);
    return rc;
  }
  int rc = STRATAKV_OK;
  if (lines->gap.offset == 0) rc = inspect_log_proof(lines, err);
  if (rc != STRATAKV_OK) return rc;
  return skv_wal_resume(lines->bytes, lines->size, &lines->seek, err,
                        &lines->place, more);
}

int skv_inspect_log(skv_inspect *inspect, skv_err *err) {
  log_lines lines = {.inspect = inspect,
                     .bytes = skv_in_map(inspect->in),
                     .size = skv_in_size(inspect->in),
                     .seek = skv_seek_new(skv_inspect_pause(inspect)),
                     .proofs = skv_seek_new(skv_inspect_pause(inspect))};
  skv_wal_header *header = &lines.header;
  skv_err why = {0};
  bool more = true;
  int rc = skv_wal_header_decode(lines.bytes, lines.size, inspect->name, &why,
                                 header);
  if (rc != STRATAKV_OK)
    return skv_inspect_damage(inspect, 0, err, why.message);
  rc =
      skv_inspect_line(inspect, err,
                       "log %" PRIu64 "  %" PRIu64 " bytes  start lsn %" PRIu64
                       "  prev %08" PRIx32 "  header checksum ok",
                       header->number, lines.size, header->start, header->prev);
  lines.place =
      (skv_wal_place){skv_wal_seed(header), SKV_WAL_HEADER, header->prev, 0};
  while (rc == STRATAKV_OK && more && lines.place.offset < lines.size)
    rc = inspect_log_next(&lines, &more, err);
  return rc == STRATAKV_OK ? inspect_log_gap(&lines, 0, err) : rc;
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
                                uint64_t to, bool is_last, skv_seek *seek,
                                skv_err *err) {
  bool untried = seek->untried > 0;
  seek->untried = 0;
  if (untried)
    return skv_inspect_damage(inspect, from, err,
                              "invalid edit, and behind it too many places "
                              "that look like one to try them all");
  if (!is_last || from == SKV_MANIFEST_HEADER)
    return skv_inspect_damage(inspect, from, err, "invalid edit");
  return skv_inspect_line(inspect, err,
                          "at %" PRIu64 "  %" PRIu64
                          " bytes that are no valid edit: not finished, or "
                          "damaged",
                          from, to - from);
}

/* The edits of the manifest with that identity. */
static int inspect_edits(skv_inspect *inspect, const uint8_t id[16],
                         uint64_t file, skv_err *err) {
  const uint8_t *bytes = skv_in_map(inspect->in);
  uint64_t size = skv_in_size(inspect->in);
  uint64_t at = SKV_MANIFEST_HEADER, chain = 0;
  skv_seek seek = skv_seek_new(skv_inspect_pause(inspect));
  int rc = STRATAKV_OK;
  while (rc == STRATAKV_OK && at < size) {
    skv_edit_info edit;
    if (!skv_manifest_edit_at(bytes, size, id, file, at, &edit)) {
      uint64_t gap = at;
      bool found;
      rc = skv_manifest_seek(bytes, size, id, file, &seek, err, &at, &edit,
                             &found);
      if (rc == STRATAKV_OK)
        rc = inspect_manifest_gap(inspect, gap, found ? at : size, !found,
                                  &seek, err);
      if (rc != STRATAKV_OK || !found) return rc;
      chain = edit.prev;
    }
    rc = inspect_edit(inspect, &edit, chain, err);
    chain = edit.checksum;
    at = edit.end;
  }
  return rc;
}

int skv_inspect_manifest(skv_inspect *inspect, skv_err *err) {
  uint64_t size = skv_in_size(inspect->in), file;
  uint8_t id[16];
  skv_err why = {0};
  int rc = skv_manifest_header(skv_in_map(inspect->in), size, inspect->name,
                               &why, id, &file);
  if (rc != STRATAKV_OK)
    return skv_inspect_damage(inspect, 0, err, why.message);
  rc = skv_inspect_line(inspect, err,
                        "manifest %" PRIu64 "  %" PRIu64
                        " bytes  header checksum ok",
                        file, size);
  if (rc == STRATAKV_OK) rc = inspect_edits(inspect, id, file, err);
  if (rc == STRATAKV_OK && size == SKV_MANIFEST_HEADER)
    rc = skv_inspect_damage(inspect, size, err, "no edit");
  return rc;
}
