/*
 * INGEST: the commit of a transaction that was too large for the log.
 *
 * PAYLOAD  first file number, n (varints), then for each segment, ascending by
 *   key: slot, incarnation, count of its unnamed file; uid, size,
 *   entries, tombstones, raw bytes (varints); min key, max key (slices). Their
 *   entries have no LSN of their own: the run's is the INGEST record's. The n
 *   file numbers were reserved by an edit before, so that finishing may be
 *   repeated whatever else took numbers in between.
 *
 * The record makes the transaction durable; one edit then names its segments,
 * ends the log and begins the next (P5). Whoever takes WRITE after a death in
 * between, or recovers, does the same from the record.
 *
 * UNNAMED  That edit may fail, and the transaction is committed all the same.
 *   Then the shared page says where the record stands, and each process reads
 *   the segments that it describes under the names that they have
 *   (skv_ingest_state), until someone who takes WRITE has named them. In a
 *   fenced store that is the next one who opens it.
 */
#include "engine/db/db.h"
#include "engine/util/point.h"

typedef struct ingest_reserve {
  uint64_t count;
  uint64_t first;
} ingest_reserve;

static int ingest_reserve_build(void *arg, const skv_version *version,
                                skv_buf *edit, skv_err *err) {
  ingest_reserve *reserve = arg;
  SKV_UNUSED(err);
  reserve->first = version->next_file;
  skv_edit_next(edit, reserve->first + reserve->count);
  return STRATAKV_OK;
}

static void ingest_encode(const skv_products *products, uint64_t first,
                          skv_buf *payload) {
  skv_buf_varint(payload, first);
  skv_buf_varint(payload, products->count);
  for (size_t i = 0; i < products->count; i++) {
    const skv_product *p = &products->list[i];
    skv_buf_varint(payload, p->tmp.slot);
    skv_buf_varint(payload, p->tmp.incarnation);
    skv_buf_varint(payload, p->tmp.number);
    skv_buf_varint(payload, p->meta.uid);
    skv_buf_varint(payload, p->meta.size);
    skv_buf_varint(payload, p->meta.entries);
    skv_buf_varint(payload, p->meta.tombstones);
    skv_buf_varint(payload, p->meta.raw_bytes);
    skv_buf_slice(payload, p->meta.min_key);
    skv_buf_slice(payload, p->meta.max_key);
  }
}

int skv_ingest_encode(skv_db *db, const skv_products *products,
                      skv_buf *payload, skv_err *err) {
  ingest_reserve reserve = {products->count, 0};
  int rc = skv_head_edit(db, ingest_reserve_build, &reserve, err);
  if (rc != STRATAKV_OK) return rc;
  SKV_POINT("ingest.reserved");
  ingest_encode(products, reserve.first, payload);
  return payload->rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
}

static const uint8_t *ingest_decode_one(const uint8_t *p, const uint8_t *end,
                                        skv_product *out) {
  uint64_t v[8];
  for (int i = 0; i < 8 && p; i++) p = skv_varint_get(p, end, &v[i]);
  if (!p || v[0] > 0xff || v[1] > UINT32_MAX) return NULL;
  out->tmp = (skv_name){SKV_NAME_TMP, v[2], (uint32_t)v[0], (uint32_t)v[1]};
  out->meta = (skv_seg_meta){.uid = v[3],
                             .size = v[4],
                             .entries = v[5],
                             .tombstones = v[6],
                             .raw_bytes = v[7]};
  p = skv_slice_get(p, end, &out->meta.min_key);
  return p ? skv_slice_get(p, end, &out->meta.max_key) : NULL;
}

/* keys borrow from the payload. */
static int ingest_decode(skv_slice payload, skv_err *err, uint64_t *first,
                         skv_products *out) {
  const uint8_t *p = payload.data, *end = payload.data + payload.size;
  uint64_t n = 0;
  p = skv_varint_get(p, end, first);
  if (p) p = skv_varint_get(p, end, &n);
  if (p && n <= payload.size) {
    out->list = skv_calloc(n ? n : 1, sizeof *out->list);
    if (!out->list) return skv_error_nomem(err);
    out->capacity = n;
    for (uint64_t i = 0; i < n && p; i++) {
      p = ingest_decode_one(p, end, &out->list[i]);
      out->count = i + 1;
    }
  }
  if (p == end) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_CORRUPT, "INGEST record does not decode");
}

int skv_ingest_read(skv_slice payload, skv_err *err, uint64_t *first,
                    skv_products *products) {
  return ingest_decode(payload, err, first, products);
}

bool skv_ingest_check(skv_slice payload) {
  skv_products products = {0};
  uint64_t first;
  int rc = ingest_decode(payload, NULL, &first, &products);
  skv_free(products.list);
  return rc != STRATAKV_CORRUPT;
}

int skv_ingest_seek(skv_db *db, skv_slice payload, skv_err *err) {
  skv_products products = {0};
  uint64_t first;
  int rc = ingest_decode(payload, err, &first, &products);
  for (size_t i = 0; rc == STRATAKV_OK && i < products.count; i++) {
    const skv_product *p = &products.list[i];
    skv_in *in = NULL;
    rc = skv_in_open(db->store, 0, &p->tmp, p->meta.size, false, err, &in);
    if (rc == STRATAKV_NOTFOUND)
      rc = skv_in_open(db->store, first + i, NULL, p->meta.size, false, err,
                       &in);
    skv_in_close(in);
  }
  skv_free(products.list);
  return rc;
}

typedef struct ingest_turn {
  skv_db *db;
  skv_products products;
  uint64_t first; /* file number */
  uint64_t lsn;
} ingest_turn;

static int ingest_build(void *arg, const skv_version *version, skv_buf *edit,
                        skv_err *err) {
  ingest_turn *turn = arg;
  for (size_t i = 0; i < version->run_count; i++)
    if (version->runs[i].id == turn->lsn) return STRATAKV_OK; /* done before */
  uint64_t next = turn->first;
  SKV_POINT("ingest.naming");
  for (size_t i = 0; i < turn->products.count; i++) {
    turn->products.list[i].meta.min_lsn = turn->lsn;
    turn->products.list[i].meta.max_lsn = turn->lsn;
  }
  return skv_head_name(turn->db, &turn->products, 0, turn->lsn, turn->lsn,
                       &next, edit, err);
}

/* The edit that names them, but for what a version need not know yet. */
static int ingest_describe(const skv_products *products, uint64_t first,
                           uint64_t lsn, skv_buf *edit, skv_err *err) {
  for (size_t i = 0; i < products->count; i++) {
    skv_seg_meta meta = products->list[i].meta;
    meta.min_lsn = meta.max_lsn = lsn;
    skv_edit_seg(edit, first + i, 0, lsn, lsn, &meta, skv_slice_of(NULL, 0));
  }
  return edit->rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
}

int skv_ingest_finish(skv_db *db, skv_slice payload, uint64_t lsn,
                      skv_err *err) {
  ingest_turn turn = {.db = db, .lsn = lsn};
  int rc = ingest_decode(payload, err, &turn.first, &turn.products);
  if (rc == STRATAKV_OK) rc = skv_rotate(db, 0, ingest_build, &turn, err);
  skv_free(turn.products.list); /* keys are borrowed */
  return rc;
}

/* ---- Committed, and not named -------------------------------------------- */

void skv_ingest_leave(skv_db *db, skv_slice payload, uint64_t lsn) {
  skv_store_word(&db->shared->ingest, lsn);
  SKV_POINT("ingest.left");
  skv_raise(&db->shared->visible, lsn + skv_record_space(payload.size));
}

uint64_t skv_ingest_unnamed(const skv_db *db, const skv_state *state) {
  uint64_t lsn = skv_load(&db->shared->ingest);
  return lsn >= state->logs[state->log_count - 1]->start ? lsn : 0;
}

/* The record at `lsn`; the page is untrusted. */
static int ingest_find(const skv_memlog *log, uint64_t lsn, skv_err *err,
                       skv_wal_record *record) {
  const uint8_t *bytes = skv_log_bytes(log->log);
  uint64_t size = skv_log_size(log->log);
  uint64_t offset = skv_wal_offset(log->start, lsn);
  skv_wal_place place = {.seed = skv_wal_seed(&log->header)};
  if (lsn % 8 == 0 && lsn - log->start < size &&
      skv_wal_find(bytes, size, offset, &place) &&
      skv_wal_read(bytes, size, false, &place, record) && /* just verified */
      record->type == SKV_RECORD_INGEST)
    return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_CORRUPT, "SHARED: LSN %llu is no INGEST's",
                   (unsigned long long)lsn);
}

static const skv_name *ingest_name(void *arg, uint64_t number) {
  const ingest_turn *turn = arg;
  uint64_t i = number - turn->first;
  return i < turn->products.count ? &turn->products.list[i].tmp : NULL;
}

/* `base` with the segments of the INGEST at `lsn`. head_mutex held. */
static int ingest_state_make(skv_db *db, skv_state *base, uint64_t lsn,
                             skv_err *err, skv_state **out) {
  ingest_turn turn = {.db = db, .lsn = lsn};
  skv_tree tree = db->tree;
  skv_version *version = NULL;
  skv_wal_record record;
  skv_buf edit = {0};
  int rc = ingest_find(base->logs[base->log_count - 1], lsn, err, &record);
  if (rc == STRATAKV_OK)
    rc = ingest_decode(record.payload, err, &turn.first, &turn.products);
  if (rc == STRATAKV_OK)
    rc = ingest_describe(&turn.products, turn.first, lsn, &edit, err);
  tree.unnamed = ingest_name;
  tree.arg = &turn;
  if (rc == STRATAKV_OK)
    rc = skv_version_apply(&tree, base->version, skv_buf_bytes(&edit),
                           base->version->pos, true, err, &version);
  if (rc == STRATAKV_OK) rc = skv_state_make(db, version, err, out);
  if (rc == STRATAKV_OK) (*out)->named = skv_state_share(base);
  skv_free(turn.products.list); /* keys are borrowed */
  skv_buf_clear(&edit);
  return rc;
}

int skv_ingest_state(skv_db *db, skv_state *base, uint64_t lsn, skv_err *err,
                     skv_state **out) {
  int rc = STRATAKV_OK;
  skv_mutex_lock(&db->head_mutex);
  if (!db->unnamed || db->unnamed->named != base || db->unnamed_lsn != lsn) {
    skv_state *state = NULL;
    rc = ingest_state_make(db, base, lsn, err, &state);
    if (rc == STRATAKV_OK) {
      skv_state_unref(db->unnamed);
      db->unnamed = state;
      db->unnamed_lsn = lsn;
    }
  }
  *out = rc == STRATAKV_OK ? skv_state_share(db->unnamed) : NULL;
  skv_mutex_unlock(&db->head_mutex);
  return rc;
}

void skv_ingest_forget(skv_db *db) {
  skv_state_unref(db->unnamed);
  db->unnamed = NULL;
}
