/*
 * What the files that make versions share: the whole objects behind the
 * structs of version.h, and how they are counted.
 *
 * A version counts its segrefs, a segref counts its file. Counts are atomic,
 * since versions are dropped by any thread; everything else in these objects
 * is immutable once a version has been handed out, but for the segment inside
 * a segfile, which appears on its first use.
 *
 * CALLERS  version.c, edit.c, segref.c, and tests of them.
 */
#ifndef SKV_TREE_VERSION_IMPL_H
#define SKV_TREE_VERSION_IMPL_H

#include <stdatomic.h>

#include "engine/tree/version.h"

/* Tags of operations (EDITS in version.h). */
#define SKV_EDIT_NEXT 1
#define SKV_EDIT_TABLE 2
#define SKV_EDIT_WAL 3
#define SKV_EDIT_END 4
#define SKV_EDIT_FLUSHED 5
#define SKV_EDIT_SEG 6
#define SKV_EDIT_REMOVE 7
#define SKV_EDIT_TRIM 8
#define SKV_EDIT_CLEAN 9
#define SKV_EDIT_FORGET 10

/* Tables, shared by all versions between two TABLE operations. */
typedef struct skv_tables {
  atomic_size_t refs;
  size_t count;
  stratakv_table_info list[]; /* ascending by id */
} skv_tables;

typedef struct skv_version_object {
  skv_version base;
  atomic_size_t refs;
  skv_tables *tables;  /* counted; NULL: none */
  size_t seg_count;    /* segments of all levels */
  skv_segref **segs;   /* counted references, ascending by number */
  skv_segref **sorted; /* the same by level, run and key: runs point in here */
} skv_version_object;

static inline const skv_version_object *
skv_version_object_of(const skv_version *version) {
  return (const skv_version_object *)version;
}

/* A version with no content and one reference. */
skv_version_object *skv_version_alloc(int *rc);
/* Fill sorted, runs and levels from segs, and check what FITS says about
 * runs: CORRUPT. */
int skv_version_arrange(skv_version_object *version, skv_err *err);
/* Where segment `number` is in a list ascending by number, or would be. */
size_t skv_segs_find(skv_segref *const *segs, size_t count, uint64_t number);

/* A copy of `from` with memory of its own for the keys, a reference to its
 * file (if any), and one reference; NULL: no memory. */
skv_segref *skv_segref_copy(const skv_segref *from);
skv_segref *skv_segref_ref(skv_segref *ref);
void skv_segref_unref(skv_segref *ref);
/* Give ref, which has none, the file that `other` has open. CORRUPT if they do
 * not say the same of it. */
int skv_segref_share(skv_segref *ref, const skv_segref *other, skv_err *err);
/* Open the file of ref, which has none. */
int skv_segref_open(skv_tree *tree, skv_segref *ref, skv_err *err);

#endif
