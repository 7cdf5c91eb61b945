/*
 * StrataKV: a log-structured key-value store that several processes use at
 * the same time. This is the whole C interface; the SQLite extension and the
 * HTTP daemon are written on it and on nothing else.
 *
 * WORDS  A store is a directory. It holds tables, which are separate key
 *   spaces. An entry is a key, a value and the version that committed it. The
 *   version is the entry's LSN, its commit's position in the store's log.
 *
 * RESULTS  Functions that can fail return a code of STRATAKV_*, numerically
 *   SQLite's, and fill *err (which may be NULL) when it is not STRATAKV_OK.
 *   On failure an output object is NULL and nothing was changed, unless the
 *   function says otherwise. Any function may return NOMEM, IOERR, CORRUPT
 *   and MISUSE (a handle carried across fork, or a NULL one).
 *
 *   A table id that the store does not have is ERROR.
 *
 * THREADS  A stratakv_store may be used by any number of threads at once. A
 *   cursor, transaction or batch is used by one thread at a time; a snapshot
 *   by any number. Everything opened from a store is closed before it.
 *
 * BYTES  Keys and values are bytes; keys are ordered by memcmp, a prefix
 *   before what it is a prefix of. Lengths are in bytes. Inputs are copied.
 */
#ifndef STRATAKV_H
#define STRATAKV_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STRATAKV_VERSION "0.1.0"

/* Marks what the shared library exports; the extension hides all of it. */
#if defined(__GNUC__)
#define STRATAKV_API __attribute__((visibility("default")))
#else
#define STRATAKV_API
#endif

/* ---- Codes ------------------------------------------------------------- */

#define STRATAKV_OK 0
#define STRATAKV_ERROR 1       /* bad option or argument; see the message */
#define STRATAKV_BUSY 5        /* waited busy_timeout; call again */
#define STRATAKV_NOMEM 7       /* out of memory; the store is as it was */
#define STRATAKV_READONLY 8    /* opened read-only, or fenced */
#define STRATAKV_INTERRUPT 9   /* a progress callback said stop */
#define STRATAKV_IOERR 10      /* a system call failed; see the message */
#define STRATAKV_CORRUPT 11    /* damaged file, named with its offset */
#define STRATAKV_NOTFOUND 12   /* no such key (no message) or table */
#define STRATAKV_FULL 13       /* disk full; reads go on */
#define STRATAKV_CANTOPEN 14   /* no store there, or not a store's directory */
#define STRATAKV_TOOBIG 18     /* key or value over its limit */
#define STRATAKV_CONSTRAINT 19 /* a table of that name with other key type */
#define STRATAKV_MISUSE 21     /* wrong use of a handle */
#define STRATAKV_AUTH 23       /* OWNERS or the path rules refuse */
#define STRATAKV_NOTADB 26     /* foreign bytes, or a newer format */
#define STRATAKV_CONSTRAINT_CHECK 275 /* a batch condition does not hold */
#define STRATAKV_BUSY_SNAPSHOT 517    /* conflict: run the transaction again */
#define STRATAKV_IOERR_FSYNC 1034 /* a sync failed: outcome unknown, fenced */

/* What went wrong, in words for a person. Owned by the caller. */
typedef struct stratakv_error {
  int code;          /* the code that the function returned */
  char message[500]; /* UTF-8, no final full stop, never empty on failure */
} stratakv_error;

/* ---- Limits ------------------------------------------------------------ */

#define STRATAKV_MAX_KEY 65535u                  /* bytes of one key */
#define STRATAKV_MAX_VALUE (1024u * 1024 * 1024) /* bytes of one value */
#define STRATAKV_MAX_TABLES 65535u               /* tables of one store */
#define STRATAKV_MAX_TABLE_NAME 64u              /* bytes of a table's name */

/* ---- Opening ----------------------------------------------------------- */

typedef struct stratakv_store stratakv_store;

/* When a commit is acknowledged (option sync). A prefix of the commits
 * survives in every mode; all of them survive the death of any process. */
#define STRATAKV_SYNC_FULL 0   /* after fdatasync: survives a power cut */
#define STRATAKV_SYNC_NORMAL 1 /* synced within 100 ms or 1 MiB */
#define STRATAKV_SYNC_OFF 2    /* when the system gets to it */

#define STRATAKV_COMPRESSION_NONE 0
#define STRATAKV_COMPRESSION_LZ4 1
#define STRATAKV_COMPRESSION_ZSTD 2

/* How options.owner is used; see stratakv_options. */
#define STRATAKV_OWNER_NONE 0    /* not at all */
#define STRATAKV_OWNER_REQUIRE 1 /* AUTH unless OWNERS lists it */
#define STRATAKV_OWNER_ADD 2     /* list it, if not listed */

/*
 * Options of stratakv_open. Always start from stratakv_options_init; members
 * may be added. "Process" options belong to the store within this process:
 * the first handle's wish wins, the others' are shown by stratakv_stats.
 */
typedef struct stratakv_options {
  int create;               /* 1: create a missing store (default 0) */
  int read_only;            /* 1: no write through this handle (default 0) */
  int sync;                 /* STRATAKV_SYNC_*, this handle's (default FULL) */
  uint32_t busy_timeout_ms; /* 0..600000, this handle's (default 5000) */
  uint64_t memory;  /* process: bytes of anonymous memory for indexes, caches
                       and buffers, 4 MiB..64 GiB (default 32 MiB) */
  int compression;  /* STRATAKV_COMPRESSION_* of new segments (default LZ4) */
  int filter_bits;  /* 0..20 filter bits per key of new segments (default 10) */
  int background;   /* process: 0 does flush and compaction inside the commit
                       that needs them, and syncs "normal" at the next commit
                       or close (default 1) */
  int mmap;         /* process: 0 reads segments with pread (default 1) */
  const char *base; /* NULL, or a directory beneath which a relative path is
                       resolved, without symlinks and never leaving it: AUTH
                       otherwise. An absolute path is taken as it is. */
  const char *owner; /* NULL, or the path of the database file that names this
                        store; used as owner_mode says */
  int owner_mode;    /* STRATAKV_OWNER_*; the file OWNERS in the store lists
                        the database files that may open it unasked */
  uint64_t wal_size; /* process: bytes of one WAL file, 64 KiB..1 GiB
                        (default 64 MiB) */
} stratakv_options;

/* Fill in the defaults. */
STRATAKV_API void stratakv_options_init(stratakv_options *options);

/*
 * Open the store in directory `path`, recovering it if its last user died.
 * options may be NULL for the defaults. With create, the last component of
 * the path is made (mode 0700), nothing above it; an empty directory is
 * adopted, any other that is not a store is CANTOPEN. Files are 0600, and the
 * group's as far as the directory is; never open to others.
 *
 * Several opens of one directory in one process share one store underneath.
 *
 * CANTOPEN  no store at path (create not given), or foreign directory
 * NOTADB    not our files, or written by a newer format
 * CORRUPT   damage that recovery may not skip; the file is named
 * BUSY      another process was recovering it for busy_timeout
 * AUTH      base or owner rules
 */
STRATAKV_API int stratakv_open(const char *path,
                               const stratakv_options *options,
                               stratakv_error *err, stratakv_store **out);

/*
 * Close a handle; NULL is allowed. The last handle of the last process syncs
 * the log and marks the store clean. MISUSE, with nothing done, while a
 * cursor, snapshot or transaction of this handle is open. Another code is a
 * warning: the handle is gone all the same.
 */
STRATAKV_API int stratakv_close(stratakv_store *store, stratakv_error *err);

/* Change this handle's sync mode or busy timeout. ERROR if out of range. */
STRATAKV_API int stratakv_set_sync(stratakv_store *store, int sync);
STRATAKV_API int stratakv_set_busy_timeout(stratakv_store *store, uint32_t ms);

/* The store's canonical directory; valid while the handle is open. */
STRATAKV_API const char *stratakv_path(const stratakv_store *store);

/* ---- Tables ------------------------------------------------------------ */

/* A table's key type. The engine only records it: keys are bytes to it. */
#define STRATAKV_KEY_TEXT 1
#define STRATAKV_KEY_BLOB 2
#define STRATAKV_KEY_INT 3

typedef struct stratakv_table_info {
  uint32_t id;  /* what the functions below take as `table`, 1..65535 */
  int key_type; /* STRATAKV_KEY_* */
  char name[STRATAKV_MAX_TABLE_NAME + 1];
} stratakv_table_info;

/*
 * Find table `name`, or create it durably if create is not 0. A name is
 * [A-Za-z_][A-Za-z0-9_]{0,63}, ERROR otherwise. key_type 0 takes whatever it
 * has (TEXT when created).
 *
 * NOTFOUND    no such table, create 0
 * CONSTRAINT  it exists with another key type (*out is filled)
 * FULL        65,535 tables exist
 */
STRATAKV_API int stratakv_table(stratakv_store *store, const char *name,
                                int key_type, int create, stratakv_error *err,
                                stratakv_table_info *out);

/* Copy up to `capacity` table descriptions in id order; *count is how many
 * there are. */
STRATAKV_API int stratakv_tables(stratakv_store *store,
                                 stratakv_table_info *out, size_t capacity,
                                 stratakv_error *err, size_t *count);

/* ---- Snapshots and single reads ---------------------------------------- */

typedef struct stratakv_snapshot stratakv_snapshot;

/* The state after the newest commit that is visible now, in any process.
 * It keeps the files that it needs until it is closed. */
STRATAKV_API int stratakv_snapshot_open(stratakv_store *store,
                                        stratakv_error *err,
                                        stratakv_snapshot **out);
STRATAKV_API void stratakv_snapshot_close(stratakv_snapshot *snapshot);
/* The snapshot's place in the log: it holds every version below it. */
STRATAKV_API uint64_t stratakv_snapshot_lsn(const stratakv_snapshot *snapshot);

/*
 * A value read. Start from all zeros, reuse it for any number of reads (its
 * memory grows and is kept), and end with stratakv_value_clear.
 */
typedef struct stratakv_value {
  void *data;       /* the bytes; valid until the next use of this object */
  size_t size;      /* their number */
  uint64_t version; /* LSN of the commit that wrote it; 0 if the running
                       transaction did */
  size_t capacity;  /* bytes allocated; not yours to change */
} stratakv_value;

STRATAKV_API void stratakv_value_clear(stratakv_value *value);

/*
 * Read one key, from `snapshot` or, when that is NULL, from the newest
 * state. NOTFOUND if it is not there. value may be NULL: existence only.
 */
STRATAKV_API int stratakv_get(stratakv_store *store,
                              const stratakv_snapshot *snapshot, uint32_t table,
                              const void *key, size_t key_len,
                              stratakv_error *err, stratakv_value *value);

/* ---- Writing ----------------------------------------------------------- */

/* Write or remove one key in a commit of its own, blindly (no conflict).
 * Removing an absent key succeeds. *lsn may be NULL. Codes as
 * stratakv_commit, without BUSY_SNAPSHOT. */
STRATAKV_API int stratakv_put(stratakv_store *store, uint32_t table,
                              const void *key, size_t key_len,
                              const void *value, size_t value_len,
                              stratakv_error *err, uint64_t *lsn);
STRATAKV_API int stratakv_delete(stratakv_store *store, uint32_t table,
                                 const void *key, size_t key_len,
                                 stratakv_error *err, uint64_t *lsn);

/* A list of changes that is committed in one step. */
typedef struct stratakv_batch stratakv_batch;

STRATAKV_API stratakv_batch *stratakv_batch_new(void); /* NULL: no memory */
STRATAKV_API void stratakv_batch_free(stratakv_batch *batch);
STRATAKV_API void stratakv_batch_clear(stratakv_batch *batch);
/* Add a change. After a failure the batch keeps that code, and a write of it
 * returns it; clear starts over. A later change of a key wins. */
STRATAKV_API int stratakv_batch_put(stratakv_batch *batch, uint32_t table,
                                    const void *key, size_t key_len,
                                    const void *value, size_t value_len);
STRATAKV_API int stratakv_batch_delete(stratakv_batch *batch, uint32_t table,
                                       const void *key, size_t key_len);

#define STRATAKV_IF_ABSENT 1  /* the key is not there */
#define STRATAKV_IF_PRESENT 2 /* the key is there */
#define STRATAKV_IF_VERSION 3 /* the key is there, at this version */

/* Add a condition on the state before the batch, checked at the moment of
 * the commit. Conditions are numbered from 0 in the order they are added. */
STRATAKV_API int stratakv_batch_require(stratakv_batch *batch, uint32_t table,
                                        const void *key, size_t key_len,
                                        int condition, uint64_t version);

/* What became of one batch. */
typedef struct stratakv_result {
  int code;         /* OK, CONSTRAINT_CHECK, or as stratakv_commit */
  uint64_t lsn;     /* OK: its commit's LSN; 0 for an empty batch */
  uint32_t failed;  /* CONSTRAINT_CHECK: which condition, from 0 */
  uint64_t version; /* CONSTRAINT_CHECK: the key's version, 0 if absent */
} stratakv_result;

/*
 * Commit batches in order, each on its own, sharing log appends and the sync.
 * Returns the first code of results[] that is not OK or CONSTRAINT_CHECK (err
 * belongs to it), or OK. A batch that fails does not stop the next. When
 * nothing could be tried (READONLY, NOMEM, MISUSE) each result has that code.
 * results may be NULL when count is 1; the batch's code is then returned.
 */
STRATAKV_API int stratakv_write(stratakv_store *store,
                                stratakv_batch *const *batches, size_t count,
                                stratakv_error *err, stratakv_result *results);

/* ---- Transactions ------------------------------------------------------ */

typedef struct stratakv_txn stratakv_txn;

/* Begin: takes a snapshot and no lock. */
STRATAKV_API int stratakv_begin(stratakv_store *store, stratakv_error *err,
                                stratakv_txn **out);

/* What the caller saw of a key before changing it. 0 is a blind change, which
 * never conflicts; the others make the commit fail with BUSY_SNAPSHOT if
 * someone changed the key since the transaction began. */
#define STRATAKV_BLIND 0
#define STRATAKV_SAW_ABSENT 1
#define STRATAKV_SAW_PRESENT 2

/* Change a key within the transaction. Its size is bounded by the disk, not
 * by memory: what outgrows a share of `memory` goes to files. If the
 * transaction is prepared, this undoes the prepare first. */
STRATAKV_API int stratakv_txn_put(stratakv_txn *txn, uint32_t table,
                                  const void *key, size_t key_len,
                                  const void *value, size_t value_len, int saw,
                                  stratakv_error *err);
STRATAKV_API int stratakv_txn_delete(stratakv_txn *txn, uint32_t table,
                                     const void *key, size_t key_len, int saw,
                                     stratakv_error *err);
/* Read a key as the transaction sees it: its own changes over its snapshot.
 * value->version is 0 for its own changes. value may be NULL. */
STRATAKV_API int stratakv_txn_get(stratakv_txn *txn, uint32_t table,
                                  const void *key, size_t key_len,
                                  stratakv_error *err, stratakv_value *value);

/* Mark this point of the transaction; *mark names it. Marks grow. */
STRATAKV_API int stratakv_savepoint(stratakv_txn *txn, stratakv_error *err,
                                    uint64_t *mark);
/* Undo every change after the mark, which stays; later marks are forgotten.
 * Mark 0 is the start of the transaction and always exists. */
STRATAKV_API int stratakv_rollback_to(stratakv_txn *txn, uint64_t mark,
                                      stratakv_error *err);
/* Forget this mark and the later ones, keeping the changes. */
STRATAKV_API void stratakv_release(stratakv_txn *txn, uint64_t mark);

/*
 * Do everything of the commit that can fail. While a transaction is
 * prepared it holds the store's WRITE lock: commit or roll back at once.
 * After OK, stratakv_commit cannot fail. Codes as stratakv_commit; the
 * transaction stays open with any of them.
 */
STRATAKV_API int stratakv_prepare(stratakv_txn *txn, stratakv_error *err);

/*
 * Let a background thread undo a prepare that its owner left alone for 2 s, so
 * that others can go on; the next prepare or commit prepares again. enter(arg)
 * is called by that thread and must say, without waiting, whether the owner is
 * outside prepare and commit and is now kept out (not 0); leave(arg) lets it
 * in again. Without a guard a prepared transaction waits for its owner for
 * ever. Needs background=1.
 */
STRATAKV_API void stratakv_txn_guard(stratakv_txn *txn, int (*enter)(void *),
                                     void (*leave)(void *), void *arg);

/*
 * Commit: all changes become visible in one step, and txn is freed if the
 * code is OK or IOERR_FSYNC. *lsn, which may be NULL, is the version of
 * every entry written (0 if nothing was).
 *
 * BUSY_SNAPSHOT  a key that it looked at changed since it began. Nothing
 *                applied; roll back and run it again.
 * BUSY           the WRITE lock stayed taken for busy_timeout, or writes are
 *                stalled. Nothing applied; call again or roll back.
 * FULL           no space. Nothing applied; call again later.
 * IOERR_FSYNC    unknown until the store is opened again; until then it is
 *                read-only for every process (READONLY).
 */
STRATAKV_API int stratakv_commit(stratakv_txn *txn, stratakv_error *err,
                                 uint64_t *lsn);
/*
 * Undo everything and free txn; NULL is allowed. Cursors opened on it stay
 * valid and go on showing what they saw. OK, but for a transaction that is or
 * was prepared:
 *
 * IOERR_FSYNC    undoing it could not be made durable; whether it is applied
 *                is unknown until the store is opened again. Until then nobody
 *                sees it, and the store is read-only for every process.
 */
STRATAKV_API int stratakv_rollback(stratakv_txn *txn);

/* ---- Cursors ----------------------------------------------------------- */

typedef struct stratakv_cursor stratakv_cursor;

/* Where and what a cursor reads. Zero the struct and fill in what is
 * wanted. */
typedef struct stratakv_range {
  const void *start; /* first key, inclusive; NULL: from the first */
  size_t start_len;
  const void *end; /* end, exclusive; NULL: to the last */
  size_t end_len;
  int keys_only; /* 1: values are not read; cursor_value gives size 0 */
  int (*poll)(void *poll_arg); /* NULL, or called every 1,000 entries skipped
                       inside one call; not 0 ends the call with INTERRUPT */
  void *poll_arg;
} stratakv_range;

/*
 * Open a cursor on `table`: over `txn` (its snapshot and its changes up to
 * this moment) if not NULL, else over `snapshot` if not NULL, else over the
 * newest state. What it shows never changes. It is not positioned. The range
 * is copied.
 */
STRATAKV_API int stratakv_cursor_open(stratakv_store *store,
                                      const stratakv_snapshot *snapshot,
                                      stratakv_txn *txn, uint32_t table,
                                      const stratakv_range *range,
                                      stratakv_error *err,
                                      stratakv_cursor **out);
STRATAKV_API void stratakv_cursor_close(stratakv_cursor *cursor);

/* Move. Past either end the cursor is not valid and the code is OK. `seek`
 * goes to the first key >= key, `seek_back` to the last key <= key, both
 * within the range. */
STRATAKV_API int stratakv_cursor_first(stratakv_cursor *c, stratakv_error *err);
STRATAKV_API int stratakv_cursor_last(stratakv_cursor *c, stratakv_error *err);
STRATAKV_API int stratakv_cursor_seek(stratakv_cursor *c, const void *key,
                                      size_t key_len, stratakv_error *err);
STRATAKV_API int stratakv_cursor_seek_back(stratakv_cursor *c, const void *key,
                                           size_t key_len, stratakv_error *err);
STRATAKV_API int stratakv_cursor_next(stratakv_cursor *c, stratakv_error *err);
STRATAKV_API int stratakv_cursor_prev(stratakv_cursor *c, stratakv_error *err);

/* Where it is. Pointers are valid until the cursor moves or closes. */
STRATAKV_API int stratakv_cursor_valid(const stratakv_cursor *c);
STRATAKV_API const void *stratakv_cursor_key(const stratakv_cursor *c,
                                             size_t *len);
STRATAKV_API const void *stratakv_cursor_value(const stratakv_cursor *c,
                                               size_t *len);
/* LSN of the entry's commit, 0 if the running transaction wrote it. */
STRATAKV_API uint64_t stratakv_cursor_version(const stratakv_cursor *c);

/* ---- Maintenance ------------------------------------------------------- */

/* Write everything committed before the call to segments. */
STRATAKV_API int stratakv_flush(stratakv_store *store, stratakv_error *err);

/* Told now and then during a long call, by the calling thread: 0..1 done. Not 0
 * cancels it with INTERRUPT. This and the other functions that are called
 * during a call (stratakv_stat, _report, _line) may read the store, its
 * snapshots and cursors among it; what writes, maintains or closes it may have
 * to wait for what the call holds, and is not for them. */
typedef int (*stratakv_progress)(void *arg, double done);

/* Flush, and merge all segments to the bottom level, dropping every dead
 * entry. Readers and writers go on. progress may be NULL; if it cancels, what
 * is finished stays. */
STRATAKV_API int stratakv_compact(stratakv_store *store,
                                  stratakv_progress progress, void *arg,
                                  stratakv_error *err);

/* Called for each figure, in a fixed order: its name, unit
 * ("bytes", "seconds", "count", "bool"), and a sentence of help. Not 0 ends
 * the listing. */
typedef int (*stratakv_stat)(void *arg, const char *name, double value,
                             const char *unit, const char *help);
STRATAKV_API int stratakv_stats(stratakv_store *store, stratakv_stat stat,
                                void *arg, stratakv_error *err);

/* Estimate of what lies in [start, end) of a table, from the segments'
 * indexes and the logs' size, no data read. start or end NULL is open. */
STRATAKV_API int stratakv_estimate(stratakv_store *store, uint32_t table,
                                   const void *start, size_t start_len,
                                   const void *end, size_t end_len,
                                   stratakv_error *err, uint64_t *entries,
                                   uint64_t *bytes);

/* ---- Check, backup, salvage -------------------------------------------- */

/* How bad a finding is. */
#define STRATAKV_NOTE 1   /* nothing is lost: a torn tail, a leftover file */
#define STRATAKV_DAMAGE 2 /* bytes are wrong, or entries lost */

/* One thing that check or salvage found. Its texts are borrowed. */
typedef struct stratakv_finding {
  const char *file; /* its name within the store */
  uint64_t offset;  /* byte in it; UINT64_MAX: the file as a whole */
  int severity;     /* STRATAKV_NOTE or STRATAKV_DAMAGE */
  const char *message;
} stratakv_finding;

/* Told of each finding, by the calling thread. Not 0 ends the call with
 * INTERRUPT. */
typedef int (*stratakv_report)(void *arg, const stratakv_finding *finding);

/* What to tell whom during a long call: all zero for nobody. */
typedef struct stratakv_watch {
  stratakv_report report;     /* NULL, or told of findings */
  stratakv_progress progress; /* NULL, or told how far it is */
  void *arg;                  /* of both */
} stratakv_watch;

/*
 * Read the whole store as it is now, from the files: CURRENT, the manifest
 * from its beginning, every record of the unflushed logs, every block of every
 * segment, and whether what they say of each other is true (order of keys,
 * sizes, numbers of entries, LSNs, search order). Goes on behind damage.
 * Readers and writers go on meanwhile.
 *
 * watch may be NULL. CORRUPT, with the first of them, if there was DAMAGE;
 * INTERRUPT and NOMEM end it early, whatever was found.
 */
STRATAKV_API int stratakv_check(stratakv_store *store,
                                const stratakv_watch *watch,
                                stratakv_error *err);

/*
 * Make a copy of the store in directory `path`, which must be absent (its last
 * component is made) or empty: the state after the newest commit that was
 * visible at some moment of the call. Writers go on. Segments are hard links
 * where the file system allows, else copies; they are checked neither way. The
 * copy is a store with an id of its own, durable at return, and opened like
 * any other; OWNERS is not copied. base as in stratakv_options, or NULL.
 *
 * *lsn, which may be NULL: the copy holds every version below it. On failure,
 * nothing that could be taken for a store is at path, and what was made there
 * is removed if it can be. If the process dies, what it had made stays, and is
 * refused at opening: CANTOPEN while it holds nothing, else CORRUPT, as a store
 * without CURRENT is. Remove it.
 *
 * CANTOPEN   path is not empty, cannot be made, or lies within the store
 * FULL       no space at path
 * INTERRUPT  progress said stop; as after any failure, nothing stays
 */
STRATAKV_API int stratakv_backup(stratakv_store *store, const char *base,
                                 const char *path, const stratakv_watch *watch,
                                 stratakv_error *err, uint64_t *lsn);

/* What stratakv_salvage kept. */
typedef struct stratakv_salvaged {
  uint64_t entries; /* in the new store, over all tables */
  uint64_t tables;
  uint64_t findings; /* with severity DAMAGE */
} stratakv_salvaged;

/*
 * Make a new store at `to` (absent or empty) of what verifies in the directory
 * `from`, however damaged: blocks and records whose checksums hold, each key
 * at its newest LSN. `from` is only read, and must be open nowhere (BUSY). A
 * lost manifest costs the tables' names (they are called table_ID) and may
 * bring back deleted entries; whatever is lost or doubtful is reported. OK if
 * a store was made, whatever was lost; out may be NULL.
 *
 * CANTOPEN   nothing of a store is at `from`, or `to` is not empty, cannot be
 *            made, or lies within `from`
 * NOTADB     a newer format wrote it
 * FULL       no space at `to`
 * INTERRUPT  a callback said stop; as after any failure, nothing stays at `to`
 */
STRATAKV_API int stratakv_salvage(const char *from, const char *to,
                                  const stratakv_watch *watch,
                                  stratakv_error *err, stratakv_salvaged *out);

/* One line of text, without its end. Not 0 ends the call with INTERRUPT. */
typedef int (*stratakv_line)(void *arg, const char *line);

/*
 * Describe one file of a store, record by record (a log), edit by edit (a
 * manifest), block by block (a segment), or CURRENT, SHARED, OWNERS: for
 * people; the lines' form may change. With `entries` not 0 each entry of a log
 * or segment has a line. Reads only; the store may be in use. line may be NULL.
 *
 * CORRUPT   something is damaged; the lines that could be made were made
 * CANTOPEN  there is no such file
 */
STRATAKV_API int stratakv_inspect(const char *file, int entries,
                                  stratakv_line line, void *arg,
                                  stratakv_error *err);

/* ---- Typed keys and values: what SQL and HTTP store -------------------- */

/* A value's class; numerically SQLite's type codes. Stored as one tag byte
 * with this number, then: INTEGER 8 bytes big-endian two's complement, REAL 8
 * bytes big-endian IEEE 754, TEXT UTF-8, BLOB bytes, NULL nothing. */
#define STRATAKV_INTEGER 1
#define STRATAKV_REAL 2
#define STRATAKV_TEXT 3
#define STRATAKV_BLOB 4
#define STRATAKV_NULL 5

typedef struct stratakv_typed {
  int type;         /* STRATAKV_INTEGER .. STRATAKV_NULL */
  int64_t integer;  /* INTEGER */
  double real;      /* REAL */
  const void *data; /* TEXT, BLOB: borrowed */
  size_t size;      /* their bytes */
} stratakv_typed;

/* Decode stored bytes; *out borrows from them. CORRUPT if they are no typed
 * value (written by C code of another opinion). */
STRATAKV_API int stratakv_typed_decode(const void *bytes, size_t len,
                                       stratakv_typed *out);
/* Write tag and number into head (at least 9 bytes) and return how many; for
 * TEXT and BLOB that is 1 and the data follows unchanged. */
STRATAKV_API size_t stratakv_typed_head(const stratakv_typed *value,
                                        uint8_t head[9]);
/* An int key: 8 bytes big-endian with the sign bit flipped, so that memcmp
 * orders them. */
STRATAKV_API void stratakv_int_key(int64_t value, uint8_t key[8]);
STRATAKV_API int64_t stratakv_int_key_value(const uint8_t key[8]);

#ifdef __cplusplus
}
#endif
#endif /* STRATAKV_H */
