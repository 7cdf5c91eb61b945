/*
 * Check: one segment, every byte of it. See check.h.
 */
#include "engine/db/check.h"
#include "engine/seg/seg_scan.h"

typedef struct seg_check {
  skv_check *check;
  const char *name;
} seg_check;

static int seg_damage(void *arg, uint64_t at, const char *what, skv_err *err) {
  const seg_check *c = arg;
  return skv_check_damage(c->check, c->name, at, err, what);
}

static int seg_step(void *arg, uint64_t bytes, skv_err *err) {
  const seg_check *c = arg;
  return skv_watcher_step(&c->check->watcher, bytes, err);
}

/* What the manifest says of it fits the commit that it is of, and the view. */
static int seg_lsn(seg_check *c, const skv_segref *ref, skv_err *err) {
  int rc = STRATAKV_OK;
  if (ref->ingest_lsn != 0 && (ref->meta.min_lsn != ref->ingest_lsn ||
                               ref->meta.max_lsn != ref->ingest_lsn))
    rc = seg_damage(c, UINT64_MAX, "LSN of another ingest", err);
  if (rc == STRATAKV_OK && skv_segref_max_lsn(ref) >= c->check->view.lsn)
    rc = seg_damage(c, UINT64_MAX, "holds what is not visible yet", err);
  return rc;
}

/* *own is NULL if it was merged and is gone: the view holds it open. One of an
 * INGEST may get its name between the look for the file and for the name. */
static int seg_open(skv_check *check, const skv_segref *ref, skv_err *why,
                    skv_in **own) {
  skv_store *store = check->db->store;
  int rc =
      skv_in_open(store, ref->number, NULL, ref->meta.size, false, why, own);
  if (rc != STRATAKV_NOTFOUND) return rc;
  if (!skv_check_named(check, SKV_NAME_SEG, ref->number)) return STRATAKV_OK;
  return skv_in_open(store, ref->number, NULL, ref->meta.size, false, why, own);
}

int skv_check_seg(skv_check *check, skv_segref *ref, skv_err *err) {
  skv_name name = {.kind = SKV_NAME_SEG, .number = ref->number};
  char text[SKV_NAME_SIZE];
  skv_in *own = NULL;
  skv_err why = {0};
  skv_name_format(&name, text);
  int rc = seg_open(check, ref, &why, &own);
  if (rc != STRATAKV_OK) return skv_check_failed(check, text, rc, &why, err);
  seg_check c = {check, text};
  skv_seg_judge judge = {.meta = &ref->meta,
                         .ingest_lsn = ref->ingest_lsn,
                         .damage = seg_damage,
                         .step = seg_step,
                         .arg = &c};
  rc = skv_seg_check(own ? own : skv_segref_in(ref), &judge, err);
  if (rc == STRATAKV_OK) rc = seg_lsn(&c, ref, err);
  skv_in_close(own);
  return rc;
}
