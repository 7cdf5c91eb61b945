/*
 * The public handle: one stratakv_open, with its own options, on the store
 * that the process shares.
 */
#ifndef SKV_DB_HANDLE_H
#define SKV_DB_HANDLE_H

#include "engine/db/db.h"

struct stratakv_store {
  skv_db *db;
  uint32_t fork_generation; /* of the process that opened it */
  uint32_t pid;             /* of that process, for the message */
  bool read_only;
  _Atomic int sync;            /* STRATAKV_SYNC_* */
  _Atomic uint32_t timeout_ms; /* busy timeout */
  _Atomic uint32_t children;   /* open cursors, snapshots, transactions */
};

/* MISUSE for NULL and across fork. Every public function calls it first. */
int skv_handle_check(const stratakv_store *store, skv_err *err);
/* The same, and READONLY for a read-only one. */
int skv_handle_check_write(const stratakv_store *store, skv_err *err);
/* ERROR or TOOBIG for what is not a table id, key or value. */
int skv_check_key(uint32_t table, const void *key, size_t key_len,
                  skv_err *err);
/* ERROR if the store has no table with this id. */
int skv_check_table(const stratakv_store *store, uint32_t table, skv_err *err);
int skv_check_value(const void *value, size_t value_len, skv_err *err);

/* An internal key in `buf` (cleared by the caller); sticky as skv_buf. */
skv_slice skv_make_key(skv_buf *buf, uint32_t table, skv_slice user_key);
/* The same without allocating when it fits `space`. */
skv_slice skv_make_key_in(uint8_t *space, size_t size, skv_buf *buf,
                          uint32_t table, skv_slice user_key);
/* Copy an entry into a caller's value object. */
int skv_value_set(stratakv_value *value, skv_slice bytes, uint64_t version,
                  skv_err *err);

struct stratakv_snapshot {
  stratakv_store *store;
  skv_view view;
};

/* stratakv_open in another environment than the real one: for tests, where an
 * environment is a process. */
int skv_open_in(skv_env *env, const char *path, const stratakv_options *options,
                skv_err *err, stratakv_store **out);

/* registry.c */
int skv_registry_open(skv_env *env, const char *path,
                      const stratakv_options *options, skv_err *err,
                      skv_db **out);
int skv_registry_close(skv_db *db, skv_err *err);

/*
 * owners.c
 *
 * FILE  Text. Line 1: "stratakv-owners 1 CHECKSUM", 16 hexadecimal digits of
 *   the checksum (seed 0) of everything behind that line. Then one
 *   percent-encoded path a line: relative to the store's directory if the
 *   database lies beneath the same parent, else canonical. At most 64 KiB.
 *   Replaced as a whole. Damage is AUTH: nobody is listed.
 */
/* AUTH if there is one and it is damaged. */
int skv_owners_check(skv_db *db, skv_err *err);
int skv_owners_apply(skv_db *db, const stratakv_options *options, skv_err *err);
/* The part of it that refuses: before anything in the directory is changed. */
int skv_owners_require(skv_store *store, const stratakv_options *options,
                       skv_err *err);

#endif
