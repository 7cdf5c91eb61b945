/*
 * The storage seam: logs, segments, the head and the shared state of one
 * store, without paths, rename or flock above it. This is the file backend;
 * another (an object store) would implement the same header.
 *
 * NAMES  in the directory:
 *     CURRENT                   which manifest is the head
 *     NNNNNN.manifest           version edits
 *     NNNNNN.wal                a log named in the manifest
 *     NNNNNN.seg                a segment named in the manifest
 *     SS-IIIIIIII-NNNNNN.tmp    not yet named: made by slot SS, incarnation I,
 *                               its N-th file, all hexadecimal (P4)
 *     LOCK, SHARED, OWNERS      locks, shared page, who may open it
 *   NNNNNN is a file number: decimal, at least 6 digits, never reused.
 *
 * CURRENT, 64 bytes, little-endian, replaced by rename:
 *      0  8  magic "STRATCUR"
 *      8  4  format version (SKV_FORMAT); an unknown one is NOTADB if the
 *            checksum holds
 *     12  4  zero
 *     16 16  store id
 *     32  8  manifest's file number
 *     40 16  zero
 *     56  8  checksum of bytes 0..55, seed 0
 *
 * LOGS  are allocated and written in full once, in 4 KiB writes so that the
 *   page cache keeps them in single pages, then overwritten in place and
 *   recycled. skv_log_write stores through the mapping or by pwrite, whichever
 *   is safe and faster (P15); readers always use the mapping.
 *
 * CODES  as engine/os/env.h. A file that is absent is NOTFOUND here; the
 *   caller knows whether that is damage or a newer head (tree/manifest.h).
 *
 * THREADS  Everything may be called by any thread; writes to one object are
 *   serialized by its owner's lock.
 */
#ifndef SKV_STORE_STORE_H
#define SKV_STORE_STORE_H

#include "engine/os/env.h"
#include "engine/util/buf.h"

#define SKV_FORMAT 1 /* the one format version of all files of a store */

typedef struct skv_store skv_store;

/* ---- The store --------------------------------------------------------- */

/* Open the directory; touches no file in it. flags are SKV_DIR_*. With
 * EXCLUSIVE a failure leaves no directory behind. */
int skv_store_open(skv_env *env, const char *base, const char *path, int flags,
                   skv_err *err, skv_store **out);
void skv_store_close(skv_store *store); /* NULL allowed */
skv_env *skv_store_env(const skv_store *store);
skv_dir *skv_store_dir(const skv_store *store);
const skv_dir_info *skv_store_info(const skv_store *store);
/* Free bytes where the store is. */
int skv_store_free_space(skv_store *store, skv_err *err, uint64_t *bytes);

#define SKV_PROBE_EMPTY 0   /* nothing in it, or an unfinished creation */
#define SKV_PROBE_STORE 1   /* has a CURRENT with our magic */
#define SKV_PROBE_FOREIGN 2 /* something else */
/* What the directory is; changes nothing. A CURRENT with our magic but another
 * format or a bad checksum is STORE here and refused by skv_head_open. An
 * unfinished creation has only names that this header lists and no CURRENT. */
int skv_store_probe(skv_store *store, skv_err *err, int *out);

/* What a directory entry's name says. */
#define SKV_NAME_OTHER 0
#define SKV_NAME_FIXED 1 /* CURRENT, LOCK, SHARED, OWNERS */
#define SKV_NAME_MANIFEST 2
#define SKV_NAME_WAL 3
#define SKV_NAME_SEG 4
#define SKV_NAME_TMP 5
typedef struct skv_name {
  int kind;
  uint64_t number;      /* file number, or the creator's count for TMP */
  uint32_t slot;        /* TMP: creator */
  uint32_t incarnation; /* TMP: creator */
} skv_name;
#define SKV_NAME_SIZE 32
/* Parse strictly (only what skv_name_format gives back). */
skv_name skv_name_parse(const char *text);
void skv_name_format(const skv_name *name, char text[SKV_NAME_SIZE]);
int skv_store_list(skv_store *store,
                   int (*each)(void *arg, const skv_name *name), void *arg,
                   skv_err *err);
/* Remove a file by parsed name; an absent one is OK. Only gc calls this. */
int skv_store_remove(skv_store *store, const skv_name *name, skv_err *err);
/* Make every create, rename and remove so far durable. */
int skv_store_sync_names(skv_store *store, skv_err *err);

/* ---- Locks and the shared page ----------------------------------------- */

/* Bytes of LOCK. P13: this is also the lock order. PRIVATE is shared by private
 * readers: it keeps logs as they are. SLOT+i is the liveness of process slot
 * i. */
#define SKV_LOCK_ATTACH 0
#define SKV_LOCK_FLUSH 1
#define SKV_LOCK_COMPACT 2
#define SKV_LOCK_WRITE 3
#define SKV_LOCK_HEAD 4
#define SKV_LOCK_ALIVE 5
#define SKV_LOCK_PRIVATE 6
#define SKV_LOCK_SLOT 64

/* Open LOCK (making it if `create`) and register it for fork. */
int skv_store_lock_open(skv_store *store, bool create, skv_err *err);
/* Take, change or give back a lock; never waits: BUSY. One lock's calls are
 * made by one thread at a time (the owner has a mutex for it). */
int skv_store_lock(skv_store *store, unsigned which, int mode, skv_err *err);
/* Whether LOCK was removed, or replaced by another file: then the store's files
 * were, and who opens what is there now shares nothing with us. */
bool skv_store_is_gone(skv_store *store);

#define SKV_SHARED_SIZE 16384
/* Map SHARED (created zeroed if `create`); writable unless read_only. Stays
 * mapped until the store is closed. A wrong size is made right only with
 * `create`, else NOTADB. */
int skv_store_shared(skv_store *store, bool create, bool read_only,
                     skv_err *err, void **page);

/* ---- Logs -------------------------------------------------------------- */

typedef struct skv_log skv_log;

/* Make a log of `size` bytes (a multiple of 4096) that is not yet named: `tmp`
 * is a SKV_NAME_TMP. Allocated, filled with zeros, mapped, not synced. */
int skv_log_create(skv_store *store, const skv_name *tmp, uint64_t size,
                   skv_err *err, skv_log **out);
/* The same from a retired log: log `number` loses its name and becomes `tmp`,
 * bytes kept. NOTFOUND if it is gone. */
int skv_log_recycle(skv_store *store, uint64_t number, const skv_name *tmp,
                    skv_err *err, skv_log **out);
/* Write `header` at offset 0, sync the whole log, name it `number` and make
 * the name durable. */
int skv_log_publish(skv_log *log, uint64_t number, const void *header,
                    size_t header_size, skv_err *err);
/* Open a named log. */
int skv_log_open(skv_store *store, uint64_t number, bool writable, skv_err *err,
                 skv_log **out);
void skv_log_close(skv_log *log); /* NULL allowed; unmaps */
uint64_t skv_log_size(const skv_log *log);
const uint8_t *skv_log_bytes(const skv_log *log); /* the mapping */
/* Store bytes; `now_synced` says that a sync of them follows at once, for
 * which pwrite is the better way. Cannot fail through the mapping. */
int skv_log_write(skv_log *log, uint64_t offset, const void *data, size_t size,
                  bool now_synced, skv_err *err);
int skv_log_sync(skv_log *log, skv_err *err);
void skv_log_sync_start(skv_log *log, uint64_t offset, uint64_t size);
/* Touch pages ahead of the writer so that it does not fault. */
void skv_log_touch(skv_log *log, uint64_t offset, uint64_t size);

/* ---- Segments: immutable objects --------------------------------------- */

typedef struct skv_out skv_out; /* being written */
typedef struct skv_in skv_in;   /* being read */

int skv_out_create(skv_store *store, const skv_name *tmp, skv_err *err,
                   skv_out **out);
int skv_out_append(skv_out *out, const void *data, size_t size, skv_err *err);
uint64_t skv_out_size(const skv_out *out);
int skv_out_sync(skv_out *out, skv_err *err); /* after the last append */
/* Close; the file stays under its tmp name. NULL allowed. */
void skv_out_close(skv_out *out);
/* Give tmp the name `number`; call skv_store_sync_names after the last. OK too
 * if it has that name already (finishing a dead process's INGEST). */
int skv_seg_name(skv_store *store, const skv_name *tmp, uint64_t number,
                 skv_err *err);

/* Open segment `number`, or a tmp one if tmp is not NULL, for reading.
 * CORRUPT if its size is not `size`. With `map` it is mapped and its
 * descriptor closed (P18). */
int skv_in_open(skv_store *store, uint64_t number, const skv_name *tmp,
                uint64_t size, bool map, skv_err *err, skv_in **out);
/* The same by any name, whatever its size. */
int skv_in_open_name(skv_store *store, const char *name, bool map, skv_err *err,
                     skv_in **out);
void skv_in_close(skv_in *in); /* NULL allowed */
uint64_t skv_in_size(const skv_in *in);
const uint8_t *skv_in_map(const skv_in *in); /* NULL if not mapped */
const char *skv_in_name(const skv_in *in);   /* for messages */
/* Copy bytes out; CORRUPT beyond the end. */
int skv_in_read(skv_in *in, uint64_t offset, void *data, size_t size,
                skv_err *err);

/* ---- The head: the manifest -------------------------------------------- */

/* A place in the head: manifest file number in the upper 24 bits, offset of
 * the end of its last valid edit in the lower 40. Grows with every edit. */
typedef uint64_t skv_head_pos;
static inline uint64_t skv_head_file(skv_head_pos p) { return p >> 40; }
static inline uint64_t skv_head_offset(skv_head_pos p) {
  return p & ((UINT64_C(1) << 40) - 1);
}
static inline skv_head_pos skv_head_at(uint64_t file, uint64_t offset) {
  return file << 40 | offset;
}

/* Whether the 64 bytes of a CURRENT or a manifest's header, whose magic is
 * theirs, are of a newer format: not if their checksum does not hold, for then
 * its number may be what was damaged. */
bool skv_head_is_newer(const uint8_t bytes[64]);
/* Whether CURRENT is; false if it cannot be read. */
bool skv_head_current_is_newer(skv_store *store);

/* Read CURRENT: the store id and the manifest's number. NOTFOUND if there is
 * none, NOTADB for foreign bytes or a newer format, CORRUPT for a bad
 * checksum. */
int skv_head_current(skv_store *store, skv_err *err, uint8_t store_id[16],
                     uint64_t *manifest);
/*
 * Read manifest `file` from byte `offset` to its end into *bytes (a copy).
 * The manifest's own format is engine/tree/manifest.h.
 */
int skv_head_read(skv_store *store, uint64_t file, uint64_t offset,
                  skv_err *err, skv_buf *bytes);
/* Write bytes at `offset` of manifest `file` and sync it. Caller holds HEAD. */
int skv_head_append(skv_store *store, uint64_t file, uint64_t offset,
                    const void *data, size_t size, skv_err *err);
/* Write a whole new manifest `file`, sync it and its name, and swap CURRENT to
 * it (durably). Caller holds HEAD. */
int skv_head_replace(skv_store *store, const uint8_t store_id[16],
                     uint64_t file, const void *data, size_t size,
                     skv_err *err);

/* ---- Small whole files (OWNERS) ---------------------------------------- */

/* Read a fixed-name file of at most `limit` bytes (CORRUPT if larger). */
int skv_store_read_file(skv_store *store, const char *name, size_t limit,
                        skv_err *err, skv_buf *bytes);
/* Replace it by temporary file, sync, rename, directory sync. */
int skv_store_write_file(skv_store *store, const char *name,
                         const skv_name *tmp, const void *data, size_t size,
                         skv_err *err);

#endif
