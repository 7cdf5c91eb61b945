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

int skv_ingest_finish(skv_db *db, skv_slice payload, uint64_t lsn,
                      skv_err *err) {
  ingest_turn turn = {.db = db, .lsn = lsn};
  int rc = ingest_decode(payload, err, &turn.first, &turn.products);
  if (rc == STRATAKV_OK) rc = skv_rotate(db, 0, ingest_build, &turn, err);
  skv_free(turn.products.list); /* keys are borrowed */
  return rc;
}
