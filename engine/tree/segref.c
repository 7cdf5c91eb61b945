/*
 * Segment references and the open files behind them. See version.h.
 *
 * A file is opened when a version first names it (P2), so that it stays
 * readable after gc has unlinked it; its footer, index and filter are read and
 * verified when someone first looks into it.
 */
#include <inttypes.h>

#include "engine/os/thread.h"
#include "engine/tree/version_impl.h"
#include "engine/util/alloc.h"

typedef struct segref_object {
  skv_segref base;
  atomic_size_t refs;
  uint8_t keys[]; /* min key, max key, trim */
} segref_object;

struct skv_segfile {
  atomic_size_t refs;
  uint64_t number; /* also its id in the block cache */
  uint64_t uid;
  uint64_t size;
  uint64_t ingest_lsn;
  _Atomic(skv_seg *) seg; /* NULL until the first use */
  skv_mutex mutex;        /* guards the first use, and: */
  skv_in *in;             /* the open file until seg has taken it over */
};

/* ---- Files --------------------------------------------------------------- */

static struct skv_segfile *segfile_ref(struct skv_segfile *file) {
  if (file != NULL) {
    atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
  }
  return file;
}

static void segfile_unref(struct skv_segfile *file) {
  if (file == NULL) return;
  if (atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) > 1) {
    return;
  }
  skv_seg_close(atomic_load_explicit(&file->seg, memory_order_relaxed));
  skv_in_close(file->in);
  skv_mutex_clear(&file->mutex);
  skv_free(file);
}

/* By its number. A segment that is not named yet may be while we look. */
static int segref_find(skv_tree *tree, const skv_segref *ref, skv_err *err,
                       skv_in **out) {
  const skv_name *tmp =
      tree->unnamed ? tree->unnamed(tree->arg, ref->number) : NULL;
  uint64_t size = ref->meta.size;
  int rc = STRATAKV_NOTFOUND;
  if (tmp)
    rc = skv_in_open(tree->store, ref->number, tmp, size, tree->map, err, out);
  if (rc != STRATAKV_NOTFOUND) return rc;
  return skv_in_open(tree->store, ref->number, NULL, size, tree->map, err, out);
}

int skv_segref_open(skv_tree *tree, skv_segref *ref, skv_err *err) {
  skv_in *in = NULL;
  int rc = segref_find(tree, ref, err, &in);
  if (rc != STRATAKV_OK) return rc;
  struct skv_segfile *file = skv_new(sizeof *file, &rc);
  if (rc != STRATAKV_OK) {
    skv_in_close(in);
    return skv_error_nomem(err);
  }
  atomic_init(&file->refs, 1);
  atomic_init(&file->seg, NULL);
  skv_mutex_init(&file->mutex);
  file->number = ref->number;
  file->uid = ref->meta.uid;
  file->size = ref->meta.size;
  file->ingest_lsn = ref->ingest_lsn;
  file->in = in;
  ref->file = file;
  return STRATAKV_OK;
}

int skv_segref_share(skv_segref *ref, const skv_segref *other, skv_err *err) {
  struct skv_segfile *file = other->file;
  if (file == NULL) return STRATAKV_OK;
  if (file->uid != ref->meta.uid || file->size != ref->meta.size ||
      file->ingest_lsn != ref->ingest_lsn) {
    return SKV_ERROR(err, STRATAKV_CORRUPT,
                     "segment %" PRIu64 " is described in two ways",
                     ref->number);
  }
  ref->file = segfile_ref(file);
  return STRATAKV_OK;
}

/* First use, under the mutex. After a failure the file stays open for the next
 * try: its name may be gone. */
static int segfile_load_locked(skv_tree *tree, struct skv_segfile *file,
                               skv_err *err, skv_seg **out) {
  *out = atomic_load_explicit(&file->seg, memory_order_relaxed);
  if (*out != NULL) return STRATAKV_OK;
  int rc = skv_seg_open(file->in, tree->cache, file->number, file->uid,
                        file->ingest_lsn, err, out);
  if (rc == STRATAKV_OK) {
    file->in = NULL; /* the segment's now */
    atomic_store_explicit(&file->seg, *out, memory_order_release);
  }
  return rc;
}

int skv_segref_get(skv_tree *tree, skv_segref *ref, skv_err *err,
                   skv_seg **out) {
  struct skv_segfile *file = ref->file;
  *out = atomic_load_explicit(&file->seg, memory_order_acquire);
  if (*out != NULL) return STRATAKV_OK;
  skv_mutex_lock(&file->mutex);
  int rc = segfile_load_locked(tree, file, err, out);
  skv_mutex_unlock(&file->mutex);
  return rc;
}

skv_in *skv_segref_in(skv_segref *ref) {
  struct skv_segfile *file = ref->file;
  skv_mutex_lock(&file->mutex);
  skv_seg *seg = atomic_load_explicit(&file->seg, memory_order_relaxed);
  skv_in *in = seg ? skv_seg_in(seg) : file->in;
  skv_mutex_unlock(&file->mutex);
  return in;
}

/* ---- References ---------------------------------------------------------- */

/* Copy a key to *p, which moves behind it. */
static skv_slice segref_key(uint8_t **p, skv_slice key) {
  uint8_t *data = *p;
  if (key.size > 0) memcpy(data, key.data, key.size);
  *p += key.size;
  return skv_slice_of(data, key.size);
}

skv_segref *skv_segref_copy(const skv_segref *from) {
  const skv_seg_meta *meta = &from->meta;
  size_t keys = meta->min_key.size + meta->max_key.size + from->trim.size;
  segref_object *object = skv_malloc(sizeof *object + keys);
  if (object == NULL) return NULL;
  skv_segref *ref = &object->base;
  *ref = *from;
  atomic_init(&object->refs, 1);
  uint8_t *p = object->keys;
  ref->meta.min_key = segref_key(&p, meta->min_key);
  ref->meta.max_key = segref_key(&p, meta->max_key);
  ref->trim = segref_key(&p, from->trim);
  ref->file = segfile_ref(from->file);
  return ref;
}

skv_segref *skv_segref_ref(skv_segref *ref) {
  segref_object *object = (segref_object *)ref;
  atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);
  return ref;
}

void skv_segref_unref(skv_segref *ref) {
  segref_object *object = (segref_object *)ref;
  if (atomic_fetch_sub_explicit(&object->refs, 1, memory_order_acq_rel) > 1) {
    return;
  }
  segfile_unref(ref->file);
  skv_free(object);
}
