/*
 * Producing segments: from one sorted iterator, with flush and compaction as
 * its two callers.
 *
 * A job writes unnamed segments of about `segment_bytes` and describes them;
 * naming them and editing the head is the caller's (db/, under HEAD), because
 * only there is the publishing order known. A job never holds a lock.
 */
#ifndef SKV_TREE_COMPACT_H
#define SKV_TREE_COMPACT_H

#include "engine/tree/picker.h"
#include "engine/tree/version.h"

#define SKV_SEGMENT_BYTES (16u << 20) /* aimed at; the last may be smaller */
#define SKV_SLICE_BYTES (64u << 20)   /* P17: published at least this often */
#define SKV_SLICE_NS 500000000u       /* and this often, in nanoseconds */

/* One finished, unnamed, synced segment. */
typedef struct skv_product {
  skv_name tmp;
  skv_seg_meta meta; /* keys owned by keys[] below */
  skv_buf keys;      /* memory of min and max key */
} skv_product;

typedef struct skv_products {
  skv_product *list;
  size_t count;
  size_t capacity;
} skv_products;
void skv_products_clear(skv_products *products); /* memory only, no files */

/* What a job needs and does while it runs. */
typedef struct skv_job {
  skv_tree *tree;
  skv_seg_options seg;    /* for the output */
  uint64_t segment_bytes; /* 0: SKV_SEGMENT_BYTES */
  uint64_t slice_bytes;   /* 0: SKV_SLICE_BYTES */
  bool is_tight;          /* a slice ends, too, when an input is consumed, so
                             that its space is given back before more is taken */
  /* A fresh unnamed file name of this process (thread safe). */
  void (*next_name)(void *arg, skv_name *out);
  /* Remove an unnamed file of a job that failed; NULL leaves them to gc. */
  void (*discard)(void *arg, const skv_name *tmp);
  /* Called at least every MiB that is read; not 0 cancels with INTERRUPT. May
   * do other work (a flush) before it returns. May be NULL. */
  int (*yield)(void *arg);
  /* Asked at least every 64 KiB that are read: whether the slice ends here
   * for want of space. May be NULL. */
  bool (*is_short)(void *arg);
  void *arg;
} skv_job;

/* Write everything `input` yields (from its beginning) to segments, appended
 * to products. drop_tombstones: INV-6, only where nothing older can exist. On
 * failure the files written so far stay for gc, and products is as it was. */
int skv_produce(skv_job *job, skv_iter *input, bool drop_tombstones,
                skv_err *err, skv_products *products);

/*
 * One slice of a plan of this version: merge from the plan's beginning until
 * slice_bytes or SKV_SLICE_NS are reached or the inputs end, and append to
 * `edit` what makes it true: REMOVE of every input that was consumed, TRIM to
 * the first key not consumed of every other that the slice reached, and for a
 * move the SEG operations too. SEG operations of the products are the
 * caller's, whose numbers they get. *done says whether the plan is finished;
 * if not, the rest is for a new plan of the version that the edit makes.
 *
 * A slice ends between two keys and has consumed at least one, so it always
 * makes progress, even if everything in it was dropped and there is no
 * product: picked again and again, plans come to an end. On failure edit and
 * products hold nothing of it.
 */
int skv_compact_slice(skv_job *job, const skv_version *version,
                      const skv_plan *plan, skv_err *err,
                      skv_products *products, skv_buf *edit, bool *done);

#endif
