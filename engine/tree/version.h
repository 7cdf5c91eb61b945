/*
 * The version: what the head says at one moment, as an immutable object.
 *
 * It lists the tables, the logs, and the runs of segments by level. Level 0
 * holds runs that may overlap, ordered by LSN; each level below is one run of
 * segments that do not overlap. A newer version shares what did not change.
 *
 * EDITS  A version changes only by an edit: bytes that stand in the manifest
 *   as one record (engine/tree/manifest.h) and are applied whole. An edit is a
 *   sequence of operations, each a tag byte and its operands (varints unless
 *   said; slices are a varint length and the bytes):
 *      1 NEXT     next file number
 *      2 TABLE    id, key type, name (slice)
 *      3 WAL      number, start LSN, size: a log begins
 *      4 END      number, end LSN: this log ends there (sealed, or where
 *                 recovery ended it: L2)
 *      5 FLUSHED  number: everything of this log is in segments; it is retired
 *      6 SEG      number, level, run, ingest LSN, uid, size, entries,
 *                 tombstones, raw bytes, min LSN, max LSN, min key, max key,
 *                 trim (slices)
 *      7 REMOVE   segment number
 *      8 TRIM     segment number, key (slice): entries below it are consumed
 *      9 CLEAN    LSN: closed cleanly with this tail; void once any other edit
 *                 follows
 *     10 FORGET   WAL number: a retired log's file is gone or recycled
 *   An unknown tag is NOTADB (a newer format would have said so in the header,
 *   so it is refused), anything that does not fit the version is CORRUPT.
 *
 * FITS  Operations are applied in order, then the whole is looked at:
 *     - next file never sinks; every number is below it and names one file;
 *     - table ids 1..65535 and names are unique and valid;
 *     - logs ascend by number, above every flushed one, and by LSN: each but
 *       the last has an end, at or before the next one's start;
 *     - FLUSHED names the oldest log, which has an end, FORGET a retired one;
 *       only the first edit of a manifest may call a log flushed that no WAL
 *       operation named, before the first WAL;
 *     - a segment has 1 <= entries, tombstones <= entries, min key <= trim <=
 *       max key; below level 0 its run is 0; REMOVE and TRIM name one that is
 *       there, and a trim grows. A number may come back in the edit that
 *       removes it (a move), with its old uid, size and ingest LSN;
 *     - segments of a run do not overlap: they cover [max(min key, trim), max
 *       key];
 *     - every LSN of a level-0 run is below the id of the next newer (INV-5).
 *
 * UID  The uid of a segment seeds the checksums of its blocks. It stands in its
 *   footer and here: so a file that is another segment is noticed when it is
 *   first used, and the blocks of one that lost its footer can be verified.
 *
 * TRIM  Compaction publishes in slices (P17): a level-0 segment of which the
 *   keys below `trim` were already merged downwards shows only the others.
 *
 * INV-5  holds by search order: level-0 runs by descending run id (the LSN at
 *   which the run's log or ingest begins), then levels downwards.
 */
#ifndef SKV_TREE_VERSION_H
#define SKV_TREE_VERSION_H

#include "engine/seg/seg.h"

#define SKV_LEVELS 8 /* 0..7 */

/* A segment that a version names: shared by versions, counted atomically. */
typedef struct skv_segref {
  uint64_t number;
  uint32_t level;
  uint64_t run;             /* level 0: the run's id; 0 below */
  uint64_t ingest_lsn;      /* 0 for an ordinary segment */
  skv_seg_meta meta;        /* its keys point into this object */
  skv_slice trim;           /* size 0: whole; a trimmed one is a new segref */
  struct skv_segfile *file; /* the open file, shared with other segrefs */
} skv_segref;

/* The first key that it may show. */
static inline skv_slice skv_segref_start(const skv_segref *ref) {
  return ref->trim.size > 0 ? ref->trim : ref->meta.min_key;
}

/* The greatest LSN that an entry of it has. */
static inline uint64_t skv_segref_max_lsn(const skv_segref *ref) {
  return ref->ingest_lsn != 0 ? ref->ingest_lsn : ref->meta.max_lsn;
}

typedef struct skv_run {
  uint64_t id;      /* level 0: descending in the version; 0 below */
  uint64_t max_lsn; /* greatest LSN in it */
  size_t count;
  skv_segref **segs; /* ascending by key, not overlapping */
} skv_run;

typedef struct skv_wal_info {
  uint64_t number;
  uint64_t start; /* LSN of its first record */
  uint64_t size;  /* bytes of the file */
  uint64_t end;   /* LSN where it ends, 0 while it is the newest */
} skv_wal_info;

typedef struct skv_version {
  skv_head_pos pos; /* the edit that made it */
  uint8_t store_id[16];
  uint64_t next_file; /* first file number never used */
  uint64_t clean;     /* tail LSN of a clean close, else 0 */
  size_t table_count; /* tables, ascending by id */
  stratakv_table_info *tables;
  size_t wal_count; /* unflushed logs, oldest first; the last is active */
  skv_wal_info *wals;
  size_t retired_count; /* flushed logs whose file may still exist */
  uint64_t *retired;
  uint64_t flushed_wal; /* greatest number of a flushed log, 0 if none */
  size_t run_count;     /* level-0 runs, newest first */
  skv_run *runs;
  skv_run levels[SKV_LEVELS]; /* 1..7 used */
} skv_version;

skv_version *skv_version_ref(const skv_version *version);
void skv_version_unref(skv_version *version); /* NULL allowed */

/* What versions need to open segments: set once per store handle. */
typedef struct skv_tree {
  skv_store *store;
  skv_cache *cache; /* may be NULL */
  bool map;         /* read segments through mappings */
  /* The name that segment `number` may have still, or NULL; NULL: none has. */
  const skv_name *(*unnamed)(void *arg, uint64_t number);
  void *arg;
} skv_tree;

/* An empty version of a new store (next_file 1, pos 0). tree may be NULL. */
int skv_version_new(skv_tree *tree, const uint8_t store_id[16], skv_err *err,
                    skv_version **out);
/*
 * Apply one edit. `base` is untouched; *out has one reference. New segments'
 * files are opened here (P2), NOTFOUND if one vanished: the caller looks for a
 * newer head or calls it CORRUPT. With open_files false nothing is opened (for
 * intermediate versions while a manifest is replayed) and tree may be NULL; the
 * last one is then passed through skv_version_open.
 */
int skv_version_apply(skv_tree *tree, const skv_version *base, skv_slice edit,
                      skv_head_pos pos, bool open_files, skv_err *err,
                      skv_version **out);
/* Open the files of all segments that are not open, sharing those that `older`
 * (may be NULL) has open. */
int skv_version_open(skv_tree *tree, skv_version *version,
                     const skv_version *older, skv_err *err);
/* The edit that makes this version out of an empty one; sticky. */
void skv_version_encode(const skv_version *version, skv_buf *edit);

const stratakv_table_info *skv_version_table(const skv_version *version,
                                             const char *name);
/* All its segments, ascending by number. */
skv_segref *const *skv_version_segs(const skv_version *version, size_t *count);
uint64_t skv_version_level_bytes(const skv_version *version, unsigned level);

/* The open segment of a reference: footer, index and filter are verified on
 * the first use in this process. Any thread. The segment lives as long as the
 * version that ref was found in. */
int skv_segref_get(skv_tree *tree, skv_segref *ref, skv_err *err,
                   skv_seg **out);

/* The open file itself, whose name may be gone; it lives as long as the
 * segment. */
skv_in *skv_segref_in(skv_segref *ref);

/*
 * Look `key` up in one run (trim respected). A run of a level is searched by
 * binary search on its segments.
 */
int skv_run_get(skv_tree *tree, const skv_run *run, skv_slice key,
                uint64_t hash, skv_seg_pin *pin, skv_err *err, bool *found,
                skv_entry *entry);
/* Iterate a run of the version, or part of one (run->segs then belongs to the
 * caller and outlives the iterator). Holds a reference to the version. */
int skv_run_iter_new(skv_tree *tree, const skv_version *version,
                     const skv_run *run, bool keys_only, skv_err *err,
                     skv_iter **out);

/* Describe an edit to people: each(arg, line) for every operation, until it
 * returns not 0, which comes back. CORRUPT if the edit ends within one. */
int skv_edit_describe(skv_slice edit, int (*each)(void *arg, const char *line),
                      void *arg, skv_err *err);
/* Keys and values as text: `size` bytes of memory, cut with "..." if that is
 * not enough. A key begins with its table's id. */
void skv_key_text(skv_slice key, char *text, size_t size);
void skv_bytes_text(skv_slice bytes, char *text, size_t size);

/* Builders of edits; sticky through edit->rc. */
void skv_edit_next(skv_buf *edit, uint64_t next_file);
void skv_edit_table(skv_buf *edit, const stratakv_table_info *table);
void skv_edit_wal(skv_buf *edit, uint64_t number, uint64_t start,
                  uint64_t size);
void skv_edit_end(skv_buf *edit, uint64_t number, uint64_t end);
void skv_edit_flushed(skv_buf *edit, uint64_t number);
void skv_edit_seg(skv_buf *edit, uint64_t number, uint32_t level, uint64_t run,
                  uint64_t ingest_lsn, const skv_seg_meta *meta,
                  skv_slice trim);
void skv_edit_remove(skv_buf *edit, uint64_t number);
void skv_edit_trim(skv_buf *edit, uint64_t number, skv_slice key);
void skv_edit_clean(skv_buf *edit, uint64_t lsn);
void skv_edit_forget(skv_buf *edit, uint64_t wal);

#endif
