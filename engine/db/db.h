/*
 * The open store within one process: what all its handles share. Internal to
 * engine/db; each group of members is named with the file that owns it.
 *
 * LOCKS in this process, in order (a thread takes only what is further down):
 *   registry mutex   the environment's, registry.c
 *   flush_mutex      FLUSH of LOCK, one flush at a time
 *   compact_mutex    COMPACT of LOCK, one compaction at a time
 *   leadership       WRITE of LOCK: `leading` under commit_mutex, commit.c
 *   head_mutex       HEAD of LOCK, head.c
 *   pin_mutex        the slot's pinned log, state.c
 *   state_mutex      the pointer `state` and the list of logs, state.c
 *   commit_mutex     the queue of commits: held for moments only
 */
#ifndef SKV_DB_DB_H
#define SKV_DB_DB_H

#include "engine/db/shared.h"
#include "engine/mem/mem.h"
#include "engine/os/thread.h"
#include "engine/tree/compact.h"
#include "engine/tree/manifest.h"
#include "engine/tree/picker.h"
#include "engine/tree/version.h"
#include "engine/util/alloc.h"

#define SKV_MAX_UNFLUSHED 4 /* sealed logs before writers wait */
#define SKV_SLOW_RUNS 12    /* level-0 runs before writers are slowed */
#define SKV_STOP_RUNS 24    /* level-0 runs before writers wait */
/* A store's first log, and one after recovery: small, so that opening is
 * fast. */
#define SKV_FIRST_WAL (4u << 20)
#define SKV_LOG_RESERVE 128            /* kept free for ABORT and SEAL (L5) */
#define SKV_SYNC_BYTES (1u << 20)      /* `normal` syncs this often, */
#define SKV_SYNC_NS 100000000u         /* and this often */
#define SKV_WRITEBACK_BYTES (4u << 20) /* P16 */
#define SKV_KEEP_NS 50000000u    /* a kept WRITE lapses after this idle time */
#define SKV_YIELD_NS 10000000u   /* P14 */
#define SKV_GRACE_NS 2000000000u /* a forgotten prepare is undone after this */
#define SKV_DISK_RESERVE (4 * SKV_SEGMENT_BYTES) /* at most; see disk.c */
#define SKV_HEAD_ROLL (1u << 20) /* bytes of a manifest; db->head_roll */

typedef struct skv_db skv_db;
typedef struct skv_commit skv_commit;

/* An unflushed log with this process's index over it; counted. */
typedef struct skv_memlog {
  _Atomic uint32_t refs;
  skv_db *db;
  struct skv_memlog *next; /* db->logs, under state_mutex */
  uint64_t number;
  uint64_t start;       /* LSN of its first record */
  _Atomic uint64_t end; /* LSN where it ends; 0 while active. Stored before the
                           state that knows it is published; who has an older
                           one does not read that far */
  skv_log *log;
  skv_mem *mem;
  skv_wal_header header;
} skv_memlog;

/* Where a point lookup looks, in order (INV-5). */
typedef struct skv_source {
  skv_memlog *log; /* a log, or */
  skv_run *run;    /* a run */
} skv_source;

/* The version with its logs: what a snapshot is taken from. Immutable. */
typedef struct skv_state {
  _Atomic uint32_t refs;
  skv_db *db;
  skv_version *version;
  size_t log_count; /* as version->wals */
  skv_memlog **logs;
  size_t source_count; /* logs and level-0 runs by descending LSN, then the
                          levels that are not empty */
  skv_source *sources;
  struct skv_state *next_dead; /* db->dead, under state_mutex */
  struct skv_state *named; /* this is that one, with an INGEST's segments that
                              the head does not name (ingest.c); or NULL */
} skv_state;

/* The version that the head says. */
static inline const skv_version *skv_state_head(const skv_state *state) {
  return state->named ? state->named->version : state->version;
}

/* A state and how far to read in it. */
typedef struct skv_view {
  skv_state *state;
  uint64_t lsn; /* entries below are seen */
} skv_view;

typedef struct skv_counters {
  _Atomic uint64_t commits, syncs, wal_bytes, conflicts, busy;
  _Atomic uint64_t torn_tails;
  _Atomic uint64_t flushes, compactions, compact_bytes, stall_ns;
} skv_counters;

struct skv_db {
  skv_env *env;
  skv_store *store;
  stratakv_options options; /* process-wide ones count; base, owner unused */
  skv_tree tree;
  uint8_t store_id[16];
  uint32_t block_size;    /* of new segments */
  uint64_t segment_bytes; /* aimed at in new segments */
  bool is_private;        /* read-only replay of an unattached store (P7), */
  bool is_beside;         /* or of one that others may be writing */
  _Atomic bool is_gone;   /* its files were removed or replaced */
  bool env_owned;         /* a :memory: store: the environment goes with it */

  /* registry.c */
  skv_db *registry_next;
  unsigned handles;
  uint64_t device, inode;

  /* attach.c */
  skv_shared *shared; /* private: an anonymous copy */
  uint32_t slot;
  uint32_t incarnation;
  _Atomic uint64_t tmp_count; /* names of unnamed files */

  /* head.c, under head_mutex */
  skv_mutex head_mutex;
  skv_manifest_end head_end;
  uint64_t head_roll; /* a manifest this long is rewritten if its version is
                         much shorter */
  bool head_doubted;  /* the manifest may not be on the disk (after a fence):
                        the next edit makes a new one */
  _Atomic uint32_t last_table; /* greatest table id of db->state */
  _Atomic bool gc_again;       /* gc left what may be garbage a moment later */
  _Atomic uint64_t adopted;    /* skv_head_pos of db->state; any thread reads */
  skv_state *unnamed;          /* the last of skv_ingest_state, or NULL, */
  uint64_t unnamed_lsn;        /* and its INGEST */

  /* state.c, under state_mutex */
  skv_mutex state_mutex;
  skv_mutex pin_mutex;
  skv_state *state;
  skv_state *dead; /* states that the worker frees */
  skv_memlog *logs;
  uint64_t opening; /* log that is being mapped, for the pin; 0: none */

  /* commit.c, under commit_mutex */
  skv_mutex commit_mutex;
  bool leading;       /* someone has leadership */
  skv_cond lead_cond; /* it was given back */
  skv_commit *queue, **queue_end;
  size_t queued;     /* commits in it */
  size_t last_group; /* commits in the group before */
  bool gathering;    /* a leader waits on gather_cond for more */
  skv_cond gather_cond;
  void *prepared; /* the prepared transaction, if it leads */

  /* commit.c, write_lock.c: of the leader */
  bool write_held;        /* WRITE is locked by this process */
  uint64_t write_used;    /* env->now when commits were last seen to grow, */
  uint64_t write_commits; /* and their number then (worker.c) */
  skv_memlog *active;     /* log being written, one reference */
  skv_wal_place place;    /* where the next record goes */
  uint8_t last_type;      /* of the record before it; 0: none */
  uint64_t written_back;  /* offset up to which write-back was started */
  skv_buf record;         /* scratch */

  /* worker.c */
  skv_mutex work_mutex;
  skv_cond work_cond;
  skv_cond progress_cond;  /* a flush or compaction was published */
  uint64_t work_asked;     /* counts requests */
  uint64_t progress;       /* counts publications */
  uint64_t progress_asked; /* work_asked when it was last done inline */
  _Atomic bool stopping;   /* set under work_mutex, for those who wait */
  bool has_worker, has_syncer;
  skv_thread worker, syncer;
  skv_log *next_log; /* prepared for the next rotation, work_mutex */
  skv_name next_log_name;
  _Atomic uint64_t flush_full;  /* flushes that met a full disk */
  _Atomic uint32_t starving;    /* deletes that wait for space */
  _Atomic uint64_t idle_rounds; /* the worker found nothing to do */
  _Atomic uint32_t syncer_idle;
  _Atomic int sync_mode;   /* strictest of NORMAL and OFF that was asked for */
  _Atomic bool sync_asked; /* the syncer was woken for SKV_SYNC_BYTES */
  _Atomic uint64_t unsynced; /* bytes appended since the last sync */

  skv_mutex flush_mutex;
  skv_mutex compact_mutex;
  skv_counters counters;
};

/* ---- attach.c ---------------------------------------------------------- */
/* Attach to the store as one of its processes, creating or recovering it if
 * nobody else has it open; and leave it, cleanly if last. */
int skv_db_attach(skv_db *db, bool create, uint32_t timeout_ms, skv_err *err);
int skv_db_detach(skv_db *db, skv_err *err);
int skv_slot_claim(skv_db *db, skv_err *err); /* the first free one */
bool skv_slot_alive(skv_db *db, uint32_t slot);
void skv_db_next_name(void *db, skv_name *out); /* an unnamed file's name */
/* "pid 4711 (stratakvd)" of a slot, for messages. */
void skv_slot_describe(skv_db *db, uint32_t slot, char *text, size_t size);

/* ---- recover.c --------------------------------------------------------- */
/* Alone: make the state from the files (private: without writing any). */
int skv_db_create(skv_db *db, skv_err *err);
int skv_db_recover(skv_db *db, skv_err *err);
/* Whether log `number` of that store can be read and holds a record. */
bool skv_log_has_record(skv_store *store, uint64_t number,
                        const uint8_t store_id[16]);
/* A new log's file: made under the name tmp, then named and durable. */
int skv_log_begin(skv_store *store, const skv_name *tmp,
                  const skv_wal_header *header, uint64_t size, skv_err *err);

/* ---- head.c ------------------------------------------------------------ */
/* Read what others appended to the head, if anything; db->state follows. Only
 * head_mutex protects db->state from being freed: take references. */
int skv_head_follow(skv_db *db, skv_err *err);
/* Change the head (P3). build is called under HEAD with the newest version
 * and appends operations; it may be called again. */
typedef int (*skv_edit_build)(void *arg, const skv_version *version,
                              skv_buf *edit, skv_err *err);
int skv_head_edit(skv_db *db, skv_edit_build build, void *arg, skv_err *err);
int skv_head_lock(skv_db *db, skv_err *err); /* head_mutex and HEAD */
void skv_head_unlock(skv_db *db);
/* Under HEAD: make what a dead writer appended and did not publish ours. */
int skv_head_settle(skv_db *db, skv_err *err);
/* In a fenced store: that the log ends at `lsn` is said durably, for the next
 * one who opens it. Nothing is published. */
int skv_head_end_log(skv_db *db, uint64_t lsn, skv_err *err);
/* Give unnamed products numbers from *next on and describe them. */
int skv_head_name(skv_db *db, skv_products *products, uint32_t level,
                  uint64_t run, uint64_t ingest_lsn, uint64_t *next,
                  skv_buf *edit, skv_err *err);

/* ---- state.c ----------------------------------------------------------- */
/* Make the state of a version (taken over, whatever the result); publish one
 * (taken over); both at once. head_mutex held. */
int skv_state_make(skv_db *db, skv_version *version, skv_err *err,
                   skv_state **out);
void skv_state_publish(skv_db *db, skv_state *state);
int skv_state_install(skv_db *db, skv_version *version, skv_err *err);
skv_state *skv_state_ref(skv_db *db); /* the newest that this process has */
skv_state *skv_state_share(skv_state *state);
void skv_state_unref(skv_state *state);
void skv_state_bury(skv_db *db); /* free what nobody holds any more: worker */
/* P2: what is visible now. */
int skv_view_take(skv_db *db, skv_err *err, skv_view *out);
void skv_view_release(skv_view *view);
skv_memlog *skv_memlog_ref(skv_memlog *log);
void skv_memlog_unref(skv_memlog *log);
/* Offset in a log up to which a view at `lsn` reads it. */
uint64_t skv_memlog_limit(const skv_memlog *log, uint64_t lsn);
void skv_pin_update(skv_db *db); /* P1; without state_mutex */

/* ---- read.c ------------------------------------------------------------ */
typedef struct skv_found {
  bool found; /* an entry exists (perhaps a tombstone) */
  skv_entry entry;
  skv_seg_pin pin; /* keeps it; skv_found_release */
} skv_found;
/* Newest entry of an internal key in the view. min_lsn: sources that hold
 * nothing at or above it may be skipped (0: none). */
int skv_view_get(const skv_view *view, skv_slice key, uint64_t min_lsn,
                 skv_err *err, skv_found *found);
void skv_found_release(skv_db *db, skv_found *found);
/* The sources of a view as iterators, newest first, appended to list[]. */
int skv_view_iters(const skv_view *view, bool keys_only, skv_iter ***list,
                   size_t *count, size_t *capacity, skv_err *err);
int skv_iters_push(skv_iter ***list, size_t *count, size_t *capacity,
                   skv_iter *it, skv_err *err); /* closes it on failure */
void skv_iters_close(skv_iter **list, size_t count);

/* ---- write_lock.c ------------------------------------------------------ */
/* Take WRITE for the leader, finishing what a dead owner left. */
int skv_write_acquire(skv_db *db, uint64_t deadline, uint32_t waited_ms,
                      skv_err *err);
void skv_write_release(skv_db *db);
/* Give it back with the last record undecided: the next owner finishes it. */
void skv_write_abandon(skv_db *db);
/* Alone, in recovery: this is the log to write and where. last: type of the
 * record before that place. */
void skv_write_adopt_alone(skv_db *db, skv_memlog *log,
                           const skv_wal_place *place, uint8_t last);
/* After use: keep it, or give it to who asked. */
void skv_write_done(skv_db *db);
int skv_write_fence(skv_db *db, int rc); /* a sync failed; returns rc */
void skv_write_doubt(skv_db *db); /* reads verify what may not be durable */
int skv_write_fenced(skv_db *db, skv_err *err);
/* IOERR if the store's files were removed or replaced: looks, or as last seen. */
int skv_write_look(skv_db *db, skv_err *err);
int skv_write_gone(skv_db *db, skv_err *err);

/* ---- commit.c ---------------------------------------------------------- */
/* One commit in the queue; on its caller's stack. */
struct skv_commit {
  skv_slice batch;  /* entries */
  uint64_t entries; /* their number, about */
  uint8_t type;     /* SKV_RECORD_COMMIT; others take leadership alone */
  int sync;         /* STRATAKV_SYNC_* */
  int (*check)(skv_commit *commit, skv_db *db, skv_err *err); /* under WRITE,
                          with the log read to its tail; or NULL */
  void *check_arg;
  stratakv_result *result; /* filled by check on CONSTRAINT_CHECK; or NULL */
  int rc;                  /* outcome */
  uint64_t lsn;
  skv_err err;
  /* commit.c's own */
  skv_commit *next;
  bool done, appended;
  skv_commit *waiter; /* last of its list: the one that is waited for */
  skv_cond cond;
};
/* Commit a list; each has its own rc, lsn, err. */
void skv_commit_run(skv_db *db, skv_commit *list, size_t count,
                    uint32_t timeout_ms);
/* Leadership without a commit, for prepare, rotation and ingest. */
int skv_lead_begin(skv_db *db, uint32_t timeout_ms, skv_err *err);
void skv_lead_end(skv_db *db);
/* With leadership and WRITE: append a record; sync; publish. */
int skv_append(skv_db *db, uint8_t type, skv_slice payload, uint64_t entries,
               bool now_synced, skv_err *err, uint64_t *lsn);
int skv_append_sync(skv_db *db, skv_err *err);
void skv_append_publish(skv_db *db); /* visible = tail */
/* Make room for a record, rotating if needed; FULL if that would touch the disk
 * reserve (see skv_disk_admit_record). */
int skv_append_room(skv_db *db, uint8_t type, skv_slice payload,
                    uint64_t entries, skv_err *err);
/* Wait (without WRITE) while flush or compaction is behind. */
int skv_stall_wait(skv_db *db, uint64_t deadline, uint32_t timeout_ms,
                   skv_err *err);
bool skv_stall_now(skv_db *db);           /* whether commits wait now */
uint64_t skv_max_batch(const skv_db *db); /* bytes of a batch in the log */

/* ---- rotate.c ---------------------------------------------------------- */
/* Seal the active log and begin another of at least min_size bytes, with
 * further operations from `build` (NULL: none) in the same edit. */
int skv_rotate(skv_db *db, uint64_t min_size, skv_edit_build build, void *arg,
               skv_err *err);
/* Have the next log at hand, so that turning to it needs no space. */
int skv_rotate_ready(skv_db *db, skv_err *err);
/* The size of the log after one of `size` bytes. */
uint64_t skv_next_log_size(const skv_db *db, uint64_t size);
/* A new log's file, unnamed: recycled, or created. */
int skv_log_obtain(skv_db *db, uint64_t size, skv_err *err, skv_log **out,
                   skv_name *name);

/* ---- disk.c ------------------------------------------------------------ */
uint64_t skv_disk_spare(skv_db *db); /* free bytes that growth may take */
/* Whether `bytes` more may be taken: FULL, and noted for all processes, if the
 * reserve would be touched. */
int skv_disk_admit(skv_db *db, uint64_t bytes, skv_err *err);
/* The same for a record. One that only deletes is let in, unless it needs a log
 * whose space flush and compaction may need. */
int skv_disk_admit_record(skv_db *db, uint8_t type, skv_slice payload,
                          bool needs_log, skv_err *err);
/* A record that only deletes waits (without WRITE) until there is space for
 * another log, or nothing more is given back. */
void skv_disk_wait(skv_db *db, uint8_t type, skv_slice payload,
                   uint64_t deadline);
void skv_disk_note(skv_db *db, int rc); /* what a flush came to */
/* FULL if a flush of this process failed so since flush_full was `before`:
 * nobody need wait for it. */
int skv_disk_stuck(skv_db *db, uint64_t before, skv_err *err);
/* The size for a log: the one wanted, or less if space is short, but at least
 * `least`. */
uint64_t skv_disk_log_size(skv_db *db, uint64_t wanted, uint64_t least);
uint64_t skv_disk_segment_bytes(const skv_db *db, uint64_t wanted);
/* Whether there is space to carry a plan out beside flush, deletes and a merge
 * of two runs; else such a merge it must be. */
bool skv_disk_holds(skv_db *db, const skv_plan *plan);
/* Where the job's slices end, so that they fit what is free. */
void skv_disk_fit(skv_db *db, const skv_plan *plan, skv_job *job);
/* Whether a flushed log may stay, to be written over. */
bool skv_disk_keeps_log(skv_db *db);

/* ---- ingest.c ---------------------------------------------------------- */
/* Reserve file numbers for unnamed segments and describe them. */
int skv_ingest_encode(skv_db *db, const skv_products *products,
                      skv_buf *payload, skv_err *err);
bool skv_ingest_check(skv_slice payload); /* whether it decodes */
/* Its segments, and the number of the first; free products->list. */
int skv_ingest_read(skv_slice payload, skv_err *err, uint64_t *first,
                    skv_products *products);
/* Whether its segments are there, by either name: NOTFOUND names one that is
 * not. */
int skv_ingest_seek(skv_db *db, skv_slice payload, skv_err *err);
/* Publish an INGEST record's segments and rotate; idempotent. */
int skv_ingest_finish(skv_db *db, skv_slice payload, uint64_t lsn,
                      skv_err *err);
/* Finishing failed: visible all the same. Cannot fail. */
void skv_ingest_leave(skv_db *db, skv_slice payload, uint64_t lsn);
/* The INGEST that was left so and that `state` does not name; 0: none. */
uint64_t skv_ingest_unnamed(const skv_db *db, const skv_state *state);
/* `base` with its segments: what a view of that moment holds. */
int skv_ingest_state(skv_db *db, skv_state *base, uint64_t lsn, skv_err *err,
                     skv_state **out);
void skv_ingest_forget(skv_db *db); /* head_mutex held, or alone */

/* ---- flush.c, compaction.c, gc.c, worker.c ----------------------------- */
int skv_flush_oldest(skv_db *db, bool *did, skv_err *err);
/* Keep flushes from beginning, in all processes; false if one is under way. */
bool skv_flush_exclude(skv_db *db);
void skv_flush_admit(skv_db *db);
int skv_flush_all(skv_db *db, uint32_t timeout_ms, skv_err *err);
int skv_compact_step(skv_db *db, bool full, bool *did, skv_err *err);
int skv_gc(skv_db *db, skv_err *err);
/* Whether an unnamed file may still be wanted (P4). */
bool skv_creator_lives(skv_db *db, const skv_name *name);
void skv_gc_unnamed(skv_db *db, const skv_name *tmp); /* one of our own */
/* Remove the files of a job that came to nothing. */
void skv_products_discard(skv_db *db, skv_products *products);
void skv_picker_limits_of(const skv_db *db, const skv_version *version,
                          skv_picker_limits *limits);
void skv_work_ask(skv_db *db);
void skv_work_progress(skv_db *db); /* after a publication */
int skv_work_start(skv_db *db, skv_err *err);
void skv_work_stop(skv_db *db);
void skv_work_inline(skv_db *db); /* background=off: what a worker would do */
void skv_syncer_wake(skv_db *db);
void skv_sync_now(skv_db *db); /* what this process appended, without WRITE */
int skv_job_init(skv_db *db, skv_job *job);
int skv_prepared_expire(skv_db *db); /* txn.c: the worker's look at it */

#endif
