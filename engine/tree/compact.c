/*
 * Producing segments, for flush and for compaction slices. See compact.h.
 */
#include "engine/tree/compact.h"

#include "engine/tree/merge.h"
#include "engine/util/alloc.h"
#include "engine/util/point.h"

#define PRODUCE_YIELD_BYTES (1u << 20) /* read between two calls of yield */
#define PRODUCE_CLOCK_BYTES                                                    \
  (64u << 10) /* read between two looks at the clock and the disk */

/* ---- Products ------------------------------------------------------------ */

static void produce_forget_products(skv_products *products, size_t count) {
  while (products->count > count) {
    skv_buf_clear(&products->list[--products->count].keys);
  }
}

void skv_products_clear(skv_products *products) {
  produce_forget_products(products, 0);
  skv_free(products->list);
  memset(products, 0, sizeof *products);
}

/* Room for one more. */
static int produce_grow_products(skv_products *products, skv_err *err) {
  if (products->count < products->capacity) return STRATAKV_OK;
  size_t capacity = products->capacity ? products->capacity * 2 : 8;
  skv_product *list =
      skv_realloc(products->list, capacity * sizeof *products->list);
  if (list == NULL) return skv_error_nomem(err);
  products->list = list;
  products->capacity = capacity;
  return STRATAKV_OK;
}

/* Add a finished segment; meta's keys are copied. */
static int produce_add_product(skv_products *products, const skv_name *tmp,
                               const skv_seg_meta *meta, skv_err *err) {
  int rc = produce_grow_products(products, err);
  if (rc != STRATAKV_OK) return rc;
  skv_product *product = &products->list[products->count];
  memset(product, 0, sizeof *product);
  skv_buf_append(&product->keys, meta->min_key.data, meta->min_key.size);
  skv_buf_append(&product->keys, meta->max_key.data, meta->max_key.size);
  if (product->keys.rc != STRATAKV_OK) {
    skv_buf_clear(&product->keys);
    return skv_error_nomem(err);
  }
  product->tmp = *tmp;
  product->meta = *meta;
  const uint8_t *keys = product->keys.data;
  product->meta.min_key = skv_slice_of(keys, meta->min_key.size);
  product->meta.max_key =
      skv_slice_of(keys + meta->min_key.size, meta->max_key.size);
  products->count++;
  return STRATAKV_OK;
}

/* ---- Writing segments ---------------------------------------------------- */

/* Where a job writes to, and what it counts. */
typedef struct produce_writer {
  skv_job *job;
  skv_env *env;
  skv_products *products;
  uint64_t segment_bytes;
  skv_name tmp; /* of the segment being written */
  skv_out *out; /* NULL: none is */
  skv_seg_writer *writer;
  uint64_t written; /* bytes of the finished segments */
  uint64_t read;    /* bytes of all entries, dropped ones too */
  uint64_t yielded; /* `read` when yield was last called */
} produce_writer;

static void produce_init_writer(produce_writer *w, skv_job *job,
                                skv_products *products) {
  memset(w, 0, sizeof *w);
  w->job = job;
  w->env = skv_store_env(job->tree->store);
  w->products = products;
  w->segment_bytes =
      job->segment_bytes ? job->segment_bytes : SKV_SEGMENT_BYTES;
}

static int produce_begin_segment(produce_writer *w, skv_err *err) {
  uint64_t uid;
  int rc = w->env->random(w->env, &uid, sizeof uid, err);
  if (rc != STRATAKV_OK) return rc;
  w->job->next_name(w->job->arg, &w->tmp);
  rc = skv_out_create(w->job->tree->store, &w->tmp, err, &w->out);
  if (rc != STRATAKV_OK) return rc;
  SKV_POINT("segment.created");
  return skv_seg_writer_new(w->out, &w->job->seg, uid, err, &w->writer);
}

static void produce_close_segment(produce_writer *w) {
  skv_seg_writer_free(w->writer);
  w->writer = NULL;
  skv_out_close(w->out);
  w->out = NULL;
}

static int produce_finish_segment(produce_writer *w, skv_err *err) {
  skv_seg_meta meta;
  if (w->writer == NULL) return STRATAKV_OK;
  int rc = skv_seg_writer_finish(w->writer, err, &meta);
  if (rc == STRATAKV_OK) {
    rc = produce_add_product(w->products, &w->tmp, &meta, err);
  }
  if (rc != STRATAKV_OK) return rc; /* produce_give_up closes it */
  w->written += meta.size;
  produce_close_segment(w);
  SKV_POINT("segment.written");
  return rc;
}

/* After a failure: none of the files made since `before` is of use. */
static void produce_give_up(produce_writer *w, size_t before) {
  const skv_job *job = w->job;
  bool is_open = w->out != NULL;
  produce_close_segment(w);
  if (job->discard == NULL) {
    produce_forget_products(w->products, before);
    return;
  }
  if (is_open) job->discard(job->arg, &w->tmp);
  for (size_t i = before; i < w->products->count; i++) {
    job->discard(job->arg, &w->products->list[i].tmp);
  }
  produce_forget_products(w->products, before);
}

static int produce_add(produce_writer *w, const skv_entry *entry,
                       skv_err *err) {
  int rc = STRATAKV_OK;
  if (w->writer == NULL) rc = produce_begin_segment(w, err);
  if (rc == STRATAKV_OK) rc = skv_seg_writer_add(w->writer, entry, err);
  if (rc == STRATAKV_OK && skv_seg_writer_size(w->writer) >= w->segment_bytes) {
    rc = produce_finish_segment(w, err);
  }
  return rc;
}

static uint64_t produce_output(const produce_writer *w) {
  return w->written + (w->writer ? skv_seg_writer_size(w->writer) : 0);
}

static int produce_yield(produce_writer *w, skv_err *err) {
  if (w->read - w->yielded < PRODUCE_YIELD_BYTES) return STRATAKV_OK;
  w->yielded = w->read;
  if (w->job->yield == NULL || w->job->yield(w->job->arg) == 0) {
    return STRATAKV_OK;
  }
  return SKV_ERROR(err, STRATAKV_INTERRUPT, "interrupted");
}

/* Write the entry that input shows, or drop it. */
static int produce_consume(produce_writer *w, skv_iter *input, bool drop,
                           skv_err *err) {
  int rc = STRATAKV_OK;
  w->read += input->entry.key.size + input->entry.value.size;
  if (!drop || input->entry.kind != SKV_KIND_DELETE) { /* INV-6 */
    rc = produce_add(w, &input->entry, err);
  }
  return rc == STRATAKV_OK ? produce_yield(w, err) : rc;
}

int skv_produce(skv_job *job, skv_iter *input, bool drop_tombstones,
                skv_err *err, skv_products *products) {
  size_t before = products->count;
  produce_writer w;
  produce_init_writer(&w, job, products);
  int rc = skv_iter_first(input, err);
  while (rc == STRATAKV_OK && input->valid) {
    rc = produce_consume(&w, input, drop_tombstones, err);
    if (rc == STRATAKV_OK) rc = skv_iter_next(input, err);
  }
  if (rc == STRATAKV_OK) rc = produce_finish_segment(&w, err);
  if (rc != STRATAKV_OK) produce_give_up(&w, before);
  return rc;
}

/* ---- Inputs -------------------------------------------------------------- */

/* How many of the segments at list[0] on are one run of the version. */
static size_t produce_run_length(skv_segref **list, size_t count) {
  size_t n = 1;
  while (n < count && list[n]->level == list[0]->level &&
         list[n]->run == list[0]->run) {
    n++;
  }
  return n;
}

/* One iterator for each run of the plan, newest first (INV-5). list has room
 * for plan->count. */
static int produce_open_runs(skv_tree *tree, const skv_version *version,
                             const skv_plan *plan, skv_err *err,
                             skv_iter **list, size_t *count) {
  *count = 0;
  for (size_t i = 0; i < plan->count;) {
    skv_run run = {.segs = plan->inputs + i};
    run.count = produce_run_length(run.segs, plan->count - i);
    int rc = skv_run_iter_new(tree, version, &run, false, err, &list[*count]);
    if (rc != STRATAKV_OK) return rc;
    i += run.count;
    ++*count;
  }
  return STRATAKV_OK;
}

static int produce_open(skv_tree *tree, const skv_version *version,
                        const skv_plan *plan, skv_err *err, skv_iter **out) {
  size_t count;
  *out = NULL;
  skv_iter **list = skv_calloc(plan->count, sizeof *list);
  if (list == NULL) return skv_error_nomem(err);
  int rc = produce_open_runs(tree, version, plan, err, list, &count);
  if (rc == STRATAKV_OK) {
    rc = skv_merge_new(list, count, err, out);
  } else {
    while (count > 0) skv_iter_close(list[--count]);
  }
  skv_free(list);
  return rc;
}

/* ---- Slices -------------------------------------------------------------- */

/* Where a slice ends. */
typedef struct produce_limit {
  uint64_t bytes;   /* of output */
  uint64_t time;    /* of env->now */
  uint64_t checked; /* bytes read when the clock was last asked */
  skv_slice beyond; /* not at or before this key; size 0: anywhere */
  skv_slice until;  /* behind this key; size 0: not for that */
} produce_limit;

/*
 * A plan may begin with a segment of its level that lies before all upper
 * inputs. A slice that consumed only that would leave the same plan behind:
 * it goes on to the first key of an upper input.
 */
static skv_slice produce_beyond(const skv_plan *plan) {
  skv_slice first = skv_segref_start(plan->inputs[0]);
  for (size_t i = 1; i < plan->upper; i++) {
    skv_slice start = skv_segref_start(plan->inputs[i]);
    if (skv_compare(start, first) < 0) first = start;
  }
  bool is_before =
      plan->upper < plan->count &&
      skv_compare(plan->inputs[plan->upper]->meta.max_key, first) < 0;
  return is_before ? first : skv_slice_of(NULL, 0);
}

/* Where the first input ends. */
static skv_slice produce_until(const skv_plan *plan) {
  skv_slice until = plan->inputs[0]->meta.max_key;
  for (size_t i = 1; i < plan->count; i++) {
    skv_slice end = plan->inputs[i]->meta.max_key;
    if (skv_compare(end, until) < 0) until = end;
  }
  return until;
}

static bool produce_is_enough(const produce_writer *w, skv_slice key,
                              produce_limit *limit) {
  if (limit->beyond.size > 0 && skv_compare(key, limit->beyond) <= 0) {
    return false;
  }
  if (produce_output(w) >= limit->bytes) return true;
  if (limit->until.size > 0 && skv_compare(key, limit->until) > 0) return true;
  if (w->read - limit->checked < PRODUCE_CLOCK_BYTES) return false;
  limit->checked = w->read;
  if (w->job->is_short && w->job->is_short(w->job->arg)) return true;
  return w->env->now(w->env) >= limit->time;
}

/* Merge up to the limit. Afterwards input shows the first key not consumed,
 * or is at its end. */
static int produce_merge(produce_writer *w, const skv_plan *plan,
                         skv_iter *input, skv_err *err) {
  produce_limit limit = {.beyond = produce_beyond(plan)};
  uint64_t bytes = w->job->slice_bytes;
  limit.bytes = bytes ? bytes : SKV_SLICE_BYTES;
  if (w->job->is_tight) limit.until = produce_until(plan);
  limit.time = w->env->now(w->env) + SKV_SLICE_NS;
  int rc = skv_iter_first(input, err);
  while (rc == STRATAKV_OK && input->valid) {
    rc = produce_consume(w, input, plan->bottom, err);
    if (rc == STRATAKV_OK) rc = skv_iter_next(input, err);
    if (rc != STRATAKV_OK || !input->valid) break;
    if (produce_is_enough(w, input->entry.key, &limit)) break;
  }
  return rc == STRATAKV_OK ? produce_finish_segment(w, err) : rc;
}

/* What becomes of the inputs when all keys below *rest are consumed; NULL:
 * all keys. */
static void produce_edit_inputs(const skv_plan *plan, const skv_slice *rest,
                                skv_buf *edit) {
  for (size_t i = 0; i < plan->count; i++) {
    const skv_segref *ref = plan->inputs[i];
    if (rest == NULL || skv_compare(ref->meta.max_key, *rest) < 0) {
      skv_edit_remove(edit, ref->number);
    } else if (skv_compare(skv_segref_start(ref), *rest) < 0) {
      skv_edit_trim(edit, ref->number, *rest);
    }
  }
}

static void produce_edit_move(const skv_plan *plan, skv_buf *edit) {
  for (size_t i = 0; i < plan->count; i++) {
    const skv_segref *ref = plan->inputs[i];
    skv_edit_remove(edit, ref->number);
    skv_edit_seg(edit, ref->number, plan->level, 0, ref->ingest_lsn, &ref->meta,
                 ref->trim);
  }
}

int skv_compact_slice(skv_job *job, const skv_version *version,
                      const skv_plan *plan, skv_err *err,
                      skv_products *products, skv_buf *edit, bool *done) {
  skv_iter *input = NULL;
  size_t before = products->count;
  size_t edit_before = edit->size;
  produce_writer w;
  *done = true;
  if (plan->move) {
    produce_edit_move(plan, edit);
    return edit->rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
  }
  produce_init_writer(&w, job, products);
  int rc = produce_open(job->tree, version, plan, err, &input);
  if (rc == STRATAKV_OK) rc = produce_merge(&w, plan, input, err);
  if (rc != STRATAKV_OK) goto out;
  *done = !input->valid;
  produce_edit_inputs(plan, *done ? NULL : &input->entry.key, edit);
  if (edit->rc != STRATAKV_OK) rc = skv_error_nomem(err);

out:
  if (rc != STRATAKV_OK) produce_give_up(&w, before);
  skv_iter_close(input);
  if (rc != STRATAKV_OK) edit->size = edit_before;
  return rc;
}
