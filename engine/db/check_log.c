/*
 * Check: one unflushed log, up to what the view sees. See check.h.
 *
 * The log is mapped anew by its name: the mapping shows what is in the file
 * now, and every checksum is computed again.
 */
#include <stdio.h>

#include "engine/db/check.h"
#include "engine/wal/batch.h"

typedef struct log_walk {
  skv_check *check;
  const skv_memlog *log;
  char name[SKV_NAME_SIZE];
  const uint8_t *bytes;
  uint64_t limit;
  skv_wal_place place;
  skv_wal_record last; /* type 0: none */
  skv_seek seek;
  uint64_t gap; /* where damage begins that is not told yet; 0: none */
} log_walk;

static int log_damage(log_walk *walk, uint64_t at, skv_err *err,
                      const char *text) {
  return skv_check_damage(walk->check, walk->name, at, err, text);
}

static bool log_has_table(const skv_version *version, skv_slice key) {
  uint32_t id = (uint32_t)key.data[0] << 8 | key.data[1];
  size_t low = 0, high = version->table_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (version->tables[middle].id < id)
      low = middle + 1;
    else
      high = middle;
  }
  return low < version->table_count && version->tables[low].id == id;
}

/* Entries decode, and are of tables that exist. */
static const char *log_batch(const log_walk *walk, skv_slice batch) {
  const skv_version *version = walk->check->view.state->version;
  const uint8_t *p = batch.data, *end = p + batch.size;
  uint64_t count;
  skv_entry entry;
  if (!skv_batch_check(batch, &count)) return "malformed batch";
  while (p < end) {
    p = skv_entry_get(p, end, &entry, NULL);
    if (entry.key.size > SKV_TABLE_PREFIX + STRATAKV_MAX_KEY)
      return "key too long";
    if (!log_has_table(version, entry.key)) return "entry of no table";
  }
  return NULL;
}

/* What a record's payload and place say against it. */
static const char *log_record(const log_walk *walk, const skv_wal_record *r) {
  uint64_t start = walk->log->start;
  if (r->durable > skv_wal_lsn(start, r->offset))
    return "durable before itself";
  if (walk->last.type == SKV_RECORD_SEAL) return "record behind SEAL";
  if (walk->last.type == SKV_RECORD_INGEST && r->type != SKV_RECORD_SEAL &&
      r->type != SKV_RECORD_ABORT)
    return "INGEST is not followed by SEAL";
  if (r->type == SKV_RECORD_INGEST)
    return skv_ingest_check(r->payload) ? NULL : "INGEST does not decode";
  if (r->type == SKV_RECORD_ABORT) {
    if (walk->last.type != SKV_RECORD_PREPARE &&
        walk->last.type != SKV_RECORD_INGEST)
      return "ABORT of nothing";
    if (skv_get64(r->payload.data) != skv_wal_lsn(start, walk->last.offset))
      return "ABORT of another record";
  }
  if (r->type == SKV_RECORD_COMMIT || r->type == SKV_RECORD_PREPARE)
    return log_batch(walk, r->payload);
  return NULL;
}

/* Damage ends at a valid record, or at the end: one finding for all of it. */
static int log_gap(log_walk *walk, skv_err *err) {
  uint64_t from = walk->gap;
  const char *what = "invalid record";
  if (walk->seek.untried > 0)
    what = "invalid record, and behind it too many places that look like one "
           "to try them all";
  walk->gap = walk->seek.untried = 0;
  return from == 0 ? STRATAKV_OK : log_damage(walk, from, err, what);
}

static int log_next(log_walk *walk, bool *more, skv_err *err) {
  skv_wal_record record;
  uint64_t at = walk->place.offset;
  if (skv_wal_read(walk->bytes, walk->limit, true, &walk->place, &record)) {
    int rc = log_gap(walk, err);
    const char *what = log_record(walk, &record);
    if (rc == STRATAKV_OK && what) rc = log_damage(walk, at, err, what);
    walk->last = record;
    return rc;
  }
  if (walk->gap == 0) walk->gap = at;
  walk->last.type = 0;
  return skv_wal_resume(walk->bytes, walk->limit, &walk->seek, err,
                        &walk->place, more);
}

static int log_records(log_walk *walk, skv_err *err) {
  int rc = STRATAKV_OK;
  bool more = true;
  walk->seek = skv_seek_new(skv_watcher_pause(&walk->check->watcher));
  while (rc == STRATAKV_OK && more && walk->place.offset < walk->limit) {
    uint64_t at = walk->place.offset;
    rc = log_next(walk, &more, err);
    if (rc == STRATAKV_OK)
      rc =
          skv_watcher_step(&walk->check->watcher, walk->place.offset - at, err);
  }
  return rc == STRATAKV_OK ? log_gap(walk, err) : rc;
}

/* A log that recovery ended has no SEAL, and perhaps something behind it. */
static int log_end(log_walk *walk, uint64_t size, skv_err *err) {
  static const uint8_t zeros[SKV_RECORD_HEADER];
  if (skv_peek(&walk->log->end) == 0 || walk->last.type == SKV_RECORD_SEAL ||
      size - walk->limit < sizeof zeros ||
      memcmp(walk->bytes + walk->limit, zeros, sizeof zeros) == 0)
    return STRATAKV_OK;
  return skv_check_note(walk->check, walk->name, walk->limit, err,
                        "recovery ended this log here, before bytes that are "
                        "no whole record of it");
}

static int log_walk_all(log_walk *walk, uint64_t size, skv_err *err) {
  skv_wal_header header;
  skv_err why = {0};
  const skv_memlog *log = walk->log;
  if (size != skv_log_size(log->log))
    return log_damage(walk, UINT64_MAX, err, "wrong size");
  int rc = skv_wal_header_decode(walk->bytes, size, walk->name, &why, &header);
  if (rc != STRATAKV_OK || header.number != log->number ||
      header.start != log->start || header.prev != log->header.prev ||
      memcmp(header.store_id, walk->check->db->store_id, 16) != 0)
    rc = log_damage(walk, 0, err,
                    rc != STRATAKV_OK ? why.message : "header of another log");
  walk->place = (skv_wal_place){skv_wal_seed(&log->header), SKV_WAL_HEADER,
                                log->header.prev, 0};
  if (rc == STRATAKV_OK) rc = log_records(walk, err);
  return rc == STRATAKV_OK ? log_end(walk, size, err) : rc;
}

int skv_check_log(skv_check *check, size_t i, skv_err *err) {
  const skv_memlog *log = check->view.state->logs[i];
  log_walk walk = {.check = check, .log = log};
  skv_name name = {.kind = SKV_NAME_WAL, .number = log->number};
  skv_log *own = NULL;
  skv_err why = {0};
  skv_name_format(&name, walk.name);
  walk.limit = skv_memlog_limit(log, check->view.lsn);
  int rc = skv_log_open(check->db->store, log->number, false, &why, &own);
  if (rc == STRATAKV_NOTFOUND &&
      !skv_check_named(check, SKV_NAME_WAL, log->number))
    rc = STRATAKV_OK; /* flushed and gone: the view still maps it */
  else if (rc != STRATAKV_OK)
    return skv_check_failed(check, walk.name, rc, &why, err);
  walk.bytes = skv_log_bytes(own ? own : log->log);
  rc = log_walk_all(&walk, skv_log_size(own ? own : log->log), err);
  skv_log_close(own);
  return rc;
}
